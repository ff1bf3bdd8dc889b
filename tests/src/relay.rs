//! A relay as a process of its own.

use std::{
    fs,
    net::SocketAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use quip_relay::{
    auth::{MintKey, TokenRequest, mint},
    identity::SigningKey,
};

/// Names the seed of a faulty order to the relay that runs on it.
pub const ORDER_SEED: &str = "QUIP_ORDER_SEED";

/// How long anything local may take before a test calls it hanging.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A relay that a test started. Dropping it kills it and removes its folder.
#[derive(Debug)]
pub struct Relay {
    child: Option<Child>,
    folder: PathBuf,
    data: PathBuf,
    config: String,
    environment: Vec<(String, String)>,
    binary: PathBuf,
    stderr: Option<OwnedFd>,
    /// Where it listens; the same after a restart.
    pub address: SocketAddr,
    _temporary: Option<tempfile::TempDir>,
}

impl Relay {
    /// Starts a relay with default limits and a folder of its own.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start() -> Result<Self> {
        Self::with("")
    }

    /// Starts a relay with these lines in its config file.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn with(config: &str) -> Result<Self> {
        let temporary = tempfile::tempdir()?;
        let mut relay = Self::prepare(temporary.path(), config);
        relay._temporary = Some(temporary);
        relay.run()?;
        Ok(relay)
    }

    /// A relay that is not running yet, in a folder that the caller keeps.
    pub fn prepare(folder: &Path, config: &str) -> Self {
        Self {
            child: None,
            folder: folder.to_owned(),
            data: folder.join("data"),
            config: config.to_owned(),
            environment: Vec::new(),
            binary: relay_binary(),
            stderr: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            _temporary: None,
        }
    }

    /// Adds to the environment of the process from its next start on.
    pub fn set_environment(&mut self, environment: Vec<(String, String)>) {
        self.environment = environment;
    }

    /// Has the process write its log there instead of to a file, from its next start on.
    pub fn set_stderr(&mut self, stderr: OwnedFd) {
        self.stderr = Some(stderr);
    }

    /// A relay on an order that loses, repeats and reorders commands by this seed, not running yet. `config` should have
    /// a short `limits.answer_timeout`, which is what such a relay lives by.
    pub fn prepare_faulty(folder: &Path, config: &str, seed: u64) -> Self {
        let mut relay = Self::prepare(folder, config);
        relay.environment = vec![(ORDER_SEED.to_owned(), seed.to_string())];
        relay.binary = binary("relay-on-faulty-order");
        relay
    }

    /// Starts the process and waits until it serves.
    ///
    /// # Errors
    /// When it ends or takes too long; the text holds what it logged.
    pub fn run(&mut self) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        let listen = self.data().join("listen");
        let _ = fs::remove_file(&listen);
        let mut child = self.command()?.spawn().with_context(|| format!("starting {}", self.binary.display()))?;
        let deadline = Instant::now() + PATIENCE;
        while !listen.exists() {
            if let Some(status) = child.try_wait()? {
                bail!("the relay ended with {status}: {}", self.log());
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                bail!("the relay does not come up: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.child = Some(child);
        self.address = fs::read_to_string(&listen)?.trim().parse()?;
        Ok(())
    }

    /// Runs the relay until it ends by itself, as one does that refuses to start.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn run_to_end(&self) -> Result<(ExitStatus, String)> {
        fs::create_dir_all(&self.folder)?;
        let status = self.command()?.status()?;
        Ok((status, self.log()))
    }

    fn command(&self) -> Result<Command> {
        let file = self.folder.join("quip.toml");
        let top = format!("listen = \"{}\"\ndata = \"{}\"\n", self.address, self.data().display());
        fs::write(&file, top + &self.config)?;
        let log: Stdio = match &self.stderr {
            Some(stderr) => stderr.try_clone()?.into(),
            None => fs::File::options().create(true).append(true).open(self.folder.join("log"))?.into(),
        };
        let mut command = Command::new(&self.binary);
        command.arg("serve").arg("--config").arg(&file).envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(command)
    }

    /// Ends the process as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks the process to end and waits for it.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal("TERM")?;
        self.wait()
    }

    /// Sends the process a signal, named as for `kill`.
    ///
    /// # Errors
    /// When it is not running.
    pub fn signal(&self, name: &str) -> Result<()> {
        let pid = self.pid().context("the relay is not running")?;
        Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status()?;
        Ok(())
    }

    /// Waits for the process to end by itself.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("the relay is not running")?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                bail!("the relay does not end: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Resident memory in bytes while it runs.
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    }

    /// What the relay logged, over all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// Puts the data folder elsewhere, from the next start on.
    pub fn set_data(&mut self, data: PathBuf) {
        self.data = data;
    }

    /// SHA-256 of its certificate.
    ///
    /// # Errors
    /// When the file is missing or malformed.
    pub fn fingerprint(&self) -> Result<[u8; 32]> {
        let text = fs::read_to_string(self.data().join("fingerprint"))?;
        let text = text.trim();
        let byte = |i: usize| u8::from_str_radix(text.get(2 * i..2 * i + 2).unwrap_or("x"), 16);
        let bytes: Vec<u8> = (0..32).map(byte).collect::<Result<_, _>>()?;
        bytes.try_into().map_err(|_| anyhow::anyhow!("a fingerprint has 32 bytes"))
    }

    /// A token for a user who may do anything in any room but moderate, good for an hour.
    ///
    /// # Errors
    /// When the relay's signing key cannot be read.
    pub fn token(&self, user: &str) -> Result<String> {
        let all = [String::from("*")];
        self.token_for(&TokenRequest { join: &all, post: &all, create: &all, ..TokenRequest::new(user, HOUR) })
    }

    /// A token as asked for, signed with the relay's own key.
    ///
    /// # Errors
    /// When the key cannot be read or the request is not a good one.
    pub fn token_for(&self, request: &TokenRequest<'_>) -> Result<String> {
        let key = SigningKey::read(&self.data())?.context("the relay has no signing key")?;
        Ok(mint(&MintKey::own(&key)?, request, SystemTime::now())?)
    }
}

/// How long tokens of tests are good.
pub const HOUR: Duration = Duration::from_secs(3600);

impl Drop for Relay {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The relay's binary, beside the test's own; `QUIP_RELAY_BINARY` names another one, such as an optimised build.
pub fn relay_binary() -> PathBuf {
    if let Some(binary) = std::env::var_os("QUIP_RELAY_BINARY") {
        return binary.into();
    }
    binary("quip-relay")
}

/// A binary beside the test's own.
///
/// # Panics
/// When it is missing.
pub fn binary(name: &str) -> PathBuf {
    let mut folder = std::env::current_exe().unwrap_or_default();
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let binary = folder.join(name);
    assert!(binary.exists(), "{} is missing: run `cargo build --workspace --bins` first", binary.display());
    binary
}

/// Copies a folder with everything in it, as a backup of a stopped relay.
///
/// # Errors
/// When a file cannot be read or written.
pub fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => copy_folder(&entry.path(), &to.join(entry.file_name()))?,
            false => drop(fs::copy(entry.path(), to.join(entry.file_name()))?),
        }
    }
    Ok(())
}
