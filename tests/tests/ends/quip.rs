//! The command `quip` as a process.

use std::{
    fs::File,
    io::{PipeReader, Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use quip_tests::relay::{PATIENCE, Relay, binary};
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Termios, tcgetattr},
};

/// A running command. Dropping it kills it.
pub(super) struct Quip {
    child: Child,
    stdin: Option<ChildStdin>,
    output: Output,
    stderr: Arc<Mutex<String>>,
}

/// Its standard output.
enum Output {
    /// Collected.
    Read(Arc<Mutex<String>>),
    /// A pipe that nobody reads, until it is closed.
    Unread(Option<PipeReader>),
    /// A terminal, which is its standard input too.
    Terminal { text: Arc<Mutex<String>>, screen: OwnedFd, keys: File, before: Box<Termios> },
}

/// How to run it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Read,
    Unread,
    Terminal,
}

/// A command line for a relay that a test started, as this user by the relay's own key.
pub(super) fn line(relay: &Relay, user: &str, args: &[&str]) -> Vec<String> {
    let (address, data) = (relay.address.to_string(), relay.data().display().to_string());
    let login = ["--relay", &address, "--data", &data, "--as", user];
    args.iter().chain(&login).map(|arg| (*arg).to_owned()).collect()
}

/// The same for a shell that gives it an output which is full.
pub(super) fn into_full(args: &[String]) -> Vec<String> {
    let program = binary("quip").display().to_string();
    [&["-c".to_owned(), "exec \"$@\" >/dev/full".to_owned(), "sh".to_owned(), program], args].concat()
}

impl Quip {
    pub(super) fn start(args: &[String], how: How) -> Result<Self> {
        Self::start_program(&binary("quip"), args, how)
    }

    /// Starts another program, which becomes `quip`.
    pub(super) fn start_program(program: &Path, args: &[String], how: How) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(args).env_remove("QUIP_TOKEN").env("TERM", "xterm").stdin(Stdio::piped()).stderr(Stdio::piped());
        let output = match how {
            How::Terminal => {
                let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
                grantpt(&screen)?;
                unlockpt(&screen)?;
                let name = ptsname(&screen, Vec::new())?.into_string()?;
                let keys = File::options().read(true).write(true).open(name)?;
                command.stdin(keys.try_clone()?).stdout(keys.try_clone()?);
                let text = collect(File::from(screen.try_clone()?));
                Output::Terminal { text, before: Box::new(tcgetattr(&keys)?), screen, keys }
            }
            How::Read | How::Unread => {
                let (reader, writer) = std::io::pipe()?;
                command.stdout(writer);
                if how == How::Read { Output::Read(collect(reader)) } else { Output::Unread(Some(reader)) }
            }
        };
        let mut child = command.spawn()?;
        let stderr = collect(child.stderr.take().context("a pipe")?);
        Ok(Self { stdin: child.stdin.take(), child, output, stderr })
    }

    /// Runs it to its end, with this input.
    pub(super) async fn run(args: &[String], input: &[u8]) -> Result<(i32, String, String)> {
        let mut quip = Self::start(args, How::Read)?;
        quip.input(input)?;
        quip.end_input();
        let status = quip.end().await?;
        Ok((status, quip.output(), quip.errors()))
    }

    pub(super) fn input(&mut self, bytes: &[u8]) -> Result<()> {
        match (&mut self.stdin, &self.output) {
            (Some(stdin), _) => stdin.write_all(bytes)?,
            (None, Output::Terminal { screen, .. }) => File::from(screen.try_clone()?).write_all(bytes)?,
            _ => bail!("the input has ended"),
        }
        Ok(())
    }

    pub(super) fn end_input(&mut self) {
        self.stdin = None;
    }

    /// What it printed. If nobody reads the pipe, a question mark for each byte in it.
    pub(super) fn output(&self) -> String {
        match &self.output {
            Output::Read(text) | Output::Terminal { text, .. } => text.lock().expect("a lock").clone(),
            Output::Unread(Some(pipe)) => "?".repeat(rustix::io::ioctl_fionread(pipe).unwrap_or(0) as usize),
            Output::Unread(None) => String::new(),
        }
    }

    pub(super) fn errors(&self) -> String {
        self.stderr.lock().expect("a lock").clone()
    }

    pub(super) async fn printed(&self, what: &str) -> Result<()> {
        self.until(what, || self.output().contains(what)).await
    }

    pub(super) async fn said(&self, what: &str) -> Result<()> {
        self.until(what, || self.errors().contains(what)).await
    }

    pub(super) async fn until(&self, what: &str, check: impl Fn() -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !check() {
            ensure!(Instant::now() < deadline, "no {what:?}: {:?}, {:?}", self.output(), self.errors());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Closes the pipe that nobody reads. What was in it is returned.
    pub(super) fn close_output(&mut self) -> Result<String> {
        let Output::Unread(Some(mut pipe)) = std::mem::replace(&mut self.output, Output::Unread(None)) else {
            bail!("it is read");
        };
        let mut held = vec![0; rustix::io::ioctl_fionread(&pipe)? as usize];
        pipe.read_exact(&mut held)?;
        Ok(String::from_utf8(held)?)
    }

    pub(super) fn signal(&self, name: &str) -> Result<()> {
        Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status()?;
        Ok(())
    }

    /// The exit status, once it has ended by itself.
    pub(super) async fn end(&mut self) -> Result<i32> {
        let status = self.wait().await?;
        status.code().with_context(|| format!("{status}: {}", self.errors()))
    }

    /// Waits for its end, and for all that it said.
    pub(super) async fn wait(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                // The collectors hold the text until there is no more.
                self.until("the end", || Arc::strong_count(&self.stderr) == 1).await?;
                if let Output::Read(text) = &self.output {
                    self.until("the end", || Arc::strong_count(text) == 1).await?;
                }
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "it does not end: {:?}, {:?}", self.output(), self.errors());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether the terminal is as it was before; true without one.
    pub(super) fn is_restored(&self) -> Result<bool> {
        let Output::Terminal { keys, before, .. } = &self.output else { return Ok(true) };
        let now = tcgetattr(keys.as_fd())?;
        Ok((now.input_modes, now.output_modes, now.local_modes, now.control_modes)
            == (before.input_modes, before.output_modes, before.local_modes, before.control_modes))
    }

    /// Whether it reads single keys.
    pub(super) fn is_raw(&self) -> Result<bool> {
        let Output::Terminal { keys, .. } = &self.output else { return Ok(false) };
        Ok(!tcgetattr(keys.as_fd())?.local_modes.contains(LocalModes::ICANON))
    }
}

impl Drop for Quip {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&text);
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            into.lock().expect("a lock").push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    });
    text
}
