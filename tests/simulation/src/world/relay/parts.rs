//! The relay's threads as tasks: the sequencer and the readers, as slow as a disk may be.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use quip_relay::{hub::Phase, net::RunReads};
use quip_store::{Busy, Job, Sequencer, Step, View};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::sleep,
};

use crate::host::Host;

/// How long a disk takes, in microseconds at most.
#[derive(Clone, Copy)]
pub(super) struct Pace(u64);

impl Pace {
    /// Draws the pace of a disk.
    pub(super) fn draw(host: &Host) -> Self {
        Self([0, 500, 5_000, 100_000][host.draw(4) as usize])
    }

    async fn wait(self, host: &Host) {
        if self.0 > 0 {
            sleep(Duration::from_micros(host.draw(self.0))).await;
        }
    }
}

/// Runs the sequencer until its order has ended, and then ends the relay.
pub(super) async fn sequence(
    mut sequencer: Sequencer,
    wake: Arc<Notify>,
    phase: watch::Sender<Phase>,
    host: Host,
    pace: Pace,
) {
    loop {
        pace.wait(&host).await;
        match sequencer.step().expect("a log and a store in memory never fail") {
            Step::Worked => {}
            Step::Idle => wake.notified().await,
            Step::Ended => break,
        }
    }
    phase.send_replace(Phase::Stopping);
}

/// Reads of the store, one after the other.
pub(super) struct Reads {
    jobs: mpsc::UnboundedSender<Job>,
    waiting: Arc<AtomicUsize>,
    most: usize,
}

impl Reads {
    /// Starts the task that reads.
    pub(super) fn start(host: &Host, view: View, most: usize, pace: Pace) -> Self {
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (on, left) = (host.clone(), waiting.clone());
        host.spawn(async move {
            while let Some(job) = queue.recv().await {
                pace.wait(&on).await;
                left.fetch_sub(1, Ordering::Relaxed);
                job(&view);
            }
        });
        Self { jobs, waiting, most }
    }
}

impl RunReads for Reads {
    fn run(&self, job: Job) -> Result<(), Busy> {
        if self.waiting.load(Ordering::Relaxed) >= self.most {
            return Err(Busy);
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.jobs.send(job).map_err(|_| Busy)
    }
}
