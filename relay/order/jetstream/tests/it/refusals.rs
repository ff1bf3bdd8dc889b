//! Servers and streams that cannot be relied upon.

use std::time::Duration;

use async_nats::jetstream::{self, stream};
use quip_jetstream::{ClusterConfig, ClusterError, jetstream as open};
use quip_order::{Batch, BatchLimit, Limits, Next, Order, OrderError, system_clock};

use crate::{
    config,
    contract::OneStream,
    server::Servers,
    suite::{Engine, at, filled},
};

/// With little patience.
fn hasty(servers: &Servers) -> ClusterConfig {
    ClusterConfig { patience: Duration::from_secs(1), ..config(servers) }
}

fn refused(config: ClusterConfig) -> ClusterError {
    match open(config, Limits::default(), system_clock()) {
        Ok(_) => panic!("it was taken"),
        Err(error) => error,
    }
}

/// Does something with the stream that no relay does.
fn meddle<F: Future>(servers: &Servers, with: impl FnOnce(jetstream::Context) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { with(jetstream::new(async_nats::connect(servers.urls()).await.unwrap())).await })
}

/// What stops an order that was at work.
fn stopped(order: &mut dyn Order) -> String {
    let mut batch = Batch::default();
    loop {
        match order.next_batch(BatchLimit::default(), &mut batch) {
            Ok(Next::Batch | Next::Idle) => {}
            Ok(next) => panic!("{next:?}"),
            Err(OrderError::Engine(error)) => return error.to_string(),
            Err(error) => panic!("{error}"),
        }
    }
}

fn start(config: ClusterConfig, after: u64) -> Result<u64, String> {
    let (_submit, mut order) = open(config, Limits::default(), system_clock()).unwrap();
    order.start(&at(after)).map(|heads| heads.of(0)).map_err(|error| error.to_string())
}

#[test]
fn servers_must_be_there_and_sync_always() {
    let Some(servers) = Servers::careless() else { return };
    let error = refused(hasty(&servers));
    assert!(matches!(&error, ClusterError::NotSynced(name) if name == "n0"), "{error}");
    assert!(error.to_string().contains("sync_interval: always"), "{error}");

    let Some(mut servers) = Servers::alone() else { return };
    let blind = refused(ClusterConfig { monitors: Vec::new(), ..hasty(&servers) });
    assert!(matches!(&blind, ClusterError::Unchecked { name, .. } if name == "n0"), "{blind}");
    let wrong = refused(ClusterConfig { monitors: servers.urls(), ..hasty(&servers) });
    assert!(matches!(&wrong, ClusterError::Unchecked { .. }), "{wrong}");
    let config = hasty(&servers);
    servers.kill(0);
    let error = refused(config);
    assert!(matches!(&error, ClusterError::Unreachable(_)), "{error}");
}

#[test]
fn the_stream_must_be_a_log_of_this_kind() {
    let Some(servers) = Servers::alone() else { return };
    let config = hasty(&servers);
    let name = format!("{}_0", config.stream);
    meddle(&servers, async |context| context.create_stream(name.as_str()).await.unwrap());
    let error = refused(config);
    assert!(matches!(&error, ClusterError::Foreign(stream) if *stream == name), "{error}");

    let config = hasty(&servers);
    drop(open(config.clone(), Limits::default(), system_clock()).unwrap());
    let name = format!("{}_0", config.stream);
    meddle(&servers, async |context| {
        let old = context.get_stream(&name).await.unwrap().cached_info().config.clone();
        context.update_stream(stream::Config { max_age: Duration::from_secs(3600), ..old }).await.unwrap();
    });
    let error = refused(config.clone());
    assert!(matches!(&error, ClusterError::Settings { .. }) && error.to_string().contains("maximum age"), "{error}");

    let error = refused(ClusterConfig { replicas: 3, ..hasty(&servers) });
    assert!(matches!(&error, ClusterError::Stream { .. }), "three replicas on one server: {error}");
}

#[test]
fn the_log_must_go_on_where_the_view_ends() {
    let Some(servers) = Servers::alone() else { return };
    let config = hasty(&servers);
    let (seen, _) = filled(&OneStream(config.clone()), 200, 0);
    let last = seen.len() as u64;
    assert_eq!(start(config.clone(), last), Ok(last));
    let error = start(config.clone(), last + 1).unwrap_err();
    assert!(error.contains(&format!("ends at {last} and this relay's store at {}", last + 1)), "{error}");

    let name = format!("{}_0", config.stream);
    meddle(&servers, async |context| context.get_stream(&name).await.unwrap().purge().sequence(101).await.unwrap());
    assert_eq!(start(config.clone(), 100), Ok(last));
    let error = start(config.clone(), 99).unwrap_err();
    assert!(error.contains("begins at 101") && error.contains("purged"), "{error}");
}

#[test]
fn a_hole_stops_the_order() {
    let Some(servers) = Servers::alone() else { return };
    let config = config(&servers);
    let log = OneStream(config.clone());
    let mut last = 0;
    while last < 12_000 {
        last += filled(&log, 1500, last).0.len() as u64;
    }
    let (_submit, mut order) = log.open();
    order.start(&at(0)).unwrap();
    // It has read ahead as far as it may.
    std::thread::sleep(Duration::from_secs(2));
    let name = format!("{}_0", config.stream);
    meddle(&servers, async |context| context.get_stream(&name).await.unwrap().purge().keep(10).await.unwrap());
    let error = stopped(&mut *order);
    assert!(error.contains("has no message") || error.contains("purged"), "{error}");
}

#[test]
fn a_message_that_is_not_understood_stops_the_order() {
    let Some(servers) = Servers::alone() else { return };
    let version = b"\x02\0\0\0\0\0\0\0\0\x4d";
    for (payload, says) in [(&b""[..], "not from a relay"), (b"\x09hello", "form 9"), (version, "version 77")] {
        let config = config(&servers);
        let (_submit, mut order) = open(config.clone(), Limits::default(), system_clock()).unwrap();
        order.start(&at(0)).unwrap();
        let subject = format!("{}_0", config.stream);
        meddle(&servers, async |context| context.publish(subject, payload.into()).await.unwrap().await.unwrap());
        let error = stopped(&mut *order);
        assert!(error.contains(says) && error.contains("message 1"), "{error}");
    }
}

#[test]
fn a_stream_that_is_changed_stops_the_order() {
    let Some(servers) = Servers::alone() else { return };
    let config = hasty(&servers);
    let (_submit, mut order) = open(config.clone(), Limits::default(), system_clock()).unwrap();
    order.start(&at(0)).unwrap();
    let name = format!("{}_0", config.stream);
    meddle(&servers, async |context| {
        let old = context.get_stream(&name).await.unwrap().cached_info().config.clone();
        context.update_stream(stream::Config { max_messages_per_subject: 5, ..old }).await.unwrap();
    });
    let error = stopped(&mut *order);
    assert!(error.contains("a maximum of messages per subject"), "{error}");
}

#[test]
fn a_stream_that_was_lost_or_made_again_stops_the_order() {
    let Some(mut servers) = Servers::alone() else { return };
    let config = hasty(&servers);
    let log = OneStream(config.clone());
    let (seen, _) = filled(&log, 20, 0);
    let begin = || {
        let (submit, mut order) = log.open();
        order.start(&at(seen.len() as u64)).unwrap();
        (submit, order)
    };
    let (_submit, mut order) = begin();
    servers.kill(0);
    servers.wipe(0);
    servers.restart(0);
    let error = stopped(&mut *order);
    assert!(error.contains("is gone"), "{error}");

    let (_submit, mut order) = open(config, Limits::default(), system_clock()).unwrap();
    order.start(&at(0)).unwrap();
    servers.kill(0);
    servers.wipe(0);
    servers.restart(0);
    drop(filled(&log, 20, 0));
    let error = stopped(&mut *order);
    assert!(error.contains("another log than before"), "{error}");
}
