//! quip-tests
