//! quip-client
