//! `replay`: the traffic of a real IRC channel on real connections, with every delivery checked.
//!
//! [`parse`] reads a log, [`plan`] schedules the actions of each user, [`actor`] performs them on one connection per user,
//! and [`mod@run`] is what the actors share. Every delivery is recorded in the [`ledger`], which [`mod@check`] compares with
//! the store at the end.

use std::{
    fs,
    process::ExitCode,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use quip_client::{Client, HistoryQuery, RequestError, Start, UserId};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

mod actor;
mod args;
mod check;
mod follower;
mod ledger;
mod parse;
mod plan;
mod report;
mod run;
mod stage;

pub(crate) use self::args::Args;
use self::{
    check::{Store, Verdict, check},
    plan::{Plan, Step},
    report::{Percentiles, Report},
    run::{Run, Stay},
    stage::Stage,
};
use crate::{proc, report::Options};

/// Plays the files. Exits with 1 if anything is wrong.
pub(crate) fn run(args: &Args, options: &Options) -> Result<ExitCode> {
    let plans = plans(args)?;
    let stage = Stage::new(args)?;
    raise_open_files();
    let runtime = runtime(args.threads)?;
    let report = runtime.block_on(play(stage, plans, args))?;
    runtime.shutdown_background();
    if options.json {
        println!("{}", serde_json::to_string(&report)?)
    } else {
        println!("{report}")
    }
    Ok(if report.good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn plans(args: &Args) -> Result<Vec<Plan>> {
    let mut left = args.limit_lines.unwrap_or(usize::MAX);
    let mut plans = Vec::new();
    for path in &args.files {
        let log = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let plan = plan::plan(parse::parse(&log), args.speed, left);
        if plan.lines == 0 && left > 0 {
            bail!("{} has no line such as \"[10:15] <nick> text\": is it a raw #ubuntu log?", path.display());
        }
        left -= plan.lines;
        if plan.lines > 0 {
            plans.push(plan);
        }
    }
    Ok(plans)
}

fn runtime(threads: u8) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(threads.into()).enable_all().build()
}

/// Raises the limit on open files: every client has a socket.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // The lower limit may be enough; if not, creating sockets fails.
    let _ = setrlimit(Resource::Nofile, limit);
}

async fn play(stage: Stage, plans: Vec<Plan>, args: &Args) -> Result<Report> {
    let (run, observers) = observe(stage, args.observers).await?;
    let files = plans.len();
    let bar = progress(plans.iter().map(|plan| plan.lines as u64).sum(), &run);
    let began = Instant::now();
    let mut troubles = Vec::new();
    for plan in plans {
        file(&run, plan, &mut troubles).await;
    }
    let head = settle(&run, &observers).await?;
    let wall = began.elapsed();
    let store = read_store(&run, &observers[0].client, head).await?;
    bar.finish_and_clear();

    let mut verdict = check(&run.ledger(), &store);
    for trouble in troubles {
        verdict.say(|| trouble);
    }
    let report = Report { files, ..report(&run, args, &store, wall, verdict)? };
    dismiss(observers).await;
    Ok(report)
}

/// A member for the whole run.
struct Observer {
    client: Client,
    stay: Stay,
}

/// Connects and joins the observers. The run begins with the first event of the first observer.
async fn observe(stage: Stage, count: u16) -> Result<(Arc<Run>, Vec<Observer>)> {
    let (user, client) = observer(&stage, 1).await?;
    let room = stage.open(&client, Start::Now).await.context("observer 1 cannot join")?;
    let after = room.1.cursor().seq;
    let run = Arc::new(Run::new(stage, after));
    let stay = run.stay(room, &user, after);
    let mut observers = vec![Observer { client, stay }];
    for number in 2..=count {
        let (user, client) = observer(&run.stage, number).await?;
        let stay = run.enter(&client, &user, 0).await.with_context(|| format!("{user} cannot join"))?;
        observers.push(Observer { client, stay });
    }
    run.counts.connections.fetch_add(count.into(), Relaxed);
    Ok((run, observers))
}

async fn observer(stage: &Stage, number: u16) -> Result<(UserId, Client)> {
    // No nick contains a #.
    let user = UserId::parse(&format!("observer#{number}"))?;
    let client = stage.connect(&user).await.context("an observer cannot connect")?;
    Ok((user, client))
}

/// Plays one file, until all users have left.
async fn file(run: &Arc<Run>, plan: Plan, troubles: &mut Vec<String>) {
    let mut actors = JoinSet::new();
    let cues = plan.actors.into_iter().map(|user| {
        let (cue, cues) = mpsc::unbounded_channel();
        actors.spawn(actor::act(Arc::clone(run), user, cues));
        cue
    });
    let cues: Vec<_> = cues.collect();
    let (epoch, start) = (run.epoch, Instant::now() + SETUP);
    // Timers of the runtime have a resolution of 1 ms, which would add to every latency; a thread's sleep is finer.
    let conductor = tokio::task::spawn_blocking(move || conduct(plan.steps, &cues, epoch, start));
    if conductor.await.is_err() {
        troubles.push("the conductor thread panicked".to_owned());
    }
    let end = async {
        while let Some(result) = actors.join_next().await {
            match result {
                Ok(Ok(())) => {}
                Ok(Err(trouble)) => troubles.push(trouble),
                Err(error) => troubles.push(format!("the task of a user failed: {error}")),
            }
        }
    };
    if timeout(run.stage.drain, end).await.is_err() {
        troubles.push(format!("{} users had not finished {:?} after the end of a file", actors.len(), run.stage.drain));
        actors.shutdown().await;
    }
}

/// Sends each cue when it is due, independent of earlier ones (open loop).
fn conduct(steps: Vec<Step>, cues: &[mpsc::UnboundedSender<actor::Cue>], epoch: Instant, start: Instant) {
    for Step { at, actor, action } in steps {
        let due = start + at;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let since = due.saturating_duration_since(epoch).as_micros() as u64;
        // A failed task is reported at the end.
        let _ = cues[actor].send((since, action));
    }
}

/// Waits until every observer has received every stored event; returns the seq of the newest one.
async fn settle(run: &Run, observers: &[Observer]) -> Result<u64> {
    let until = Instant::now() + run.stage.drain;
    let room = observers[0].stay.sender.id();
    let newest = || observers[0].client.history(room, HistoryQuery::newest(1));
    let head = patiently(until, newest).await.context("cannot read the store")?.head;
    let has_all = |observer: &Observer| run.ledger().followers[observer.stay.follower].next() > head;
    while !observers.iter().all(has_all) && Instant::now() < until {
        sleep(GLANCE).await;
    }
    Ok(head)
}

/// Reads the run back from the store, as the first observer.
async fn read_store(run: &Run, client: &Client, head: u64) -> Result<Store> {
    let room = run.stage.room.conversation(client.user());
    let first = run.ledger().followers[0].from;
    let mut store = Store::from(first);
    while store.next() <= head {
        let query = HistoryQuery::after(store.next() - 1, PAGE);
        let until = Instant::now() + run.stage.drain;
        let page = patiently(until, || client.history(room, query)).await.context("cannot read the store")?;
        let before = store.next();
        let ledger = run.ledger();
        page.events.iter().filter(|event| event.seq <= head).for_each(|event| store.add(event, &ledger));
        drop(ledger);
        if store.next() == before {
            bail!("the relay reports head {head} but returns no events after {}", before - 1);
        }
    }
    Ok(store)
}

/// Retries while that may succeed.
async fn patiently<T, F>(until: Instant, ask: impl Fn() -> F) -> Result<T, RequestError>
where
    F: Future<Output = Result<T, RequestError>>,
{
    loop {
        match ask().await {
            Err(error) if error.may_retry() && Instant::now() < until => sleep(RETRY).await,
            answer => return answer,
        }
    }
}

fn report(run: &Run, args: &Args, store: &Store, wall: Duration, verdict: Verdict) -> Result<Report> {
    let ledger = run.ledger();
    let counts = &run.counts;
    let cpu = proc::cpu_time(std::process::id())?;
    Ok(Report {
        connections: counts.connections.load(Relaxed),
        sent: counts.sent.load(Relaxed),
        accepted: counts.accepted.load(Relaxed),
        latency_us: Percentiles::of(&ledger.latency),
        lag_us: Percentiles::of(&ledger.lag),
        wall_s: wall.as_secs_f64(),
        cpu_s: cpu.as_secs_f64(),
        files: 0,
        speed: args.speed,
        users: ledger.users(),
        observers: args.observers,
        members_max: counts.members_max.load(Relaxed),
        memberships: ledger.followers.len(),
        reopened: counts.reopened.load(Relaxed),
        stored: store.len(),
        good: verdict.is_good(),
        verdict,
    })
}

/// Lets the observers leave. Errors here are not part of the run.
async fn dismiss(observers: Vec<Observer>) {
    for Observer { client, stay } in observers {
        let leave = async {
            if let Ok(receipt) = stay.sender.leave().await {
                let _ = receipt.accepted().await;
            }
            client.close().await;
        };
        let _ = timeout(GOODBYE, leave).await;
    }
}

/// A progress bar, if standard error is a terminal.
fn progress(lines: u64, run: &Arc<Run>) -> ProgressBar {
    let bar = ProgressBar::new(lines);
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} lines accepted, {msg}, {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    if !bar.is_hidden() {
        let (bar, run) = (bar.clone(), Arc::clone(run));
        tokio::spawn(async move {
            while !bar.is_finished() {
                bar.set_position(run.counts.accepted.load(Relaxed));
                bar.set_message(format!("{} members", run.counts.members.load(Relaxed)));
                sleep(REDRAW).await;
            }
        });
    }
    bar
}

/// Time for the tasks of a file's users to start.
const SETUP: Duration = Duration::from_millis(50);
/// Between two checks whether the observers have everything.
const GLANCE: Duration = Duration::from_millis(20);
/// Between two attempts to read the store.
const RETRY: Duration = Duration::from_millis(250);
/// How long the observers may take to leave.
const GOODBYE: Duration = Duration::from_secs(5);
const REDRAW: Duration = Duration::from_millis(200);
/// Events per request; the relay may send fewer.
const PAGE: u64 = 1_000;
