//! What readers see while the sequencer writes and the engine flushes.

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use quip_core::{Action, Authority, By, Command, JoinAs};

use super::*;
use crate::{Committed, Sequencer, SequencerConfig, Sink, View};

/// Passes on how many commands were decided.
struct Count(mpsc::Sender<usize>);

impl Sink for Count {
    fn committed(&self, batch: &Arc<Committed>) {
        _ = self.0.send(batch.changes.len());
    }
}

const DEVICE: DeviceId = DeviceId([1; 16]);
/// Commands that are under way at a time, so that commits hold several.
const WINDOW: usize = 32;
const ROUNDS: usize = 300;

fn command(n: u64, action: Action) -> Command {
    Command {
        conversation: id(),
        by: By::Device { user: ann(), device: DEVICE, n },
        authority: Authority { join: true, create: true, post: true, ..Authority::default() },
        action,
    }
}

/// Reads records that change together, one before and one behind each other, and the newest events.
fn look(view: &View) -> Result<(), ReadError> {
    // The join, which is no event here, comes before the first message.
    let messages = || Ok::<_, ReadError>(view.sends(id(), &ann(), DEVICE)?.map_or(0, |sends| sends.last.max(1) - 1));
    let before = messages()?;
    let Some(conversation) = view.conversation(id())? else { return Ok(()) };
    let after = messages()?;
    assert!(
        (before..=after).contains(&conversation.head),
        "{} messages, {before} outcomes before, {after} after",
        conversation.head
    );
    let limit = PageLimit { bytes: usize::MAX, events: 2 * WINDOW };
    let newest = view.page(id(), 1..=u64::MAX, Direction::Backward, limit)?;
    assert!(newest.last >= conversation.head, "the head {} is there, not only {}", conversation.head, newest.last);
    Ok(())
}

#[test]
fn a_commit_is_seen_whole_or_not_at_all_while_the_engine_flushes() {
    let folder = folder();
    let store = open(&folder).unwrap();
    let (view, inner) = (store.view(), store.inner.clone());
    let (submit, order) = order(&MemoryLog::new(GENERATION));
    let (tell, told) = mpsc::channel();
    let sequencer = Sequencer::start(store, order, vec![Box::new(Count(tell))], SequencerConfig::default()).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| sequencer.run().unwrap());
        for _ in 0..2 {
            let (over, inner) = (&over, &inner);
            scope.spawn(move || until(over, || inner.engine.checkpoint().unwrap()));
        }
        let reader = || until(&over, || look(&view).unwrap_or_else(|error| panic!("{error}")));
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        submit.submit(command(1, Action::Join(JoinAs::Room("test:room".to_owned())))).unwrap();
        'rounds: for round in 0..ROUNDS {
            for n in 0..WINDOW {
                let n = (round * WINDOW + n) as u64 + 2;
                submit.submit(command(n, Action::Post { kind: 1, body: "x".into() })).unwrap();
            }
            let mut decided = 0;
            while decided < WINDOW - 1 {
                let Ok(more) = told.recv() else { break 'rounds };
                decided += more;
            }
            if readers.iter().any(|reader| reader.is_finished()) {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        submit.close();
    });
}

fn until(over: &AtomicBool, work: impl Fn()) {
    while !over.load(Ordering::Relaxed) {
        work();
    }
}
