//! Temporary. crash_tmp parent FP ROUNDS | crash_tmp child FP DIR
use quip_client::*;
use std::{io::Write, time::Duration, collections::HashMap};
fn fp(hex: &str) -> [u8; 32] { let mut f = [0u8; 32]; for i in 0..32 { f[i] = u8::from_str_radix(&hex[2*i..2*i+2], 16).unwrap(); } f }
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let fp = fp(&args[2]);
    let dir = args[3].clone();
    let log = format!("{dir}/app.log");
    if args[1] == "child" {
        let client = Client::connect(Config::new(["127.0.0.1:45999"], Trust::Fingerprint(fp), "crasher").state(FileStore::open(format!("{dir}/state")).unwrap())).await.unwrap();
        let conv = client.open(Target::room("lobby:crash").unwrap(), OpenOptions::join().start(Start::Cursor)).await.unwrap();
        let (sender, mut events) = conv.split();
        let old = std::fs::read_to_string(&log).unwrap_or_default();
        let mut k: u64 = old.lines().filter_map(|l| l.strip_prefix("queued ")).filter_map(|l| l.parse().ok()).max().unwrap_or(0);
        let mut app = std::fs::File::options().append(true).create(true).open(&log).unwrap();
        let mut app2 = std::fs::File::options().append(true).create(true).open(format!("{dir}/seen.log")).unwrap();
        tokio::spawn(async move { while let Some(e) = events.next().await { if let ConversationEvent::Event(e) = e { app2.write_all(format!("{} {}\n", e.seq, e.text().unwrap_or("-")).as_bytes()).unwrap(); } } });
        loop {
            k += 1;
            app.write_all(format!("queued {k}\n").as_bytes()).unwrap();
            let _r = sender.send(&format!("m {k}")).await.unwrap();
            app.write_all(format!("sent {k}\n").as_bytes()).unwrap();
            if k % 20 == 0 { tokio::time::sleep(Duration::from_millis(2)).await; }
        }
    }
    let rounds: u64 = args[4].parse().unwrap();
    for round in 0..rounds {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap()).args(["child", &args[2], &dir]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(200 + (round * 37) % 300));
        child.kill().unwrap(); child.wait().unwrap();
    }
    // settle the outbox
    {
        let client = Client::connect(Config::new(["127.0.0.1:45999"], Trust::Fingerprint(fp), "crasher").state(FileStore::open(format!("{dir}/state")).unwrap())).await.unwrap();
        let conv = client.open(Target::room("lobby:crash").unwrap(), OpenOptions::join().start(Start::Now)).await.unwrap();
        let r = conv.send("end").await.unwrap().accepted().await.unwrap();
        println!("end at {r:?}");
        client.close().await;
    }
    let client = Client::connect(Config::new(["127.0.0.1:45999"], Trust::Fingerprint(fp), "reader")).await.unwrap();
    let mut conv = client.open(Target::room("lobby:crash").unwrap(), OpenOptions::join().start(Start::Beginning)).await.unwrap();
    let mut counts: HashMap<String, u32> = HashMap::new(); let mut order = Vec::new(); let mut last = 0;
    while let Some(e) = conv.next().await {
        if let ConversationEvent::Event(e) = e {
            assert_eq!(e.seq, last + 1); last = e.seq;
            if let Some(t) = e.text() { *counts.entry(t.to_owned()).or_default() += 1; if t == "end" { break; } order.push(t[2..].parse::<u64>().unwrap()); }
        }
    }
    let text = std::fs::read_to_string(&log).unwrap();
    let sent: Vec<u64> = text.lines().filter_map(|l| l.strip_prefix("sent ")).map(|l| l.parse().unwrap()).collect();
    for k in &sent { assert_eq!(counts.get(&format!("m {k}")), Some(&1), "message {k}"); }
    assert!(counts.values().all(|c| *c == 1)); assert!(order.windows(2).all(|w| w[0] < w[1]), "in order");
    let seen = std::fs::read_to_string(format!("{dir}/seen.log")).unwrap();
    let seqs: Vec<u64> = seen.lines().map(|l| l.split(' ').next().unwrap().parse().unwrap()).collect();
    let again = seqs.windows(2).filter(|w| w[1] <= w[0]).map(|w| w[0] - w[1] + 1).collect::<Vec<_>>();
    assert!(seqs.windows(2).all(|w| w[1] <= w[0] + 1), "no gap");
    println!("ok: sent {} of which all there once, {} in the log; events seen again after crashes: {again:?}", sent.len(), last);
    client.close().await;
}
