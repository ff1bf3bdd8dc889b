//! A peer's server: a process of the harness's own, on loopback or behind a link, with a data folder and a certificate of its own.

use std::{
    fs::{self, File, Permissions},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{
    guard,
    report::Options,
    transport::{self, Fingerprint},
};

/// How long a server may take to listen.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_millis(20);
/// Where Debian puts servers that are not on the path.
const DEBIAN: [&str; 2] = ["/usr/sbin", "/usr/lib/postgresql/15/bin"];
/// The name in the certificate.
pub(super) const NAME: &str = "localhost";

/// What a server needs before it starts.
pub(super) struct Place {
    data: TempDir,
    pub(super) host: Ipv4Addr,
    /// A free port for TCP and one for UDP, system-chosen.
    pub(super) port: u16,
    pub(super) udp_port: u16,
    /// Whether the server has TLS.
    pub(super) tls: bool,
    stop: Signal,
    pin: Fingerprint,
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    place: Place,
}

impl Place {
    pub(super) fn new(options: &Options) -> Result<Self> {
        Self::at(Ipv4Addr::LOCALHOST, options)
    }

    /// For a server on an address of this thread's network.
    pub(super) fn at(host: Ipv4Addr, options: &Options) -> Result<Self> {
        let data = tempfile::Builder::new().prefix("quip-peer-").tempdir_in(&options.dir)?;
        let identity = rcgen::generate_simple_self_signed(vec![NAME.to_owned(), host.to_string()])?;
        fs::write(data.path().join("certificate.pem"), identity.cert.pem())?;
        let key = data.path().join("key.pem");
        fs::write(&key, identity.signing_key.serialize_pem())?;
        fs::set_permissions(key, Permissions::from_mode(0o600))?;
        let pin = transport::fingerprint(identity.cert.der());
        let free = || Ok::<_, std::io::Error>(TcpListener::bind((host, 0))?.local_addr()?.port());
        Ok(Self { data, host, port: free()?, udp_port: free()?, tls: true, stop: Signal::KILL, pin })
    }

    /// For a server that has no TLS.
    pub(super) fn without_tls(self) -> Self {
        Self { tls: false, ..self }
    }

    /// For a server that leaves something behind when it is killed: the signal that ends it at once.
    pub(super) fn stopped_by(self, stop: Signal) -> Self {
        Self { stop, ..self }
    }

    pub(super) fn folder(&self) -> &Path {
        self.data.path()
    }

    pub(super) fn certificate(&self) -> PathBuf {
        self.data.path().join("certificate.pem")
    }

    pub(super) fn key(&self) -> PathBuf {
        self.data.path().join("key.pem")
    }

    /// Writes a config file and says where it is; prosody takes none whose name ends otherwise.
    pub(super) fn config(&self, text: &str) -> Result<PathBuf> {
        let path = self.data.path().join("bench.cfg.lua");
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Starts the server and waits until it takes connections on the TCP port.
    pub(super) fn start(self, command: &mut Command) -> Result<Server> {
        let log = self.data.path().join("log");
        let name = PathBuf::from(command.get_program());
        command.stdin(Stdio::null()).stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
        let child = guard::start(Some(self.data.path()), self.stop, || command.spawn());
        let child = child.with_context(|| format!("cannot start {}", name.display()))?;
        let mut server = Server { child, place: self };
        server.listens().with_context(|| format!("{}: {}", name.display(), last_line(&log)))?;
        Ok(server)
    }
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn address(&self) -> SocketAddr {
        (self.place.host, self.place.port).into()
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Of the one certificate to accept.
    pub(super) fn pin(&self) -> Fingerprint {
        self.place.pin
    }

    /// TLS 1.3 that accepts this server's certificate and no other.
    pub(super) fn tls(&self) -> Result<rustls::ClientConfig> {
        let mut tls = transport::client_tls(self.place.pin, b"")?;
        tls.alpn_protocols.clear();
        Ok(tls)
    }

    /// The same as [`Server::tls`], for clients that share it.
    pub(super) fn shared_tls(&self) -> Result<Arc<rustls::ClientConfig>> {
        Ok(Arc::new(self.tls()?))
    }

    fn listens(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("exited at start ({status})");
            }
            if TcpStream::connect(self.address()).is_ok() {
                return Ok(());
            }
            thread::sleep(LOOK);
        }
        bail!("does not listen within {PATIENCE:?}")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Once it is waited for, its id may be another's; nothing is left to do about a failure.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&self.child), self.place.stop);
        }
        let _ = self.child.wait();
        guard::release(&self.child);
    }
}

/// A program of a peer: in the folder that `benches/peers.sh` fills, on the path, or where Debian puts servers.
///
/// # Errors
/// It is nowhere; the message says how to get it.
pub(super) fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?.parent().and_then(Path::parent).map(|target| target.join("peers/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = own.into_iter().chain(std::env::split_paths(&path)).chain(DEBIAN.map(PathBuf::from));
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.with_context(|| format!("{name} is not installed: run benches/peers.sh"))
}

/// The first line that a program says about itself.
pub(super) fn version(name: &str, argument: &str) -> String {
    let said = program(name).and_then(|program| Ok(Command::new(program).arg(argument).output()?));
    let first = said.ok().and_then(|said| {
        let text = [said.stdout, said.stderr].concat();
        String::from_utf8_lossy(&text).lines().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
    });
    first.unwrap_or_else(|| "not here".to_owned())
}

fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned()
}
