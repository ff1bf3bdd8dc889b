//! The suite of all engines.

use quip_jetstream::{ClusterConfig, jetstream};
use quip_order::{Limits, system_clock};

use crate::{
    config,
    server::Servers,
    suite::{Ends, Engine, keeps_the_contract},
};

/// A stream of its own.
pub(crate) struct OneStream(pub(crate) ClusterConfig);

impl Engine for OneStream {
    fn open(&self) -> Ends {
        let (submit, order) = jetstream(self.0.clone(), Limits::default(), system_clock()).unwrap();
        (submit, order)
    }
}

#[test]
fn a_stream_on_one_server_keeps_the_contract() {
    let Some(servers) = Servers::alone() else { return };
    keeps_the_contract(2, |_| OneStream(config(&servers)));
}

#[test]
fn a_stream_on_three_servers_keeps_the_contract() {
    let Some(servers) = Servers::three() else { return };
    keeps_the_contract(1, |_| OneStream(config(&servers)));
}
