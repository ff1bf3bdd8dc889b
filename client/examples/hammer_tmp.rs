//! Temporary.
use quip_client::*;
use std::{process::{Child, Command, Stdio}, time::{Duration, Instant}, collections::BTreeMap};

fn spawn(relay: &str, dir: &str, config: &str) -> Child {
    Command::new(relay).args(["serve", "--config", config, "--data", dir, "--listen", "127.0.0.1:45999"])
        .stdout(Stdio::null()).stderr(std::fs::File::options().append(true).create(true).open("/tmp/quip/ct/relay.log").unwrap()).spawn().unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (relay, dir, config) = (&args[1], &args[2], &args[3]);
    let users: usize = args[4].parse().unwrap();
    let messages: usize = args[5].parse().unwrap();
    let kill_ms: u64 = args[6].parse().unwrap();
    let mut child = spawn(relay, dir, config);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let hex = std::fs::read_to_string(format!("{dir}/fingerprint")).unwrap();
    let hex: String = hex.chars().filter(|c| c.is_ascii_hexdigit()).collect();
    let mut fp = [0u8; 32];
    for i in 0..32 { fp[i] = u8::from_str_radix(&hex[2*i..2*i+2], 16).unwrap(); }
    let begun = Instant::now();
    let total = users * messages;
    let mut tasks = Vec::new();
    let room = format!("lobby:t{}", std::process::id());
    for u in 0..users {
        let room = room.clone();
        tasks.push(tokio::spawn(async move {
            let name: &'static str = Box::leak(format!("user{u}").into_boxed_str());
            let client = Client::connect(Config::new(["127.0.0.1:45999"], Trust::Fingerprint(fp), name)).await.expect("connect");
            if u==0 {println!("connected {:?}", begun.elapsed());} let conv = client.open(Target::room(&room).unwrap(), OpenOptions::join().start(Start::Beginning)).await.expect("open");
            if u==0 {println!("opened {:?}", begun.elapsed());} let (sender, mut events) = conv.split();
            let send = tokio::spawn(async move {
                let mut receipts = Vec::new();
                for m in 0..messages {
                    receipts.push((m, sender.send(&format!("{u}/{m}")).await.expect("send")));
                }
                let mut at = BTreeMap::new();
                for (m, r) in receipts { at.insert(r.accepted().await.expect("accepted").seq, m); }
                (sender, at)
            });
            let mut seen: Vec<OwnedEvent> = Vec::new();
            let mut texts = 0; let mut reconnected = 0;
            while texts < total {
                match tokio::time::timeout(Duration::from_secs(60), events.next()).await {
                    Ok(Some(ConversationEvent::Event(e))) => {
                        assert_eq!(e.seq, seen.last().map_or(1, |l| l.seq + 1));
                        texts += (e.kind == kind::TEXT) as usize; seen.push(e); }
                    Ok(Some(ConversationEvent::Reconnected)) => { if u==0 {println!("reconnected {:?}", begun.elapsed());} reconnected += 1},
                    Ok(Some(other)) => { if !matches!(other, ConversationEvent::CaughtUp) {println!("{u}: {other:?}");} }
                    Ok(None) => panic!("{u}: over, state {:?}", *client.state().borrow()),
                    Err(_) => panic!("{u}: stuck at {} texts {texts} of {total}, state {:?}", seen.len(), *client.state().borrow()),
                }
            }
            if u==0 {println!("read {:?}", begun.elapsed());} let (_s, at) = send.await.unwrap();
            for (seq, m) in &at { let e = &seen[*seq as usize - 1]; assert_eq!(e.text().unwrap(), format!("{u}/{m}")); }
            let order: Vec<usize> = at.values().copied().collect(); assert_eq!(order, (0..messages).collect::<Vec<_>>());
            client.close().await;
            if u==0 {println!("closed {:?}", begun.elapsed());} (seen, reconnected)
        }));
    }
    let all = futures_util::future::join_all(tasks);
    tokio::pin!(all);
    let mut kills = 0;
    let results = loop {
        tokio::select! {
            r = &mut all => break r,
            _ = tokio::time::sleep(Duration::from_millis(kill_ms)), if kill_ms > 0 => {
                if std::env::var("TERM_IT").is_ok() { Command::new("kill").arg(child.id().to_string()).status().unwrap(); } else { child.kill().unwrap(); } child.wait().unwrap(); kills += 1;
                child = spawn(relay, dir, config); println!("restarted {:?}", begun.elapsed());
            }
        }
    };
    let results: Vec<_> = results.into_iter().map(|r| r.unwrap()).collect();
    for (seen, _) in &results { assert_eq!(seen.iter().map(|e| (e.seq, e.user.clone(), e.body.clone(), e.at, e.number)).collect::<Vec<_>>(), results[0].0.iter().map(|e| (e.seq, e.user.clone(), e.body.clone(), e.at, e.number)).collect::<Vec<_>>()); }
    println!("ok: {} events x {users} readers, kills {kills}, reconnects {:?}, {:?}", results[0].0.len(), results.iter().map(|r| r.1).collect::<Vec<_>>(), begun.elapsed());
    child.kill().unwrap(); child.wait().unwrap();
}
