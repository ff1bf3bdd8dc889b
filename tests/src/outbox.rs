//! Sending much, as a client does that keeps to section 13 of WIRE.md.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use anyhow::{Result, ensure};
use quip_protocol::{Blob, Code, Retry, conversation::Post, event::kind, frame};
use tokio::time::Instant;

use crate::{
    raw::RawStream,
    talk::{Answer, Seen},
};

/// What sending many messages came to.
#[derive(Debug, Default)]
pub struct Sent {
    /// How often each code came; `DONE` for what was accepted.
    pub codes: HashMap<Code, usize>,
    /// Answers that decide, in order.
    pub decided: Vec<Answer>,
    /// Events that passed by, `Accepted` ones with them.
    pub seen: Vec<Seen>,
    /// The code with which the relay ended the stream, if it did so before everything was accepted.
    pub end: Option<Code>,
    /// The shortest pause that a refusal of the range Later asked for, in milliseconds.
    pub shortest_pause: Option<u64>,
}

impl RawStream {
    /// Posts all of these as data, numbered from `first` on, `at_once` without an answer at a time, and sends what is
    /// refused for now again as section 13 of WIRE.md says, until everything is decided or the relay ends the stream.
    ///
    /// # Errors
    /// When an answer is none, or the stream breaks.
    pub async fn send_all(&mut self, first: u64, bodies: &[Vec<u8>], at_once: usize) -> Result<Sent> {
        let (send, mut reading) = self.halves();
        let mut waiting: BTreeSet<u64> = (first..first + bodies.len() as u64).collect();
        let mut unanswered = BTreeSet::new();
        let mut sent = Sent::default();
        let mut pause = Instant::now();
        while sent.decided.len() < bodies.len() {
            if unanswered.is_empty() {
                tokio::time::sleep_until(pause).await;
            }
            let mut out = Vec::new();
            while Instant::now() >= pause
                && unanswered.len() < at_once
                && let Some(n) = waiting.pop_first()
            {
                unanswered.insert(n);
                frame::encode(&Post { n, kind: kind::DATA, body: Blob(&bodies[(n - first) as usize]) }, &mut out);
            }
            // When the relay has ended the stream, it takes no more, and the end is still to be read.
            let (_, frame) = tokio::join!(send.write_all(&out), reading.frame());
            let frame = frame?;
            sent.seen.extend(frame.seen());
            if let Ok((code, _)) = frame.end() {
                ensure!(reading.try_frame().await?.is_none(), "a frame after End");
                sent.end = Some(code);
                break;
            }
            let Some(answer) = frame.answer() else { continue };
            ensure!(unanswered.remove(&answer.n()), "an answer to nothing, or a second one: {answer:?}");
            *sent.codes.entry(answer.code()).or_default() += 1;
            match answer {
                // A later one was ordered when an earlier one was refused: it goes again, after that.
                Answer::Rejected(rejected) if rejected.code == Code::MISSING => drop(waiting.insert(rejected.n)),
                Answer::Rejected(rejected) if rejected.code.retry() == Retry::Later => {
                    // The relay drops what was sent after it.
                    waiting.extend(unanswered.split_off(&rejected.n));
                    waiting.insert(rejected.n);
                    pause = pause.max(Instant::now() + Duration::from_millis(rejected.retry_after));
                    let shortest = sent.shortest_pause.unwrap_or(u64::MAX);
                    sent.shortest_pause = Some(shortest.min(rejected.retry_after));
                }
                answer => sent.decided.push(answer),
            }
        }
        Ok(sent)
    }
}
