//! Kills a relay repeatedly while `quip-bench replay` runs through it.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;

use crate::relay::{Relay, relay_binary};

/// Ports below are those of well-known services.
const FIRST_PORT: u16 = 10_000;
/// How many ports to try.
const PORTS_TRIED: u32 = 100;

/// The parameters of a run.
#[derive(Debug, Clone)]
pub struct Torture {
    /// Number of kills.
    pub kills: u32,
    /// Seed of the moments of the kills.
    pub seed: u64,
    /// IRC logs to replay; replayed until the number of kills is reached.
    pub logs: Vec<PathBuf>,
    /// Factor over real time.
    pub speed: u32,
}

/// The result: sums over all replays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Toll {
    /// Kills while a replay was running.
    pub kills: u32,
    /// Replays, each checked on its own.
    pub replays: u32,
    /// Lines sent and accepted.
    pub accepted: u64,
    /// Deliveries expected and made.
    pub delivered: u64,
}

impl Torture {
    /// Runs it in `folder`.
    ///
    /// # Errors
    /// If a replay finds a fault, or the relay does not restart.
    pub fn run(&self, folder: &Path) -> Result<Toll> {
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut relay = Relay::prepare(folder, "[limits]\nmessages_per_second = 0\n");
        relay.address.set_port(lasting_port(&mut random)?);
        relay.run()?;
        let mut toll = Toll::default();
        while toll.kills < self.kills {
            let replay = self.replay(&relay, toll.replays)?;
            let result = self.harass(&mut relay, replay, &mut toll, &mut random);
            self.add(&mut toll, &result.with_context(|| format!("seed {}", self.seed))?)?;
        }
        ensure!(relay.terminate()?.success(), "the relay does not stop cleanly: {}", relay.log());
        Ok(toll)
    }

    fn replay(&self, relay: &Relay, round: u32) -> Result<Child> {
        let bench = relay_binary().with_file_name("quip-bench");
        let mut command = Command::new(&bench);
        command.arg("replay").args(&self.logs).args(["--observers", "3", "--json"]);
        command.arg("--room").arg(format!("torture:round-{round}")).arg("--speed").arg(self.speed.to_string());
        command.arg("--relay").arg(relay.address.to_string()).arg("--data").arg(relay.data());
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("starting {}", bench.display()))
    }

    fn harass(&self, relay: &mut Relay, mut replay: Child, toll: &mut Toll, random: &mut StdRng) -> Result<Value> {
        while toll.kills < self.kills {
            std::thread::sleep(Duration::from_millis(random.random_range(50..2500)));
            if replay.try_wait()?.is_some() {
                break;
            }
            relay.kill();
            toll.kills += 1;
            if let Err(error) = relay.run() {
                // It would keep trying to reconnect.
                let _ = replay.kill();
                let _ = replay.wait();
                return Err(error);
            }
        }
        let output = replay.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let value = serde_json::from_str(&text).with_context(|| format!("the replay printed {text:?}"))?;
        if !output.status.success() {
            bail!("the replay found faults after {} kills: {value}", toll.kills);
        }
        Ok(value)
    }

    fn add(&self, toll: &mut Toll, result: &Value) -> Result<()> {
        let figure = |key: &str| result[key].as_u64().with_context(|| format!("no {key} in {result}"));
        for fault in ["lost", "duplicated", "reordered"] {
            ensure!(figure(fault)? == 0, "{fault} in {result} (seed {})", self.seed);
        }
        ensure!(figure("expected")? == figure("delivered")?, "not everything was delivered: {result}");
        ensure!(figure("sent")? == figure("accepted")?, "not everything was accepted: {result}");
        toll.replays += 1;
        toll.accepted += figure("accepted")?;
        toll.delivered += figure("delivered")?;
        Ok(())
    }
}

/// A free port outside of the ephemeral range. Clients whose relay was killed bind new sockets, some before it is back, and
/// one of them would sooner or later get the relay's port.
fn lasting_port(random: &mut StdRng) -> Result<u16> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let ephemeral_from: u16 = range.split_whitespace().next().context("a range of ports")?.parse()?;
    ensure!(ephemeral_from > FIRST_PORT, "every port from {ephemeral_from} on is ephemeral");
    for _ in 0..PORTS_TRIED {
        let port = random.random_range(FIRST_PORT..ephemeral_from);
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port among {PORTS_TRIED} from {FIRST_PORT} to {ephemeral_from}")
}

/// Writes a log of `lines` lines by a few people who come and go, in the format of the Ubuntu IRC logs.
///
/// # Errors
/// When the file cannot be written.
pub fn write_log(path: &Path, lines: u32, seed: u64) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut text = String::new();
    for line in 0..lines {
        let minute = line / 20;
        let nick = format!("nick{}", random.random_range(0..12));
        text += &match random.random_range(0..20) {
            0 => format!("=== {nick} [n=x@example] has joined #ubuntu\n"),
            1 => format!("=== {nick} [n=x@example] has left #ubuntu []\n"),
            2 => format!("[{:02}:{:02}]  * {nick} waves {line}\n", minute / 60, minute % 60),
            _ => {
                let words = "word ".repeat(random.random_range(1..60));
                format!("[{:02}:{:02}] <{nick}> {line} {words}\n", minute / 60, minute % 60)
            }
        };
    }
    Ok(fs::write(path, text)?)
}
