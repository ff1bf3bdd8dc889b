//! What is measured against a real relay.

pub(crate) mod compare;
pub(crate) mod fanout;
pub(crate) mod history;
pub(crate) mod hol;
pub(crate) mod idle;
pub(crate) mod ingest;
pub(crate) mod latency;
pub(crate) mod many;
pub(crate) mod migrate;
pub(crate) mod reconnect;
pub(crate) mod replay;
pub(crate) mod start;
pub(crate) mod strangers;
pub(crate) mod tail;
