//! What the end-to-end tests stand on: relays as processes of their own, a client that knows nothing but
//! the wire, and tools that take power and disk space away.

pub mod disk;
pub mod power;
pub mod raw;
pub mod relay;
pub mod torture;
pub mod talk;
