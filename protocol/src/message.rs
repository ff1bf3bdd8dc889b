//! One enum of all messages for each direction.

use crate::{
    Event, conversation as c,
    frame::{self, DecodeError, Frame, Message},
    request as r, session as s,
};

macro_rules! direction {
    ($(#[$doc:meta])* $name:ident, not $other:ident { $($variant:ident($of:ty),)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name<'a> {
            $(#[doc = concat!("[`", stringify!($of), "`]")] $variant($of),)*
        }

        impl<'a> $name<'a> {
            const TYPES: &'static [u64] = &[$(<$of as frame::Message>::TYPE,)*];

            /// Decodes a frame; `None` for an unknown odd type, which may be skipped.
            ///
            /// # Errors
            /// If the body is malformed or has an extension that must be understood, or the type is even and unknown, or
            /// one that only the other side sends.
            pub fn decode(frame: Frame<'a>) -> Result<Option<Self>, DecodeError> {
                $(if frame.kind == <$of as frame::Message>::TYPE {
                    return frame::decode::<$of>(frame.body).map(|message| Some(Self::$variant(message)));
                })*
                match frame.kind {
                    kind if kind == s::Signal::TYPE || $other::TYPES.contains(&kind) => {
                        Err(DecodeError::Unexpected(kind))
                    }
                    kind if kind % 2 == 1 => Ok(None),
                    kind => Err(DecodeError::UnknownType(kind)),
                }
            }
        }
    };
}

direction! {
    /// What a client sends.
    ToRelay, not ToClient {
        Post(c::Post<'a>),
        Mark(c::Mark),
        Open(c::Open<'a>),
        Edit(c::Edit<'a>),
        Delete(c::Delete),
        React(c::React<'a>),
        Leave(c::Leave),
        Add(c::Add<'a>),
        Remove(c::Remove<'a>),
        SetRole(c::SetRole<'a>),
        SetTitle(c::SetTitle<'a>),
        History(r::History),
        List(r::List),
        Members(r::Members<'a>),
        PresenceIn(r::PresenceIn<'a>),
        Hello(s::Hello<'a>),
        Refresh(s::Refresh<'a>),
    }
}

direction! {
    /// What a relay sends.
    ToClient, not ToRelay {
        Event(Event<'a>),
        Accepted(c::Accepted),
        Ack(c::Ack),
        Rejected(c::Rejected),
        Skip(c::Skip),
        Opened(c::Opened<'a>),
        End(c::End<'a>),
        Page(r::Page),
        Entry(r::Entry<'a>),
        Member(r::Member<'a>),
        Welcome(s::Welcome<'a>),
        Refreshed(s::Refreshed),
        GoAway(s::GoAway),
        Presence(s::Presence<'a>),
        Changed(s::Changed<'a>),
        Marked(s::Marked),
        Notice(s::Notice<'a>),
    }
}
