//! One user of one file, on its own connection.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use quip_client::{Client, Receipt, UserId};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    plan::Action,
    run::{Run, Stay},
};

/// An action and its due time, in microseconds from the start of the run.
pub(crate) type Cue = (u64, Action);

/// Performs the actions. At the end, leaves the room, waits for all receipts and disconnects.
pub(crate) async fn act(run: Arc<Run>, user: UserId, mut cues: mpsc::UnboundedReceiver<Cue>) -> Result<(), String> {
    let (receipts, waiting) = mpsc::unbounded_channel();
    let mut collector = JoinSet::new();
    collector.spawn(collect(Arc::clone(&run), waiting));
    let number = run.ledger().enroll(&user);
    let mut actor = Actor { run, user, number, client: None, stay: None, left: 0, receipts, trouble: None };
    while let Some((due, action)) = cues.recv().await {
        actor.perform(due, action).await;
    }
    actor.leave().await;
    let Actor { client, receipts, trouble, user, .. } = actor;
    drop(receipts);
    collector.join_next().await;
    if let Some(client) = client {
        client.close().await;
    }
    trouble.map_or(Ok(()), |trouble| Err(format!("{user}: {trouble}")))
}

struct Actor {
    run: Arc<Run>,
    user: UserId,
    /// The user's number in the ledger.
    number: usize,
    client: Option<Client>,
    stay: Option<Stay>,
    /// Seq of the last leave.
    left: u64,
    receipts: mpsc::UnboundedSender<(usize, Receipt)>,
    /// The first error.
    trouble: Option<String>,
}

impl Actor {
    async fn perform(&mut self, due: u64, action: Action) {
        match action {
            Action::Connect => self.connect().await,
            Action::Join => self.join().await,
            Action::Say(text) => self.say(due, &text).await,
            Action::Leave => self.leave().await,
        }
    }

    async fn connect(&mut self) {
        match self.run.stage.connect(&self.user).await {
            Ok(client) => {
                self.run.counts.connections.fetch_add(1, Relaxed);
                self.client = Some(client);
            }
            Err(error) => self.fail(format!("cannot connect: {error}")),
        }
    }

    async fn join(&mut self) {
        let Some(client) = &self.client else { return };
        match self.run.enter(client, &self.user, self.left).await {
            Ok(stay) => self.stay = Some(stay),
            Err(error) => self.fail(format!("cannot join: {error}")),
        }
    }

    /// Hands a line to the library, which waits only at the limit of unanswered commands.
    async fn say(&mut self, due: u64, text: &str) {
        let line = {
            let now = self.run.now();
            self.run.ledger().send(self.number, text, due, now)
        };
        let Some(stay) = &self.stay else { return };
        match stay.sender.send(text).await {
            Ok(receipt) => {
                self.run.counts.sent.fetch_add(1, Relaxed);
                // The collector outlives the sender.
                let _ = self.receipts.send((line, receipt));
            }
            Err(error) => self.fail(format!("a line was not sent: {error}")),
        }
    }

    /// Leaves, and waits for every event up to the leave.
    async fn leave(&mut self) {
        let Some(mut stay) = self.stay.take() else { return };
        let left = match stay.sender.leave().await {
            Ok(receipt) => receipt.accepted().await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match left {
            Ok(accepted) => {
                self.left = accepted.seq;
                self.run.ledger().followers[stay.follower].left = Some(accepted.seq);
                stay.reader.join_next().await;
            }
            Err(error) => self.fail(format!("cannot leave: {error}")),
        }
    }

    fn fail(&mut self, what: String) {
        self.trouble.get_or_insert(what);
    }
}

/// Records the seqs of accepted lines.
async fn collect(run: Arc<Run>, mut waiting: mpsc::UnboundedReceiver<(usize, Receipt)>) {
    while let Some((line, receipt)) = waiting.recv().await {
        // A refused line keeps seq 0, which the checker reports.
        if let Ok(accepted) = receipt.accepted().await {
            run.counts.accepted.fetch_add(1, Relaxed);
            run.ledger().accept(line, accepted.seq);
        }
    }
}
