//! What the end-to-end tests stand on: relays as processes of their own, a client that knows nothing but
//! the wire, and tools that take power and disk space away.

pub mod calm;
pub mod disk;
pub mod ledger;
pub mod login;
pub mod outbox;
pub mod power;
pub mod proxy;
pub mod raw;
pub mod relay;
pub mod talk;
pub mod threads;
pub mod torture;
