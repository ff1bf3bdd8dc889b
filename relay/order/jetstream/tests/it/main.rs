//! The contract of an order on real NATS servers, and what the engine promises beyond it.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

mod contract;
mod credentials;
mod faults;
mod figures;
mod refusals;
mod server;
#[path = "../../../tests/it/suite.rs"]
#[allow(dead_code, reason = "shared with the other engines")]
mod suite;

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use quip_jetstream::ClusterConfig;

use crate::server::Servers;

/// For a stream of its own on these servers.
fn config(servers: &Servers) -> ClusterConfig {
    static STREAMS: AtomicU32 = AtomicU32::new(0);
    ClusterConfig {
        servers: servers.urls(),
        stream: format!("T{}", STREAMS.fetch_add(1, Ordering::Relaxed)),
        replicas: servers.replicas(),
        monitors: servers.monitors(),
        credentials: None,
        ca: None,
        patience: Duration::from_secs(20),
    }
}
