//! Send numbers of devices that do not come back do not stay for ever.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use quip_core::{Action, Authority, Command, JoinAs};
use quip_order::{Embedded, EmbeddedConfig, Limits, MemoryLog, Submit, embedded_in_memory};
use quip_protocol::RoomName;
use quip_store::{MemoryDisk, Sequencer, SequencerConfig, Sink, Step, Store, View};

use super::*;
use crate::hub::Read;

/// A hub over a real order and a real store, both in memory.
struct System {
    hub: Hub<Lists>,
    now: Instant,
    /// On the wall clock.
    time: Arc<AtomicU64>,
    submit: Arc<Embedded>,
    sequencer: Sequencer,
    view: View,
    told: Told,
}

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Arc<Committed>>>>);

impl Sink for Told {
    fn committed(&self, batch: &Arc<Committed>) {
        self.0.lock().unwrap().push(batch.clone());
    }
}

const DAY: Duration = Duration::from_secs(86_400);
const ROOMS: usize = 10;

impl System {
    fn new() -> Self {
        let (time, told, now) = (Arc::new(AtomicU64::new(TIME)), Told::default(), Instant::now());
        let on_the_wall = time.clone();
        let clock: Clock = Arc::new(move || on_the_wall.load(Ordering::Relaxed));
        let limits = Limits { conversation_commands: usize::MAX, conversation_bytes: 1 << 30, total_bytes: 1 << 30 };
        let config = EmbeddedConfig { limits, clock: clock.clone(), ..EmbeddedConfig::default() };
        let (submit, order) = embedded_in_memory(MemoryLog::new(GENERATION), config);
        let store = Store::open_in_memory(&MemoryDisk::default(), GENERATION).unwrap();
        let view = store.view();
        let sinks: Vec<Box<dyn Sink>> = vec![Box::new(told.clone())];
        let sequencer = Sequencer::start(store, order, sinks, SequencerConfig::default()).unwrap();
        Self { hub: hub(Config::development(None, None), clock, now), now, time, submit, sequencer, view, told }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.time.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }

    /// A client without a state file is a new device at each start. It joins every room.
    fn starts(&mut self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let mut device = [0; 16];
            device[..4].copy_from_slice(&number.to_be_bytes());
            for room in 0..ROOMS {
                let name = format!("lobby:{room}");
                let conversation = ConversationId::room(&RoomName::parse(&name).unwrap());
                let by = By::Device { user: user("ann"), device: DeviceId(device), n: 1 };
                let authority = Authority { join: true, create: true, ..Authority::default() };
                let action = Action::Join(JoinAs::Room(name));
                self.submit.submit(Command { conversation, by, authority, action }).unwrap();
            }
        }
        while self.sequencer.step().unwrap() == Step::Worked {}
        self.told.0.lock().unwrap().clear();
    }

    /// A whole pass of the hub, which takes its time over it.
    fn forget(&mut self) -> usize {
        self.pass(Duration::from_secs(3600));
        let mut quiet = 0;
        while quiet < 30 {
            self.pass(TICK);
            self.hub.begin_turn(self.now);
            self.hub.tick();
            let wanted: Vec<_> = self.hub.port().own_reads.drain(..).collect();
            assert!(wanted.len() <= 1, "one page at a time");
            let submitted = std::mem::take(&mut self.hub.port().submitted);
            assert!(submitted.len() <= 32, "{} in one tick", submitted.len());
            quiet = if wanted.is_empty() && submitted.is_empty() { quiet + 1 } else { 0 };
            for own in wanted {
                self.hub.mail(Mail::Read(Read(own).run(&self.view)));
            }
            submitted.into_iter().for_each(|command| self.submit.submit(command).unwrap());
            while self.sequencer.step().unwrap() == Step::Worked {}
            let told = std::mem::take(&mut *self.told.0.lock().unwrap());
            told.into_iter().for_each(|batch| self.hub.mail(Mail::Committed(batch)));
        }
        self.view.expired(None, u64::MAX, usize::MAX).unwrap().devices.len()
    }
}

#[test]
fn ten_thousand_starts_leave_what_ninety_days_allow() {
    let mut system = System::new();
    system.starts(0..4000);
    assert_eq!(system.forget(), 4000 * ROOMS, "nothing is old");
    system.pass(60 * DAY);
    system.starts(4000..8000);
    system.pass(31 * DAY);
    system.starts(8000..10_000);
    assert_eq!(system.forget(), 6000 * ROOMS);
    system.pass(60 * DAY);
    assert_eq!(system.forget(), 2000 * ROOMS);
    system.pass(31 * DAY);
    assert_eq!(system.forget(), 0);
}

#[test]
fn a_full_order_and_busy_readers_only_delay_it() {
    let mut system = System::new();
    system.starts(0..5);
    system.pass(91 * DAY);
    system.hub.port().busy = true;
    system.forget();
    assert!(system.hub.port().own_reads.is_empty());
    system.hub.port().busy = false;
    system.hub.port().refusal = Some(quip_order::SubmitError::Full { retry_after_ms: 50 });
    assert_eq!(system.forget(), 5 * ROOMS);
    system.hub.port().refusal = None;
    assert_eq!(system.forget(), 0);
}
