//! One enum of all messages for each direction.

use crate::{
    Event, conversation as c,
    frame::{self, DecodeError, Frame},
    request as r, session as s,
};

macro_rules! direction {
    ($(#[$doc:meta])* $name:ident { $($variant:ident($of:ty),)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name<'a> {
            $(#[doc = concat!("[`", stringify!($of), "`]")] $variant($of),)*
        }

        impl<'a> $name<'a> {
            /// Decodes a frame; `None` for an unknown odd type, which may be skipped.
            ///
            /// # Errors
            /// If the body is malformed or too long, or the type is even and unknown.
            pub fn decode(frame: Frame<'a>) -> Result<Option<Self>, DecodeError> {
                $(if frame.kind == <$of as frame::Message>::TYPE {
                    return frame::decode::<$of>(frame.body).map(|message| Some(Self::$variant(message)));
                })*
                if frame.kind % 2 == 1 { Ok(None) } else { Err(DecodeError::UnknownType(frame.kind)) }
            }
        }
    };
}

direction! {
    /// What a client sends.
    ToRelay {
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
    ToClient {
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
        Changed(s::Changed),
        Marked(s::Marked),
        Notice(s::Notice<'a>),
    }
}
