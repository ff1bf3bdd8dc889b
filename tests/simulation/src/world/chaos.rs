//! What goes wrong while a run is under way.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep};

use super::{
    app,
    disk::Disk,
    relay::Relay,
    shared::{Process, Shared},
};
use crate::{
    history::{App, Device, Entry},
    host::Host,
    net::{HostId, Net, Quality},
};

/// Everything that can go wrong.
pub(super) struct Chaos {
    rng: StdRng,
    net: Net,
    shared: Arc<Shared>,
    relay: Relay,
    devices: Vec<DeviceState>,
    /// How often something happens, in milliseconds.
    pace: u64,
    /// Whether the relay's log is restored now and then.
    restores: bool,
    /// Whether old events are given up now and then.
    trims: bool,
}

struct DeviceState {
    disk: Disk,
    process: Option<Arc<Process>>,
    /// When the app is started again, if it is not running.
    again: Instant,
}

impl Chaos {
    /// Starts the relay and every device.
    pub(super) fn start(seed: u64, net: Net, shared: Arc<Shared>, mut relay: Relay, devices: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        relay.start();
        let pace = [500, 2000, 10_000][rng.random_range(0..3)];
        let (restores, trims) = (rng.random_range(0..3) == 0, rng.random());
        let mut chaos = Self { rng, net, shared, relay, devices: Vec::new(), pace, restores, trims };
        for device in 0..devices {
            let quality = chaos.quality();
            chaos.net.add(host(Device(device)), quality);
            chaos.devices.push(DeviceState { disk: Disk::default(), process: None, again: Instant::now() });
            chaos.boot(Device(device));
        }
        chaos
    }

    /// Lets things go wrong for this long.
    pub(super) async fn rage(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            sleep(Duration::from_millis(self.rng.random_range(0..self.pace))).await;
            self.strike();
            self.revive(false);
        }
    }

    /// Ends all faults, and waits until everything has settled.
    pub(super) async fn settle(&mut self) {
        self.relay.heal();
        self.net.set_quality(RELAY, Quality::GOOD);
        self.net.cut(RELAY, false);
        for device in 0..self.devices.len() {
            self.net.set_quality(host(Device(device)), Quality::GOOD);
            self.net.cut(host(Device(device)), false);
        }
        // Tasks of a process that was killed just now are still to end.
        sleep(Duration::from_millis(10)).await;
        self.revive(true);
        self.shared.calm.store(true, Ordering::Relaxed);
        self.shared.recorder.note(Entry::Calm);
        let end = Instant::now() + SETTLE;
        let users = self.shared.recorder.all_users();
        loop {
            sleep(Duration::from_millis(500)).await;
            let lacking = users.iter().zip(0..).find_map(|(user, device)| self.shared.lacks(Device(device), user));
            match lacking {
                None => break,
                Some(what) if Instant::now() > end => return self.shared.recorder.note(Entry::Unsettled(what)),
                Some(_) => {}
            }
        }
        // From then on no connection is lost, although every token expires once.
        if let Some(issuer) = &self.shared.issuer {
            sleep(NOTICED_WITHIN).await;
            self.shared.recorder.note(Entry::Settled);
            sleep(issuer.life()).await;
        }
    }

    /// Ends every process.
    pub(super) fn end(&mut self) {
        for device in 0..self.devices.len() {
            self.kill(Device(device));
        }
        self.relay.crash();
    }

    fn quality(&mut self) -> Quality {
        if self.rng.random() { Quality::GOOD } else { Quality::draw(&mut self.rng) }
    }

    fn strike(&mut self) {
        let device = Device(self.rng.random_range(0..self.devices.len()));
        match self.rng.random_range(0..13) {
            0 | 1 => {
                let quality = self.quality();
                self.net.set_quality(host(device), quality);
            }
            2 | 3 => {
                let cut = self.rng.random();
                self.net.cut(host(device), cut);
            }
            4 => self.net.rebind(host(device)),
            5 | 6 => {
                self.kill(device);
                self.devices[device.0].again = self.soon();
            }
            7 if self.relay.is_up() => {
                match self.rng.random_range(0..4) {
                    0 if self.restores => self.relay.restore(),
                    0 | 1 => self.relay.crash(),
                    _ => self.relay.stop(),
                }
                self.relay.again = self.soon();
            }
            8 => {
                let quality = self.quality();
                self.net.set_quality(RELAY, Quality { bandwidth: Quality::GOOD.bandwidth, ..quality });
            }
            9 => self.net.cut(RELAY, true),
            10 => self.turn_clock(),
            11 if self.trims => {
                let place = &self.shared.places[self.rng.random_range(0..self.shared.places.len())];
                self.relay.trim(place.id());
            }
            _ => {
                self.net.cut(RELAY, false);
                (0..self.devices.len()).for_each(|device| self.net.cut(host(Device(device)), false));
            }
        }
    }

    /// The relay's wall clock jumps by days, is off by a little, or is right again. A run is too short for a jump to be believed.
    fn turn_clock(&mut self) {
        let off = match self.rng.random_range(0..4) {
            0 => 0,
            1 if !self.relay.judges_tokens() => self.rng.random_range(-LITTLE..=LITTLE),
            _ => self.rng.random_range(-FAR..=FAR),
        };
        self.relay.turn_clock(off);
    }

    fn soon(&mut self) -> Instant {
        Instant::now() + Duration::from_millis(self.rng.random_range(10..6000))
    }

    /// Starts what is due, or everything.
    fn revive(&mut self, all: bool) {
        let now = Instant::now();
        if !self.relay.is_up() && (all || self.relay.again <= now) {
            self.relay.start();
        }
        for device in 0..self.devices.len() {
            let state = &self.devices[device];
            if state.process.is_none() && (all || state.again <= now) {
                self.boot(Device(device));
            }
        }
    }

    fn boot(&mut self, device: Device) {
        let process = Arc::new(Process {
            device,
            user: self.shared.recorder.all_users()[device.0].clone(),
            host: Host::start(&self.net, host(device), self.rng.random()),
            disk: self.devices[device.0].disk.clone(),
            shared: self.shared.clone(),
        });
        process.host.spawn(app::run(process.clone()));
        self.devices[device.0].process = Some(process);
    }

    fn kill(&mut self, device: Device) {
        if let Some(process) = self.devices[device.0].process.take() {
            process.note(App::Killed);
            process.host.kill();
            self.shared.died(device);
        }
    }
}

/// Where a device is in the network.
fn host(device: Device) -> HostId {
    HostId(256 + device.0 as u16)
}

/// Where the relay is in the network.
pub(super) const RELAY: HostId = HostId(1);
/// Within this a client without traffic notices that its connection was lost: its idle timeout.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);
/// How far a clock is off that nobody minds, in milliseconds.
const LITTLE: i64 = 30_000;
/// How far a wrong clock is off, in milliseconds: 40 days.
const FAR: i64 = 40 * 24 * 3_600_000;
/// Within this everything must settle once the faults are over. The slowest disk reads 20 pages a second, and a page may be one
/// large event of those that every device of every user has to catch up with.
const SETTLE: Duration = Duration::from_secs(300);
