//! NATS servers as processes.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Servers that make one cluster, or one alone.
pub(crate) struct Servers {
    folder: TempDir,
    servers: Vec<Server>,
}

struct Server {
    name: String,
    /// Host and port for clients, the monitoring page and the other servers.
    client: String,
    monitor: String,
    route: String,
    child: Child,
}

impl Servers {
    /// One server. None where it cannot be had.
    pub(crate) fn alone() -> Option<Self> {
        Self::start(1, "always", "")
    }

    /// Three servers. None where they cannot be had.
    pub(crate) fn three() -> Option<Self> {
        Self::start(3, "always", "")
    }

    /// One server that acknowledges before it syncs.
    pub(crate) fn careless() -> Option<Self> {
        Self::start(1, "2m", "")
    }

    /// One server with this in its configuration.
    pub(crate) fn with(more: &str) -> Option<Self> {
        Self::start(1, "always", more)
    }

    /// A port that was free may be taken by another test before its server has it, so that all begin again.
    fn start(count: usize, sync: &str, more: &str) -> Option<Self> {
        let program = program()?;
        (0..5).find_map(|_| Self::try_start(program, count, sync, more)).or_else(|| panic!("no server starts"))
    }

    fn try_start(program: &Path, count: usize, sync: &str, more: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        // A server must know the others' ports before they have started.
        let routes: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let routes: Vec<_> = routes.into_iter().map(|socket| socket.local_addr().unwrap().to_string()).collect();
        let mut servers = Vec::new();
        for (number, route) in routes.iter().enumerate() {
            let name = format!("n{number}");
            let others = routes.iter().map(|route| format!("\"nats://{route}\"")).collect::<Vec<_>>().join(", ");
            let cluster = match count {
                1 => String::new(),
                _ => format!("cluster {{ name: quip, listen: \"{route}\", routes: [{others}] }}"),
            };
            let home = folder.path().join(&name);
            fs::create_dir(&home).unwrap();
            let common = format!(
                "server_name: {name}\nports_file_dir: {home:?}\n{cluster}\n{more}\n\
                 jetstream {{ store_dir: {home:?}, sync_interval: {sync} }}\n"
            );
            fs::write(home.join("common.conf"), common).unwrap();
            let (client, monitor) = ("127.0.0.1:-1".to_owned(), "127.0.0.1:-1".to_owned());
            let child = spawn(program, &home, &client, &monitor);
            servers.push(Server { name, client, monitor, route: route.clone(), child });
        }
        let mut all = Self { folder, servers };
        for server in &mut all.servers {
            (server.client, server.monitor) = ports(&all.folder.path().join(&server.name), &mut server.child)?;
        }
        Some(all)
    }

    pub(crate) fn replicas(&self) -> usize {
        self.servers.len()
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.servers.iter().map(|server| format!("nats://{}", server.client)).collect()
    }

    pub(crate) fn monitors(&self) -> Vec<String> {
        self.servers.iter().map(|server| format!("http://{}", server.monitor)).collect()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, number: usize) {
        let server = &mut self.servers[number];
        server.child.kill().unwrap();
        server.child.wait().unwrap();
    }

    /// Stops or continues it, with all its connections.
    pub(crate) fn signal(&self, number: usize, signal: &str) {
        let pid = self.servers[number].child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Starts it again on the ports that it had.
    pub(crate) fn restart(&mut self, number: usize) {
        let server = &mut self.servers[number];
        let home = self.folder.path().join(&server.name);
        let start = Instant::now();
        loop {
            server.child = spawn(program().unwrap(), &home, &server.client, &server.monitor);
            if ports(&home, &mut server.child).is_some() {
                return;
            }
            // A connection of another test may have one of its ports for a while.
            assert!(start.elapsed() < Duration::from_secs(20), "the server does not start: {}", log(&home));
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Whether a server answers and has everything that the others have.
    #[allow(dead_code, reason = "tests that include this file use parts of it")]
    pub(crate) fn has_caught_up(&self, number: usize) -> bool {
        let ask = || {
            let mut stream = TcpStream::connect(&self.servers[number].monitor)?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok::<_, io::Error>(answer)
        };
        ask().is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
    }

    /// Loses all that a server that is dead had stored.
    pub(crate) fn wipe(&self, number: usize) {
        fs::remove_dir_all(self.folder.path().join(&self.servers[number].name).join("jetstream")).unwrap();
    }

    /// What the servers said, for a test that fails.
    #[allow(dead_code, reason = "tests that include this file use parts of it")]
    pub(crate) fn logs(&self) -> String {
        let said =
            |server: &Server| fs::read_to_string(self.folder.path().join(&server.name).join("log")).unwrap_or_default();
        self.servers.iter().map(|server| format!("== {} ({})\n{}", server.name, server.route, said(server))).collect()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.child.kill();
            let _ = server.child.wait();
        }
    }
}

fn spawn(program: &Path, home: &Path, client: &str, monitor: &str) -> Child {
    let config = home.join("server.conf");
    fs::write(&config, format!("listen: \"{client}\"\nhttp: \"{monitor}\"\ninclude common.conf\n")).unwrap();
    let log = File::options().create(true).append(true).open(home.join("log")).unwrap();
    let mut command = Command::new(program);
    command.arg("--config").arg(config).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap()
}

/// Waits until the server has written where it listens. None when it has ended because a port was taken.
fn ports(home: &Path, child: &mut Child) -> Option<(String, String)> {
    let file = home.join(format!("nats-server_{}.ports", child.id()));
    let start = Instant::now();
    loop {
        let text = fs::read_to_string(&file).unwrap_or_default();
        if let (Some(client), Some(monitor)) =
            (after(&text, "nats://").or_else(|| after(&text, "tls://")), after(&text, "http://"))
        {
            return Some((client, monitor));
        }
        if child.try_wait().unwrap().is_some() {
            assert!(log(home).contains("address already in use"), "the server has ended: {}", log(home));
            return None;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "the server does not start: {}", log(home));
        thread::sleep(Duration::from_millis(10));
    }
}

fn log(home: &Path) -> String {
    fs::read_to_string(home.join("log")).unwrap_or_default()
}

fn after(text: &str, scheme: &str) -> Option<String> {
    let (_, rest) = text.split_once(scheme)?;
    rest.split_once('"').map(|(address, _)| address.to_owned())
}

/// The server's program, installed where it is missing.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let install = || {
        let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let script = folders.map(|folder| folder.join("scripts/nats-server")).find(|script| script.exists())?;
        let printed = Command::new(script).stderr(Stdio::inherit()).output().ok().filter(|done| done.status.success());
        let path = printed.map(|done| PathBuf::from(String::from_utf8_lossy(&done.stdout).trim()));
        if path.is_none() {
            println!("skipped: scripts/nats-server could not install nats-server");
        }
        path
    };
    PROGRAM.get_or_init(install).as_deref()
}
