//! A `quip-relay` process of the harness, with a temporary data folder.

use std::{
    fs::{self, File},
    io::{self, PipeReader, Write},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use quip_link::Namespace;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{
    guard,
    memory_limit::MemoryLimit,
    report::Options,
    token::SigningKey,
    transport::{Fingerprint, decode_pin},
};

/// How long a relay may take to start and to stop.
const PATIENCE: Duration = Duration::from_secs(30);
/// Interval of polling a file or a process.
const LOOK: Duration = Duration::from_millis(2);

/// What it logs, in its data folder.
const LOG: &str = "bench-relay.log";

/// What a pipe holds.
const PIPE: usize = 64 << 10;

/// Configuration without rate limits, as for a relay on loopback without a config file.
const WITHOUT_RATES: &str = "limits.messages_per_second = 0\nlimits.created_per_hour = 0\nlimits.added_per_hour = 0\n\
     limits.added_by_one_per_hour = 0";

/// A running relay.
pub(crate) struct Relay {
    program: PathBuf,
    data: TempDir,
    child: Child,
    config: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) pin: Fingerprint,
    /// From the last start of the process until it listened.
    pub(crate) started_within: Duration,
    signing: SigningKey,
    memory_limit: Option<MemoryLimit>,
}

impl Relay {
    /// Starts a relay on an empty data folder and a free port, without rate limits and with the keys of `--relay-set`.
    pub(crate) fn start(options: &Options) -> Result<Self> {
        Self::start_with(options, &[])
    }

    /// As [`Relay::start`], with more lines for its configuration, such as `limits.incoming = 2048`.
    pub(crate) fn start_with(options: &Options, settings: &[String]) -> Result<Self> {
        Self::start_on((Ipv4Addr::LOCALHOST, 0).into(), options, settings, Command::spawn)
    }

    /// As [`Relay::start`], with a standard error that is full and that nobody reads while the pipe is kept.
    pub(crate) fn start_unread(options: &Options) -> Result<(Self, PipeReader)> {
        let (unread, mut full) = io::pipe()?;
        full.write_all(&[b'.'; PIPE])?;
        let listen = (Ipv4Addr::LOCALHOST, 0).into();
        let relay = Self::start_on(listen, options, &[], |command| command.stderr(full).spawn())?;
        Ok((relay, unread))
    }

    /// As [`Relay::start`], on the address of one side of a link. It cannot be restarted.
    pub(crate) fn start_within(side: &Namespace, options: &Options) -> Result<Self> {
        Self::start_on((side.address(), 0).into(), options, &[], |command| side.spawn(command))
    }

    fn start_on(
        listen: SocketAddr,
        options: &Options,
        settings: &[String],
        spawn: impl FnOnce(&mut Command) -> io::Result<Child>,
    ) -> Result<Self> {
        let (program, data) = (find(options)?, data_folder(options)?);
        let config = data.path().join("bench.toml");
        let lines = [&[WITHOUT_RATES.to_owned()], &*options.relay_set, settings].concat();
        fs::write(&config, lines.join("\n"))?;
        let memory_limit = options.relay_memory.map(MemoryLimit::new).transpose()?;
        let Started { child, address, pin, within } =
            launch(&program, data.path(), &config, listen, memory_limit.as_ref(), spawn)?;
        let signing = SigningKey::read(data.path())?;
        Ok(Self { program, data, child, config, address, pin, started_within: within, signing, memory_limit })
    }

    /// Stops the process in an orderly way and starts another on the same data, with empty caches.
    ///
    /// `between` is called while no relay runs.
    pub(crate) fn restart(&mut self, between: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        self.stop()?;
        between(self.data.path())?;
        self.start_again((Ipv4Addr::LOCALHOST, 0).into())
    }

    /// Kills the process and starts another on the same data and address.
    pub(crate) fn crash(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        guard::release(&self.child);
        self.start_again(self.address)
    }

    fn start_again(&mut self, listen: SocketAddr) -> Result<()> {
        assert!(self.address.ip().is_loopback(), "a relay behind a link is not restarted");
        fs::remove_file(self.data.path().join("listen")).context("DATA/listen of the stopped relay")?;
        let limit = self.memory_limit.as_ref();
        let started = launch(&self.program, self.data.path(), &self.config, listen, limit, Command::spawn)?;
        (self.child, self.address, self.pin) = (started.child, started.address, started.pin);
        self.started_within = started.within;
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged since its last start.
    pub(crate) fn log(&self) -> Result<String> {
        read(self.data.path(), LOG)
    }

    /// Its data folder.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// A token that allows `user` everything in every room.
    pub(crate) fn token(&self, user: &str) -> Result<String> {
        self.signing.token(user)
    }

    fn stop(&mut self) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).context("cannot signal the relay")?;
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "the relay does not stop on SIGTERM");
            thread::sleep(LOOK);
        }
        guard::release(&self.child);
        Ok(())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to do about a failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
        guard::release(&self.child);
    }
}

struct Started {
    child: Child,
    address: SocketAddr,
    pin: Fingerprint,
    within: Duration,
}

/// `--relay-bin`, or the binary beside the harness's own.
fn find(options: &Options) -> Result<PathBuf> {
    let program = match &options.relay_bin {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.with_file_name("quip-relay"),
    };
    ensure!(
        program.is_file(),
        "no relay at {}: run `cargo build --release -p quip-relay`, or name one with --relay-bin",
        program.display()
    );
    Ok(program)
}

fn data_folder(options: &Options) -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("quip-bench-").tempdir_in(&options.dir)?)
}

fn launch(
    program: &Path,
    data: &Path,
    config: &Path,
    listen: SocketAddr,
    memory_limit: Option<&MemoryLimit>,
    spawn: impl FnOnce(&mut Command) -> io::Result<Child>,
) -> Result<Started> {
    let log = data.join(LOG);
    let mut command = Command::new(program);
    command.arg("serve").arg("--config").arg(config).arg("--data").arg(data).args(["--listen", &listen.to_string()]);
    File::create(&log)?;
    let append = || File::options().append(true).open(&log);
    command.stdin(Stdio::null()).stdout(append()?).stderr(append()?);
    let begin = Instant::now();
    let started = guard::start(Some(data), Signal::KILL, || spawn(&mut command));
    let mut child = started.with_context(|| format!("cannot start {}", program.display()))?;
    let limited = memory_limit.map_or(Ok(()), |limit| limit.add(&child));
    match limited.and_then(|()| wait_until_listening(&mut child, data)) {
        Ok(address) => {
            let within = begin.elapsed();
            let pin = decode_pin(read(data, "fingerprint")?.trim())?;
            Ok(Started { child, address, pin, within })
        }
        Err(error) => {
            // Report the first failure.
            let _ = child.kill();
            let _ = child.wait();
            guard::release(&child);
            Err(error.context(fs::read_to_string(&log).unwrap_or_default()))
        }
    }
}

fn wait_until_listening(child: &mut Child, data: &Path) -> Result<SocketAddr> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            bail!("the relay exited at start: {status}");
        }
        match fs::read_to_string(data.join("listen")) {
            Ok(address) => return address.trim().parse().context("DATA/listen"),
            Err(_) => thread::sleep(LOOK),
        }
    }
    bail!("the relay does not listen within {PATIENCE:?}")
}

fn read(data: &Path, file: &str) -> Result<String> {
    fs::read_to_string(data.join(file)).with_context(|| format!("{file} in the relay's data folder"))
}
