//! What one user does with the relay's memory and readers, others do not feel.

use anyhow::{Result, ensure};
use quip_protocol::{
    Code, ConversationId,
    conversation::{Add, Start, Target},
};
use quip_tests::{
    raw::{Raw, RawOptions},
    relay::Relay,
    talk::{Answer, room},
};

/// As little memory for recent events as there may be.
const LITTLE: &str = "[limits]\nmessages_per_second = 0\nadded_by_one_per_hour = 0\nring_bytes = \"1MiB\"\n";

/// Messages in a room, and how many of them were answered in their event's place: by a stream that follows from memory.
async fn answered_in_place(raw: &Raw, name: &str, messages: u64) -> Result<u64> {
    let (mut stream, _) = raw.enter(&room(name)).await?;
    let mut in_place = 0;
    for n in 2..2 + messages {
        stream.post(n, &"y".repeat(3000)).await?;
        let answer = stream.answer().await?;
        ensure!(answer.code() == Code::DONE, "{answer:?}");
        in_place += u64::from(matches!(answer, Answer::Accepted(_)));
    }
    Ok(in_place)
}

#[tokio::test]
async fn a_reader_who_does_not_read_takes_no_memory_from_others() -> Result<()> {
    const GROUPS: usize = 63;
    let relay = Relay::with(LITTLE)?;
    let stranger = Raw::login(&relay, "stranger").await?;
    assert_eq!(answered_in_place(&stranger, "quiet:before", 20).await?, 20);
    let tiny = RawOptions { stream_window: 20, ..RawOptions::default() };
    let (deaf, poster) = (Raw::login_as(&relay, "deaf", 1, tiny).await?, Raw::login(&relay, "poster").await?);
    let mut groups = Vec::new();
    for _ in 0..GROUPS {
        let id = ConversationId::group(rand::random());
        let (mut unread, _) = deaf.enter(&Target::NewGroup(id)).await?;
        unread.done(&Add { n: 2, user: "poster" }).await?;
        groups.push((unread, poster.reopen(&Target::Id(id), Start::Now).await?.0));
    }
    // Large messages first and then smaller ones, so that hardly a byte is free.
    for (index, (_, posting)) in groups.iter_mut().enumerate() {
        let size = [16 << 10, 3000, 700, 100][index / 16];
        let sent = posting.send_all(1, &vec![vec![b'x'; size]; 30], 8).await?;
        ensure!(sent.codes.get(&Code::DONE) == Some(&30), "{:?}", sent.codes);
    }
    assert_eq!(answered_in_place(&stranger, "quiet:beside", 20).await?, 20, "from memory");
    Ok(())
}
