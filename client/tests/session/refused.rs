//! Refusals for now that last longer than the app waits: it gets the reason.

use std::time::Duration;

use quip_client::{Code, FileStore, OpenError, OpenOptions, RequestError, StateStore, Target};
use quip_protocol::{ToRelay, conversation::End};

use super::{
    connect_with,
    fake::{Relay, Session, soon},
};

/// Answers whatever is asked.
async fn refuse(session: Session, code: Code, retry_after: Duration) {
    let retry_after = retry_after.as_millis() as u64;
    let end = End { code, retry_after, info: 0, text: "" };
    loop {
        let mut stream = session.stream().await;
        assert!(stream.next(|message| matches!(message, ToRelay::Open(_) | ToRelay::List(_))).await);
        stream.put(&end).await;
        stream.send.finish().expect("open");
    }
}

#[tokio::test]
async fn an_hour_is_not_waited_for_and_a_group_that_was_not_made_leaves_nothing() {
    let (relay, folder) = (Relay::start(), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("state");
    let config = relay.config().state(FileStore::open(&path).expect("a store"));
    let (client, session) = connect_with(&relay, config.answer_timeout(Duration::from_secs(600)), &[]).await;
    let (code, hour) = (Code::TOO_MANY_CREATED, Duration::from_secs(3600));
    let refusing = tokio::spawn(refuse(session, code, hour));
    let error = soon(client.open(Target::new_group(), OpenOptions::join())).await.err().expect("refused");
    println!("{error}");
    assert!(
        matches!(error, OpenError::Refused { code: found, retry_after, .. } if found == code && retry_after == hour)
    );
    assert!(error.may_retry() && error.to_string().contains("1 hour"), "{error}");
    refusing.abort();
    soon(client.close()).await;
    drop(client);
    let saved = FileStore::open(&path).and_then(|mut store| store.load()).expect("a store");
    assert!(saved.conversations.is_empty(), "{saved:?}");
}

#[tokio::test]
async fn the_last_refusal_is_the_reason_when_the_time_is_over() {
    let relay = Relay::start();
    let config = relay.config().answer_timeout(Duration::from_millis(300));
    let (client, session) = connect_with(&relay, config, &[]).await;
    let refusing = tokio::spawn(refuse(session, Code::RATE, Duration::from_millis(50)));
    let opened = soon(client.open(Target::new_group(), OpenOptions::join())).await.err().expect("refused");
    assert!(matches!(opened, OpenError::Refused { code: Code::RATE, .. }), "{opened}");
    let asked = soon(client.list(None, 1)).await.expect_err("refused");
    assert!(matches!(asked, RequestError::Refused { code: Code::RATE, .. }), "{asked}");
    refusing.abort();
}

#[tokio::test]
async fn a_request_that_is_put_off_for_an_hour_is_refused_at_once() {
    let relay = Relay::start();
    let config = relay.config().answer_timeout(Duration::from_secs(600));
    let (client, session) = connect_with(&relay, config, &[]).await;
    let refusing = tokio::spawn(refuse(session, Code::RATE, Duration::from_secs(3600)));
    let asked = soon(client.list(None, 1)).await.expect_err("refused");
    assert!(matches!(asked, RequestError::Refused { code: Code::RATE, .. }), "{asked}");
    refusing.abort();
}
