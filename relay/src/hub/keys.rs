//! Names of connections and streams. The [`Port`](super::Port) gives them out.

slotmap::new_key_type! {
    /// A client's connection.
    pub struct ConnectionKey;
    /// A stream that a client opened.
    pub struct StreamKey;
}
