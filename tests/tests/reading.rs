//! The threads that read are for everyone: nobody can keep them busy for others.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quip_protocol::{
    Code, ConversationId, Retry,
    conversation::{End, Mark, Open, Start},
    request::{History, List},
    session::Marked,
};
use quip_tests::{
    raw::{Raw, RawStream},
    relay::Relay,
    talk::{FROM_THE_START, room, until},
};
use tokio::time::sleep;

const ROOMS: usize = 20;

fn name(index: usize) -> String {
    format!("large:{index}")
}

/// Enters one of the rooms. The one before it may still be read.
async fn enter(raw: &Raw, index: usize) -> Result<(RawStream, ConversationId)> {
    loop {
        let (stream, first) = raw.open(&room(&name(index)), 1, Start::Now).await?;
        match first.to::<End<'_>>() {
            Some(End { code: Code::BUSY, retry_after, .. }) => sleep(Duration::from_millis(retry_after)).await,
            _ => return Ok((stream, first.opened()?.id)),
        }
    }
}

/// Rooms with a quarter of a mebibyte each, of a user.
async fn fill(raw: &Raw) -> Result<Vec<(RawStream, ConversationId)>> {
    let mut rooms = Vec::new();
    for index in 0..ROOMS {
        let (mut stream, id) = enter(raw, index).await?;
        stream.send_all(2, &vec![vec![index as u8; 16 << 10]; 16], 16).await?;
        rooms.push((stream, id));
    }
    Ok(rooms)
}

#[tokio::test]
async fn one_connection_does_not_fill_the_readers_queue() -> Result<()> {
    let relay = Relay::with("[limits]\nmessages_per_second = 0\n[store]\nreaders = 1\nreads_waiting = 8\n")?;
    let (bob, mallory) = (Raw::login(&relay, "bob").await?, Raw::login(&relay, "mallory").await?);
    let (mut calm, _) = bob.enter(&room("calm:room")).await?;
    let ids: Vec<_> = fill(&mallory).await?.into_iter().map(|(_, id)| id).collect();
    // Asks for much and gives up at once, and again.
    let flood = async {
        loop {
            let mut streams = Vec::new();
            for (index, id) in ids.iter().enumerate() {
                let mut stream = mallory.stream().await?;
                if index % 2 == 0 {
                    stream.send(&Open::new(&room(&name(index)), 0, FROM_THE_START)).await?;
                } else {
                    stream.send(&History { conversation: *id, forward: true, from: 0, limit: 100 }).await?;
                }
                streams.push(stream);
            }
            // Long enough to be read by the relay, not by its readers.
            tokio::time::sleep(Duration::from_millis(1)).await;
            for mut stream in streams {
                stream.send.reset(0u32.into())?;
                stream.recv.stop(0u32.into())?;
            }
        }
        #[expect(unreachable_code, reason = "says what a failure is")]
        anyhow::Ok(())
    };
    let beside = async {
        for n in 2..200 {
            let (_, end) = bob.ask(&List { after: ConversationId([0; 16]), limit: 10 }).await?;
            ensure!(end == (Code::DONE, 0), "{end:?} for bob, who asks for little");
            calm.post_accepted(n, "still here").await?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        flooded = flood => flooded,
        beside = beside => beside,
    }
}

#[tokio::test]
async fn busy_readers_delay_requests_and_lose_none() -> Result<()> {
    let limits = "[limits]\nmessages_per_second = 0\nreads_per_user = 64\n";
    let relay = Relay::with(&format!("{limits}[store]\nreaders = 1\nreads_waiting = 1\ncached_records = 16\n"))?;
    let (alice, mut bob) = (Raw::login(&relay, "alice").await?, Raw::login(&relay, "bob").await?);
    let mut rooms = fill(&alice).await?;
    let mut at_bob = Vec::new();
    for index in 0..ROOMS {
        at_bob.push(enter(&bob, index).await?.0);
    }

    // Requests.
    let mut refused = 0;
    until("a request is refused", async || {
        let ask = async |id| {
            let ask = History { conversation: id, forward: true, from: 0, limit: 100 };
            let mut stream = alice.stream().await?;
            stream.send(&ask).await?;
            let first = stream.frame().await?;
            let Some(end) = first.to::<End<'_>>() else { return anyhow::Ok(0) };
            ensure!((end.code, end.code.retry(), end.retry_after) == (Code::BUSY, Retry::Later, 100), "{end:?}");
            Ok(1)
        };
        let (a, b, c, d) = tokio::join!(ask(rooms[0].1), ask(rooms[1].1), ask(rooms[2].1), ask(rooms[3].1));
        refused += a? + b? + c? + d?;
        Ok(refused > 0)
    })
    .await?;

    // Commands and marks, of which each is the first of its stream since the sequencer's memory has turned over.
    let mut n = 18;
    let mut codes = std::collections::HashMap::<Code, usize>::new();
    until("a command is refused", async || {
        for (stream, _) in &mut rooms {
            stream.data(n, b"one more").await?;
        }
        for (stream, _) in &mut rooms {
            loop {
                let answer = stream.answer().await?;
                *codes.entry(answer.code()).or_default() += 1;
                if answer.code() == Code::DONE {
                    break;
                }
                ensure!(answer.code() == Code::BUSY, "{answer:?}");
                stream.data(n, b"one more").await?;
            }
        }
        // A mark reaches to the newest event at most. What alice says she has read.
        let seq = n + 1;
        for stream in &mut at_bob {
            stream.send(&Mark { seq, number: n - 1 }).await?;
        }
        let mut marked = std::collections::HashSet::new();
        while marked.len() < ROOMS {
            let frame = bob.told::<Marked>().await?;
            let mark = frame.to::<Marked>().context("a mark")?;
            if mark.seq == seq {
                marked.insert(mark.conversation.0);
            }
        }
        n += 1;
        Ok(codes.contains_key(&Code::BUSY))
    })
    .await?;
    println!("{refused} requests refused; {codes:?}");
    for (_, id) in &rooms {
        assert_eq!(alice.history(*id).await?.len() as u64, n);
    }
    Ok(())
}
