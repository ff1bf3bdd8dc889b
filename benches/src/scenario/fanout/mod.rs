//! One room, one sender, many members: the latency to the first and the last member, and the cost of a delivery, compared
//! with a forwarder that only does the same fan-out.

mod beside;
mod unread;

use std::time::Instant;

use anyhow::{Context, Error, Result, bail, ensure};
use quip_protocol::{
    RoomName, ToClient,
    conversation::{Start, Target},
    event::kind,
};

use super::latency;
use crate::{
    bare,
    crowd::{Crowd, Ear, PER_SOCKET, gather},
    load::{self, PAYLOAD, Pace, Plan, SETTLE, Sent},
    relay::Relay,
    report::{Options, Report, Sample},
    room,
    wire::{Clients, Conversation, Poster, Session},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Sizes of the room: members besides the sender, each on its own connection.
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000", value_parser = clap::value_parser!(u32).range(1..))]
    members: Vec<u32>,
    /// Messages per second [default: from `--deliveries`].
    #[arg(long)]
    rate: Option<f64>,
    /// Deliveries per second, which determine the rate for each size.
    #[arg(long, default_value_t = 10_000.0, conflicts_with = "rate")]
    deliveries: f64,
    /// Measured seconds of each run.
    #[arg(long, default_value_t = 0.8)]
    seconds: f64,
    /// Seconds of warmup before each measurement.
    #[arg(long, default_value_t = 0.2)]
    warmup: f64,
    /// Also measure a conversation of two on the same relay, alone and beside the room.
    #[arg(long)]
    beside: bool,
    /// Messages per second of the small conversation.
    #[arg(long, default_value_t = 200.0, requires = "beside")]
    beside_rate: f64,
    /// Also measure the room beside a reader who does not read: one connection with this many groups open, in which another
    /// user posts.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    unread: Option<u32>,
}

const ROOM: &str = "bench:fanout";
/// Joins are not shown, because a thousand joins would be half a million deliveries.
pub(crate) const SETTINGS: &str = r#"namespaces = [{ name = "bench", joins_shown = false }]"#;
/// Bounds of the rate that is derived from the size of the room.
const RATES: [f64; 2] = [2.0, 1000.0];
const RATIO: &str = "relay_cpu_over_bare";
const BESIDE_RATIO: &str = "beside_p99_ratio";
const UNREAD_RATIO: &str = "unread_p99_ratio";

impl Args {
    fn pace(&self, members: u32) -> Pace {
        let rate = self.rate.unwrap_or((self.deliveries / f64::from(members)).clamp(RATES[0], RATES[1]));
        Pace { rate, seconds: self.seconds, warmup: self.warmup }
    }

    fn beside_pace(&self) -> Pace {
        Pace { rate: self.beside_rate, seconds: self.seconds, warmup: self.warmup }
    }
}

pub(crate) fn run(args: &Args, options: &Options) -> Result<Report> {
    let mut report = Report::new("fanout", options);
    report.setting("members", args.members.clone());
    report.setting("rates", args.members.iter().map(|members| args.pace(*members).rate).collect::<Vec<_>>());
    report.setting("seconds", args.seconds);
    report.setting("payload_bytes", PAYLOAD);
    report.setting("unread", args.unread);
    for _ in 0..options.runs() {
        for members in args.members.iter().copied() {
            run_size(args, members, options, &mut report)?;
        }
    }
    for members in &args.members {
        let named = |name: &str| if args.members.len() == 1 { name.to_owned() } else { format!("{name}_{members}") };
        report.result_as(named(RATIO), &format!("quip {members}"), RATIO);
        report.result_as(named(BESIDE_RATIO), &format!("beside {members}"), BESIDE_RATIO);
        let p99 = |row: String| report.spread(&row, "p99_us").map(|spread| spread.median);
        if let (Some(without), Some(with)) = (p99(without_reader(*members)), p99(beside_reader(*members))) {
            report.result(named(UNREAD_RATIO), with / without);
        }
    }
    if args.unread.is_some() {
        report.note(
            "with --unread the relay has 8 MiB for recent events, and the posting goes on without the reader too",
        );
    }
    report.note("first_ and last_ are of each message: from when it was due to its first and to its last recipient");
    report.note("CPU time has a resolution of 10 ms, which is coarse if --seconds is short");
    report
        .note("the relay makes every message durable and bare does not: latency differs by a commit, CPU by its cost");
    Ok(report)
}

/// One run of one size, against a new relay and a new forwarder.
fn run_size(args: &Args, members: u32, options: &Options, report: &mut Report) -> Result<()> {
    let pace = args.pace(members);
    let bare = bare::measure_fanout(&pace, members)?;
    let relay = Relay::start_with(options, &[SETTINGS.to_owned()])?;
    let mut quip = if args.beside {
        let beside::Both { room, alone, mut beside } = beside::measure(&relay, &pace, members, &args.beside_pace())?;
        compare(&mut beside, BESIDE_RATIO, &alone, "p99_us");
        report.add(&format!("beside {members}, alone"), alone);
        report.add(&format!("beside {members}"), beside);
        room
    } else {
        bare::runtime()?.block_on(run_once(&relay, &pace, members))?
    };
    compare(&mut quip, RATIO, &bare, "relay_cpu_us_per_delivery");
    report.add(&format!("quip {members}"), quip);
    report.add(&format!("bare {members}"), bare);
    if let Some(groups) = args.unread {
        let unread::Both { without, with } = unread::measure(options, &pace, members, groups)?;
        report.add(&without_reader(members), without);
        report.add(&beside_reader(members), with);
    }
    Ok(())
}

fn without_reader(members: u32) -> String {
    format!("quip {members}, without the reader")
}

fn beside_reader(members: u32) -> String {
    format!("quip {members}, beside the reader")
}

/// Adds the ratio of a metric of two samples, unless one lacks it or the other's is 0.
fn compare(sample: &mut Sample, name: &'static str, other: &Sample, metric: &str) {
    let of = sample.get(metric).zip(other.get(metric)).filter(|(_, other)| *other > 0.0);
    of.into_iter().for_each(|(value, other)| sample.push(name, value / other));
}

/// One run on a relay with [`SETTINGS`].
pub(crate) async fn run_once(relay: &Relay, pace: &Pace, members: u32) -> Result<Sample> {
    let room = Room::fill(relay, pace, members).await?;
    room.talk(pace, Instant::now() + SETTLE).await
}

/// A room with one sender and listening members.
struct Room {
    crowd: Crowd,
    sender: Conversation,
    /// Kept because dropping them ends the connections.
    _sessions: Vec<Session>,
}

impl Room {
    async fn fill(relay: &Relay, pace: &Pace, members: u32) -> Result<Self> {
        let mut crowd = Crowd::new(relay.address.port(), relay.pid(), pace.messages() * u64::from(members));
        let mut clients = Clients::new(relay, 1)?;
        // The sender joins first, which creates the room.
        let sender = join(clients.clone(), relay.token("sender")?).await?;
        let joined = gather(members, |member| {
            if member % PER_SOCKET == 0 {
                clients = Clients::new(relay, 1)?;
                crowd.watch(clients.port()?);
            }
            Ok(join(clients.clone(), relay.token(&format!("member-{member}"))?))
        });
        let mut sessions = Vec::new();
        for (session, conversation) in joined.await? {
            crowd.count(session.connection.clone());
            crowd.join(|ear| listen(ear, conversation));
            sessions.push(session);
        }
        let (session, sender) = sender;
        sessions.push(session);
        Ok(Self { crowd, sender, _sessions: sessions })
    }

    async fn talk(self, pace: &Pace, start: Instant) -> Result<Sample> {
        let (sample, ()) = self.talk_beside(pace, start, async { Ok(()) }).await?;
        Ok(sample)
    }

    /// As [`Self::talk`]. Members stay until `other` is done, whose latency would suffer from closing thousands of connections.
    async fn talk_beside<T>(
        self,
        pace: &Pace,
        start: Instant,
        other: impl Future<Output = Result<T>>,
    ) -> Result<(Sample, T)> {
        let Self { crowd, sender, _sessions } = self;
        let plan = Plan::lane(pace, start, 0, 1);
        let mut done = None;
        let sending = async {
            let (sent, other) = tokio::try_join!(send(plan, sender), other)?;
            done = Some(other);
            Ok(sent)
        };
        let sample = room::attend(crowd, pace, plan, sending).await?;
        Ok((sample, done.context("the small conversation ends with the room")?))
    }
}

async fn join(clients: Clients, token: String) -> Result<(Session, Conversation)> {
    let session = clients.connect(&token).await?;
    let conversation = session.open(&Target::Room(RoomName::parse(ROOM)?), true, Start::Now).await?;
    Ok((session, conversation))
}

async fn send(plan: Plan, from: Conversation) -> Result<Sent> {
    let Conversation { last_n, send, mut reader, .. } = from;
    let mut poster = Poster::new(send, last_n);
    let credit = poster.credit.clone();
    let sending = load::drive(plan, &mut poster);
    let (sent, answered) = tokio::try_join!(sending, latency::accept(plan, &mut reader, last_n + 1, &credit))?;
    ensure!(answered.is_complete(&plan), "some messages were never accepted");
    Ok(sent)
}

/// Records every message; ends only with an error.
async fn listen(mut ear: Ear, mut conversation: Conversation) -> Error {
    loop {
        let filled = conversation.reader.fill().await;
        let heard = filled.and_then(|more| {
            ensure!(more, "the relay ended the stream of a member");
            while let Some(message) = conversation.reader.buffered()? {
                match message {
                    ToClient::Event(event) if event.kind == kind::TEXT => ear.hear(load::number(event.body.0)?),
                    ToClient::Event(_) | ToClient::Skip(_) => {}
                    // The answer to the join.
                    ToClient::Accepted(_) | ToClient::Ack(_) => {}
                    other => bail!("unexpected frame for a member: {other:?}"),
                }
            }
            Ok(())
        });
        if let Err(error) = heard {
            return error;
        }
    }
}
