//! What a client's messages cost of its user's rate, in tenths of a numbered command. `Welcome.rate` and `Welcome.burst` count
//! commands.

/// A numbered command.
pub const COMMAND: u32 = 10;
/// A read mark.
pub const MARK: u32 = 10;
/// `History`, `List`, `Members` or `PresenceIn`.
pub const REQUEST: u32 = 10;
/// An `Open`. Its join is a command beside it.
pub const OPEN: u32 = 1;
