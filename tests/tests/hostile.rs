//! Clients that break the protocol: each gets its documented code, and nobody else notices.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use quip_protocol::{
    Blob, Code, ConversationId, DeviceId, InstanceId, Items, Message,
    conversation::{Ack, Delete, Leave, Mark, Open, Post, Remove, SetTitle, Start, Target},
    event::kind,
    frame, limit,
    request::{History, List, Members, PresenceIn},
    session::{Hello, Refresh, Signal},
};
use quip_relay::{
    auth::{MintKey, TokenRequest, mint},
    identity::SigningKey,
};
use quip_tests::{
    calm::Calm,
    raw::{Raw, RawOptions, raw_frame, varint},
    relay::{HOUR, Relay},
    talk::{FROM_THE_START, direct, room, until},
};

const DEVICE: DeviceId = DeviceId([7; 16]);

fn instance() -> InstanceId {
    InstanceId(rand::random())
}

async fn turned_away(relay: &Relay, token: &str) -> Result<Code> {
    let mut raw = Raw::connect(relay).await?;
    ensure!(raw.hello(token, DEVICE, instance()).await.is_err(), "welcomed");
    let code = raw.close_code().await?;
    let reason = format!("{:?}", raw.quic.close_reason());
    ensure!(token.len() < 20 || !reason.contains(token), "the reason repeats the token");
    Ok(code)
}

#[tokio::test]
async fn another_alpn_fails_the_handshake() -> Result<()> {
    let calm = Calm::new("").await?;
    for alpn in [&b"h3"[..], b"quip/2", b"quip"] {
        let options = RawOptions { alpn: alpn.to_vec(), ..RawOptions::default() };
        let error = Raw::connect_with(&calm.relay, options).await.err().context("a handshake with another ALPN")?;
        assert!(format!("{error:?}").contains("120"), "TLS alert 120 is no_application_protocol: {error:?}");
    }
    calm.whole().await
}

#[tokio::test]
async fn bad_tokens_are_turned_away_each_with_its_code() -> Result<()> {
    let calm = Calm::new("").await?;
    let relay = &calm.relay;
    let key = MintKey::own(&SigningKey::read(&relay.data())?.context("a key")?)?;
    let now = SystemTime::now();
    let request = TokenRequest::new("mallory", HOUR);
    let expired = mint(&key, &request, now - 2 * HOUR)?;
    let elsewhere = mint(&key, &TokenRequest { audience: "other", ..request.clone() }, now)?;
    let other_folder = tempfile::tempdir()?;
    let other_key = MintKey::own(&SigningKey::read_or_create(other_folder.path())?)?;
    let foreign = mint(&other_key, &request, now)?;
    let good = mint(&key, &request, now)?;
    let (_, signed) = good.split_once('.').context("a JWT")?;
    // {"alg":"none"} and {"alg":"HS256","typ":"JWT"}, over claims that were good.
    let unsigned = format!("eyJhbGciOiJub25lIn0.{signed}");
    let symmetric = format!("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.{signed}");
    let (head, tail) = good.split_at(good.rfind('.').context("a JWT")? - 4);
    let changed = format!("{head}AAAA{}", &tail[4..]);

    let cases: [(&str, &str, Code); 9] = [
        ("empty", "", Code::UNAUTHENTICATED),
        ("garbage", "not a token at all, but long enough", Code::UNAUTHENTICATED),
        ("the user's name", "mallory", Code::UNAUTHENTICATED),
        ("expired", &expired, Code::TOKEN_EXPIRED),
        ("wrong audience", &elsewhere, Code::WRONG_AUDIENCE),
        ("another key", &foreign, Code::UNAUTHENTICATED),
        ("alg none", &unsigned, Code::UNAUTHENTICATED),
        ("alg HS256", &symmetric, Code::UNAUTHENTICATED),
        ("changed claims", &changed, Code::UNAUTHENTICATED),
    ];
    for (name, token, code) in cases {
        assert_eq!(turned_away(relay, token).await.context(name)?, code, "{name}");
    }
    let too_long = "x".repeat(limit::TOKEN + 1);
    assert_eq!(turned_away(relay, &too_long).await?, Code::MALFORMED);
    let mut welcome = Raw::connect(relay).await?;
    assert_eq!(welcome.hello(&good, DEVICE, instance()).await?, "mallory", "the unchanged token is good");
    calm.whole().await
}

#[tokio::test]
async fn a_connection_without_a_hello_in_time_is_closed() -> Result<()> {
    let calm = Calm::new("[limits]\nunauthenticated = \"300ms\"\n[presence]\nsweep = \"50ms\"\n").await?;
    let (silent, halting, skipping) =
        (Raw::connect(&calm.relay).await?, Raw::connect(&calm.relay).await?, Raw::connect(&calm.relay).await?);
    let started = Instant::now();
    let mut half = halting.stream().await?;
    half.bytes(&raw_frame(Hello::TYPE, &[0; 40])[..20]).await?;
    let _session = skipping.stream().await?;
    let mut early = skipping.stream().await?;
    early.send(&Open::new(&room("calm:room"), 1, FROM_THE_START)).await?;
    for raw in [&silent, &halting, &skipping] {
        assert_eq!(raw.close_code().await?, Code::NO_HELLO);
    }
    assert!(started.elapsed() >= Duration::from_millis(200), "closed before the time was over");
    assert!(early.frame().await.is_err(), "nothing is answered before Hello");
    calm.whole().await
}

#[tokio::test]
async fn an_unknown_stream_is_reset_and_nothing_else() -> Result<()> {
    let mut calm = Calm::new("").await?;
    let mallory = Raw::login(&calm.relay, "mallory").await?;
    let post = frame::to_bytes(&Post { n: 1, kind: kind::TEXT, body: Blob(b"hi") });
    let firsts = [raw_frame(0x7e, b"even"), raw_frame(0x7f, b"odd"), raw_frame(0x1234, b""), post.to_vec()];
    for first in firsts {
        let mut stream = mallory.stream().await?;
        stream.bytes(&first).await?;
        assert_eq!(stream.reset_code().await?, Code::UNKNOWN_STREAM);
        assert_eq!(stream.stop_code().await?, Code::UNKNOWN_STREAM);
    }
    let (mut stream, _) = mallory.enter(&room("other:room")).await?;
    stream.post_accepted(2, "the connection lives on").await?;
    calm.still().await?;
    calm.whole().await
}

/// Where a case sends its bytes.
#[derive(Debug, Clone, Copy)]
enum At {
    /// The session stream before Hello.
    Door,
    /// The session stream.
    Session,
    /// A fresh stream.
    Fresh,
    /// A conversation stream, open.
    Open,
}

struct Case {
    name: &'static str,
    at: At,
    bytes: Vec<u8>,
    fin: bool,
    code: Code,
}

fn case(name: &'static str, at: At, bytes: impl Into<Vec<u8>>, code: Code) -> Case {
    Case { name, at, bytes: bytes.into(), fin: false, code }
}

fn violations() -> Vec<Case> {
    let hello = frame::to_bytes(&Hello {
        token: "x",
        device: DEVICE,
        instance: InstanceId([1; 16]),
        client: "raw",
        streams: 4,
        features: Items::default(),
    });
    let named = frame::to_bytes(&Hello {
        token: "x",
        device: DEVICE,
        instance: InstanceId([1; 16]),
        client: &"x".repeat(limit::TEXT + 1),
        streams: 4,
        features: Items::default(),
    });
    let post = frame::to_bytes(&Post { n: 2, kind: kind::TEXT, body: Blob(b"hi") });
    let list = frame::to_bytes(&List { after: ConversationId([0; 16]), limit: 1 });
    let over = varint(limit::FRAME as u64 + 1);
    let mut cases = vec![
        case("a frame over the limit at the door", At::Door, over.clone(), Code::FRAME_TOO_LARGE),
        case("a frame over the limit in the session", At::Session, over.clone(), Code::FRAME_TOO_LARGE),
        case("a frame over the limit on a fresh stream", At::Fresh, over.clone(), Code::FRAME_TOO_LARGE),
        case("a frame over the limit in a conversation", At::Open, over, Code::FRAME_TOO_LARGE),
        case("the largest length there is", At::Open, varint(u64::MAX), Code::FRAME_TOO_LARGE),
        case("a length that does not end", At::Open, [0xff; 11], Code::MALFORMED),
        case("a length over 64 bits", At::Open, [&[0xff; 9][..], &[0x02]].concat(), Code::MALFORMED),
        case("a length of 0", At::Open, [0], Code::MALFORMED),
        case("a type that does not end", At::Open, [&[11][..], &[0xff; 11]].concat(), Code::MALFORMED),
        case("a type cut off", At::Open, [1, 0x80], Code::MALFORMED),
        case("bytes left over in a post", At::Open, with_tail(&post, &[0]), Code::MALFORMED),
        case("bytes left over in a request", At::Fresh, with_tail(&list, &[0]), Code::MALFORMED),
        case("bytes left over in a hello", At::Door, with_tail(&hello, &[0]), Code::MALFORMED),
        case("an extension to understand in a request", At::Fresh, with_tail(&list, &[2, 0]), Code::UNKNOWN_EXTENSION),
        case("an extension to understand in a hello", At::Door, with_tail(&hello, &[2, 0]), Code::UNKNOWN_EXTENSION),
        case("an extension to understand in a mark", At::Open, raw_frame(0x34, &[1, 1, 2, 0]), Code::UNKNOWN_EXTENSION),
        case("an unknown command without a number", At::Open, raw_frame(0x7e, b""), Code::MALFORMED),
        case("an unknown command numbered 0", At::Open, raw_frame(0x7e, &[0]), Code::MALFORMED),
        case("an unknown even type in the session", At::Session, raw_frame(0x7e, b""), Code::UNKNOWN_TYPE),
        case("a post cut off", At::Open, raw_frame(Post::TYPE, &[2, 1, 200, 1, 7]), Code::MALFORMED),
        case("an empty post frame", At::Open, raw_frame(Post::TYPE, b""), Code::MALFORMED),
        case("a bool of 2", At::Open, raw_frame(Remove::TYPE, &[2, 1, b'x', 2]), Code::MALFORMED),
        case("a text that is not UTF-8", At::Open, raw_frame(SetTitle::TYPE, &[2, 1, 0xff]), Code::MALFORMED),
        case("an id cut off", At::Fresh, raw_frame(List::TYPE, &[0; 15]), Code::MALFORMED),
        case("a number over 64 bits", At::Open, raw_frame(Leave::TYPE, &[0xff; 10]), Code::MALFORMED),
        case(
            "a length of a text that cannot be",
            At::Open,
            raw_frame(SetTitle::TYPE, &[2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            Code::MALFORMED,
        ),
        case("a hello without a token's end", At::Door, raw_frame(Hello::TYPE, &[200, 1, b'x']), Code::MALFORMED),
        case("a hello with a long name of the client", At::Door, named.to_vec(), Code::MALFORMED),
        case("a second hello", At::Session, hello.to_vec(), Code::UNEXPECTED),
        case("a hello elsewhere", At::Fresh, hello.to_vec(), Code::UNEXPECTED),
        case("a hello in a conversation", At::Open, hello.to_vec(), Code::UNEXPECTED),
        case("a post in the session", At::Session, post.to_vec(), Code::UNEXPECTED),
        case("a refresh and no hello", At::Door, &frame::to_bytes(&Refresh { token: "x" })[..], Code::NO_HELLO),
        case("a request in a conversation", At::Open, list.to_vec(), Code::UNEXPECTED),
        case("a second request on a stream", At::Fresh, [&list[..], &list[..]].concat(), Code::UNEXPECTED),
        case("a post on a request's stream", At::Fresh, [&list[..], &post[..]].concat(), Code::UNEXPECTED),
        case(
            "an unknown even type on a request's stream",
            At::Fresh,
            [&list[..], &[1, 0x7e]].concat(),
            Code::UNKNOWN_TYPE,
        ),
        case(
            "an open in a conversation",
            At::Open,
            &frame::to_bytes(&Open::new(&direct("x"), 0, Start::Now))[..],
            Code::UNEXPECTED,
        ),
        case(
            "a relay's message",
            At::Open,
            &frame::to_bytes(&Ack { n: 1, seq: 1, number: 1, at: 1 })[..],
            Code::UNEXPECTED,
        ),
        case("a relay's odd message in a conversation", At::Open, raw_frame(0x15, b""), Code::UNEXPECTED),
        case("a relay's odd message in the session", At::Session, raw_frame(0x17, b""), Code::UNEXPECTED),
        case("a datagram's message on a stream", At::Open, raw_frame(0x61, b""), Code::UNEXPECTED),
        case(
            "a post of no kind",
            At::Open,
            &frame::to_bytes(&Post { n: 2, kind: 0, body: Blob(b"x") })[..],
            Code::UNEXPECTED,
        ),
        case(
            "a post of a tombstone",
            At::Open,
            &frame::to_bytes(&Post { n: 2, kind: kind::TOMBSTONE, body: Blob(b"x") })[..],
            Code::UNEXPECTED,
        ),
        case(
            "n = 0",
            At::Open,
            &frame::to_bytes(&Post { n: 0, kind: kind::TEXT, body: Blob(b"x") })[..],
            Code::MALFORMED,
        ),
    ];
    for (name, at, bytes) in [
        ("finished inside a length", At::Open, vec![0x80]),
        ("finished inside a post", At::Open, post[..post.len() - 1].to_vec()),
        ("finished inside a request", At::Fresh, list[..9].to_vec()),
        ("finished inside a second request", At::Fresh, [&list[..], &list[..9]].concat()),
        ("finished inside a hello", At::Door, hello[..9].to_vec()),
        ("finished inside a refresh", At::Session, raw_frame(Refresh::TYPE, b"abc")[..2].to_vec()),
    ] {
        cases.push(Case { name, at, bytes, fin: true, code: Code::TRUNCATED });
    }
    cases
}

fn with_tail(frame: &[u8], tail: &[u8]) -> Vec<u8> {
    assert!(frame[0] < 0x70, "a short frame");
    [&[frame[0] + tail.len() as u8][..], &frame[1..], tail].concat()
}

#[tokio::test]
async fn each_violation_closes_the_connection_with_its_code() -> Result<()> {
    let mut calm = Calm::new("").await?;
    let mut wrong = Vec::new();
    for (index, case) in violations().into_iter().enumerate() {
        let got = violate(&calm.relay, index, &case).await.with_context(|| case.name)?;
        if got != case.code {
            wrong.push(format!("{}: {got:?} instead of {:?}", case.name, case.code));
        }
    }
    calm.still().await?;
    assert!(wrong.is_empty(), "{wrong:#?}");
    calm.whole().await
}

async fn violate(relay: &Relay, index: usize, case: &Case) -> Result<Code> {
    let mut raw = match case.at {
        At::Door => Raw::connect(relay).await?,
        _ => Raw::login(relay, &format!("mallory-{index}")).await?,
    };
    let mut stream = match case.at {
        At::Door | At::Fresh => raw.stream().await?,
        At::Session => raw.session.take().context("a session")?,
        At::Open => raw.enter(&room(&format!("mallory:{index}"))).await?.0,
    };
    stream.bytes(&case.bytes).await?;
    if case.fin {
        stream.send.finish()?;
    }
    raw.close_code().await
}

#[tokio::test]
async fn what_may_be_skipped_is_skipped() -> Result<()> {
    let calm = Calm::new("").await?;
    let mut mallory = Raw::login(&calm.relay, "mallory").await?;
    let (mut stream, _) = mallory.enter(&room("other:room")).await?;
    let session = mallory.session.as_mut().context("a session")?;
    // Whatever their bodies, up to the largest frame there is.
    for body in [&b""[..], b"anything", &vec![0xff; limit::FRAME - 2]] {
        let odd = raw_frame(0x1235, body);
        session.bytes(&odd).await?;
        stream.bytes(&odd).await?;
    }
    stream.post_accepted(2, "the connection lives on").await?;
    session.send(&Refresh { token: &calm.relay.token("mallory")? }).await?;
    assert!(session.frame().await?.to::<quip_protocol::session::Refreshed>().is_some());
    calm.whole().await
}

#[tokio::test]
async fn a_stream_given_up_inside_a_frame_is_just_closed() -> Result<()> {
    let calm = Calm::new("").await?;
    let mallory = Raw::login(&calm.relay, "mallory").await?;
    drop(mallory.enter(&room("other:room")).await?);
    for round in 0..20 {
        let mut open = None;
        until("the relay has closed the stream before", async || {
            let (stream, first) = mallory.open(&room("other:room"), 0, Start::Now).await?;
            open = first.opened().is_ok().then_some(stream);
            Ok(open.is_some())
        })
        .await?;
        let mut stream = open.context("open")?;
        stream.bytes(&[40, 0x22, 9]).await?;
        if round % 2 == 0 {
            stream.recv.stop(0u32.into())?;
        }
        stream.send.reset(0u32.into())?;
    }
    assert!(mallory.quic.close_reason().is_none(), "{:?}", mallory.quic.close_reason());
    calm.whole().await
}

#[tokio::test]
async fn a_hidden_conversation_looks_like_a_missing_one() -> Result<()> {
    let calm = Calm::new("").await?;
    let alice = Raw::login(&calm.relay, "alice").await?;
    let group = ConversationId::group(rand::random());
    let (_group, _) = alice.enter(&Target::NewGroup(group)).await?;
    let (_direct, direct_opening) = alice.enter(&direct("bob")).await?;
    let (_room, room_opening) = alice.enter(&room("secret:room")).await?;
    // Grants nothing, so that rooms are as closed as groups.
    let token = calm.relay.token_for(&TokenRequest::new("mallory", HOUR))?;
    let mut mallory = Raw::connect(&calm.relay).await?;
    mallory.hello(&token, DEVICE, instance()).await?;

    let mut other_direct = direct_opening.id;
    other_direct.0[7] ^= 1;
    let mut other_room = room_opening.id;
    other_room.0[7] ^= 1;
    let none = ConversationId::group(rand::random());
    for (there, not_there) in [(group, none), (direct_opening.id, other_direct), (room_opening.id, other_room)] {
        for join in [0, 5, 1] {
            let start = Start::Last(5);
            let answers = [
                answer_of(&mallory, &Open::new(&Target::Id(there), join, start)).await?,
                answer_of(&mallory, &Open::new(&Target::Id(not_there), join, start)).await?,
            ];
            assert_eq!(answers[0], answers[1], "{there} with join {join}");
        }
        let history = |conversation| History { conversation, forward: false, from: 0, limit: 9 };
        let members = |conversation| Members { conversation, after: "", limit: 9 };
        let presence = |conversation| PresenceIn { conversation, after: "", limit: 9 };
        assert_eq!(answer_of(&mallory, &history(there)).await?, answer_of(&mallory, &history(not_there)).await?);
        assert_eq!(answer_of(&mallory, &members(there)).await?, answer_of(&mallory, &members(not_there)).await?);
        assert_eq!(answer_of(&mallory, &presence(there)).await?, answer_of(&mallory, &presence(not_there)).await?);
    }
    assert_eq!(mallory.refused(&Target::Id(group), 0, Start::Now).await?, (Code::NOT_FOUND, 0));
    assert_eq!(mallory.refused(&room("secret:room"), 1, Start::Now).await?.0, Code::FORBIDDEN);
    assert_eq!(mallory.refused(&room("no:room"), 1, Start::Now).await?.0, Code::FORBIDDEN);
    let (entries, end) = mallory.ask(&List { after: ConversationId([0; 16]), limit: 100 }).await?;
    assert_eq!((entries, end), (vec![], (Code::DONE, 0)), "nothing came into mallory's list");
    calm.whole().await
}

/// Every byte of the answer to one frame.
async fn answer_of<M: Message>(raw: &Raw, message: &M) -> Result<Vec<u8>> {
    let mut stream = raw.stream().await?;
    stream.send(message).await?;
    Ok(stream.recv.read_to_end(1 << 16).await?)
}

#[tokio::test]
async fn tombstones_larger_than_what_they_replace_do_no_harm() -> Result<()> {
    let calm = Calm::new("[limits]\nmessages_per_second = 0\n").await?;
    let alice = Raw::login(&calm.relay, "alice").await?;
    let (mut stream, opening) = alice.enter(&room("other:room")).await?;
    for n in 2..=140 {
        stream.post_accepted(n, "x").await?;
    }
    for target in 2..=140 {
        stream.done(&Delete { n: 139 + target, target }).await?;
    }
    stream.send.finish()?;
    assert_eq!(stream.try_frame().await?, None);
    let history = alice.history(opening.id).await?;
    assert_eq!(history.iter().filter(|event| event.kind == kind::TOMBSTONE).count(), 139);
    calm.whole().await
}

#[tokio::test]
async fn malformed_datagrams_are_dropped() -> Result<()> {
    let calm = Calm::new("[limits]\nmessages_per_second = 0\n").await?;
    let (alice, bob) = (Raw::login(&calm.relay, "alice").await?, Raw::login(&calm.relay, "bob").await?);
    let (at_alice, _) = alice.enter(&room("other:room")).await?;
    let (at_bob, _) = bob.enter(&room("other:room")).await?;
    let stream = u64::from(quinn::VarInt::from(at_bob.send.id()));
    let heard_as = u64::from(quinn::VarInt::from(at_alice.send.id()));
    let signal = |channel, kind, body| frame::to_datagram(&Signal { channel, user: "alice", kind, body: Blob(body) });
    let good = signal(stream, 1, b"");
    let dropped = [
        bytes::Bytes::new(),
        bytes::Bytes::from_static(&[0xff; 20]),
        bytes::Bytes::from_static(&[0x60]),
        good.slice(..good.len() - 1),
        [&good[..], b"x"].concat().into(),
        signal(stream, 2, b"a reserved kind"),
        signal(stream, 0, b"a reserved kind"),
        signal(stream + 4, 1, b"no conversation"),
        signal(0, 1, b"the session"),
        signal(stream, 16, &[7; limit::SIGNAL + 1]),
    ];
    for datagram in dropped {
        bob.quic.send_datagram_wait(datagram).await?;
    }
    bob.quic.send_datagram_wait(signal(stream, 16, &[7; limit::SIGNAL])).await?;
    let heard = tokio::time::timeout(quip_tests::relay::PATIENCE, alice.quic.read_datagram()).await??;
    let signal: Signal<'_> = frame::decode(frame::from_datagram(&heard)?.body)?;
    assert_eq!((signal.channel, signal.user, signal.kind, signal.body.0.len()), (heard_as, "bob", 16, limit::SIGNAL));
    calm.whole().await
}

#[tokio::test]
async fn marks_beyond_the_head_are_limited_to_it() -> Result<()> {
    let calm = Calm::new("").await?;
    let alice = Raw::login(&calm.relay, "alice").await?;
    let bob = Raw::login(&calm.relay, "bob").await?;
    let (mut stream, _) = alice.enter(&room("other:room")).await?;
    bob.enter(&room("other:room")).await?.0.post_accepted(2, "one").await?;
    stream.send(&Mark { seq: u64::MAX, number: u64::MAX }).await?;
    let mut session = alice.session.context("a session")?;
    let frame = session.frame().await?;
    let marked = frame.to::<quip_protocol::session::Marked>().context("a mark")?;
    assert_eq!((marked.seq, marked.number), (3, 1));
    calm.whole().await
}
