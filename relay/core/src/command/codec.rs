//! Commands as bytes, for logs. Every number here is fixed for ever.
//!
//! Version byte; 16 bytes of conversation (zeros in a command about a user); who: 0 = a relay, 1 = a device with user (length, bytes),
//! 16 bytes of device and varint `n`; authority: a byte of bits, the policy byte, varint of group
//! members; varint action; its fields in order. Seqs, kinds and lengths are varints.

use bytes::Bytes;
use quip_protocol::{
    ConversationId, UserId,
    event::{kind, role},
};
use thiserror::Error;

use super::{Action, Authority, By, Command, JoinAs};
use crate::{
    Policy,
    codec::{Malformed, Reader, Sink},
};

/// The version of a command, in its first byte.
pub const VERSION: u8 = 1;
/// Maximum bytes by which an encoded command may exceed its [`Command::weight`]: names and ids.
pub const BESIDE: usize = 256;

const RELAY: u8 = 0;
const DEVICE: u8 = 1;

const MAY_JOIN: u8 = 1;
const MAY_POST: u8 = 2;
const MAY_CREATE: u8 = 4;
const MAY_MODERATE: u8 = 8;
const MAY_ADD: u8 = 16;

const JOIN: u8 = 1;
const POST: u8 = 2;
const EDIT: u8 = 3;
const DELETE: u8 = 4;
const REACT: u8 = 5;
const LEAVE: u8 = 6;
const ADD: u8 = 7;
const REMOVE: u8 = 8;
const SET_ROLE: u8 = 9;
const SET_TITLE: u8 = 10;
const MARK: u8 = 11;
const SET_POLICY: u8 = 12;
const TRIM: u8 = 13;
const SEEN: u8 = 14;
const FORGET: u8 = 15;

const EXISTING: u8 = 0;
const DIRECT: u8 = 1;
const ROOM: u8 = 2;
const NEW_GROUP: u8 = 3;

/// Why a command could not be read. A relay stops at such a command in a log; skipping it would fork the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CommandError {
    /// Written by a newer version of Quip.
    #[error("a command has version {0}, this relay supports {VERSION}: upgrade this relay")]
    UnknownVersion(u8),
    /// An unknown action, kind of message, kind of join or role.
    #[error("a command has the action {0}, which this relay does not know: upgrade this relay")]
    UnknownAction(u64),
    /// The bytes do not parse.
    #[error("a command in the log is damaged")]
    Malformed,
    /// Bytes are left over after the command.
    #[error("a command in the log is damaged ({0} bytes too many)")]
    Trailing(usize),
}

impl From<Malformed> for CommandError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl Command {
    /// The command as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.weight());
        self.encode_to(&mut out);
        out
    }

    /// Appends the encoded command, at most [`BESIDE`] bytes longer than its weight.
    pub fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_u8(VERSION);
        out.put(&self.conversation.0);
        self.by.put(out);
        self.authority.put(out);
        put_action(&self.action, out);
    }

    /// Parses what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// If the version or action is unknown, or the bytes are malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommandError> {
        let mut from = Reader::new(bytes);
        match from.u8()? {
            VERSION => {}
            version => return Err(CommandError::UnknownVersion(version)),
        }
        let command = Self {
            conversation: ConversationId(from.array()?),
            by: By::read(&mut from)?,
            authority: Authority::read(&mut from)?,
            action: read_action(&mut from)?,
        };
        match from.left() {
            0 => Ok(command),
            left => Err(CommandError::Trailing(left)),
        }
    }
}

impl By {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Relay => out.put_u8(RELAY),
            Self::Device { user, device, n } => {
                out.put_u8(DEVICE);
                put_user(user, out);
                out.put(&device.0);
                out.put_varint(*n);
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match from.u8()? {
            RELAY => Ok(Self::Relay),
            DEVICE => Ok(Self::Device { user: from.user()?, device: from.device()?, n: from.varint()? }),
            _ => Err(Malformed),
        }
    }
}

impl Authority {
    fn put(&self, out: &mut Vec<u8>) {
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        let bits = bit(self.join, MAY_JOIN)
            | bit(self.post, MAY_POST)
            | bit(self.create, MAY_CREATE)
            | bit(self.moderate, MAY_MODERATE)
            | bit(self.add, MAY_ADD);
        out.put_u8(bits);
        self.policy.put(out);
        out.put_varint(self.group_members.into());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let bits = from.u8()?;
        if bits & !(MAY_JOIN | MAY_POST | MAY_CREATE | MAY_MODERATE | MAY_ADD) != 0 {
            return Err(Malformed);
        }
        Ok(Self {
            join: bits & MAY_JOIN != 0,
            post: bits & MAY_POST != 0,
            create: bits & MAY_CREATE != 0,
            moderate: bits & MAY_MODERATE != 0,
            add: bits & MAY_ADD != 0,
            policy: Policy::read(from)?,
            group_members: u32::try_from(from.varint()?).map_err(|_| Malformed)?,
        })
    }
}

/// The action's number and fields, as they are logged and hashed.
fn put_action(action: &Action, out: &mut impl Sink) {
    out.put_u8(tag(action));
    put_fields(action, out);
}

fn tag(action: &Action) -> u8 {
    match action {
        Action::Join(_) => JOIN,
        Action::Post { .. } => POST,
        Action::Edit { .. } => EDIT,
        Action::Delete { .. } => DELETE,
        Action::React { .. } => REACT,
        Action::Leave => LEAVE,
        Action::Add { .. } => ADD,
        Action::Remove { .. } => REMOVE,
        Action::SetRole { .. } => SET_ROLE,
        Action::SetTitle { .. } => SET_TITLE,
        Action::Mark { .. } => MARK,
        Action::SetPolicy { .. } => SET_POLICY,
        Action::Trim { .. } => TRIM,
        Action::Forget { .. } => FORGET,
        Action::Seen { .. } => SEEN,
    }
}

/// The fields of a device's command are in the order and encoding of its message.
pub(crate) fn put_fields(action: &Action, out: &mut impl Sink) {
    match action {
        Action::Join(how) => put_join(how, out),
        Action::Post { kind, body } => {
            out.put_varint(*kind);
            out.put_blob(body);
        }
        Action::Edit { target, body } => {
            out.put_varint(*target);
            out.put_blob(body);
        }
        Action::Delete { target } => {
            out.put_varint(*target);
        }
        Action::React { target, add, reaction } => {
            out.put_varint(*target);
            out.put_u8((*add).into());
            out.put_blob(reaction.as_bytes());
        }
        Action::Leave => {}
        Action::Add { user } => {
            put_user(user, out);
        }
        Action::Remove { user, ban } => {
            put_user(user, out);
            out.put_u8((*ban).into());
        }
        Action::SetRole { user, role } => {
            put_user(user, out);
            out.put_u8(*role);
        }
        Action::SetTitle { title } => {
            out.put_blob(title.as_bytes());
        }
        Action::Mark { seq, number } => {
            out.put_varint(*seq);
            out.put_varint(*number);
        }
        Action::SetPolicy { policy } => {
            policy.put(out);
        }
        Action::Trim { first_kept } => {
            out.put_varint(*first_kept);
        }
        Action::Forget { user, device, before } => {
            put_user(user, out);
            out.put(&device.0);
            out.put_varint(*before);
        }
        Action::Seen { user, at } => {
            put_user(user, out);
            out.put_varint(*at);
        }
    }
}

fn put_join(how: &JoinAs, out: &mut impl Sink) {
    match how {
        JoinAs::Existing => out.put_u8(EXISTING),
        JoinAs::Direct(user) => {
            out.put_u8(DIRECT);
            put_user(user, out);
        }
        JoinAs::Room(name) => {
            out.put_u8(ROOM);
            out.put_blob(name.as_bytes());
        }
        JoinAs::NewGroup => out.put_u8(NEW_GROUP),
    }
}

fn put_user(user: &UserId, out: &mut impl Sink) {
    out.put_blob(user.as_str().as_bytes());
}

fn read_action(from: &mut Reader<'_>) -> Result<Action, CommandError> {
    let number = from.varint()?;
    let action = match u8::try_from(number).map_err(|_| CommandError::UnknownAction(number))? {
        JOIN => Action::Join(read_join(from)?),
        POST => match from.varint()? {
            kind if kind::counts(kind) => Action::Post { kind, body: read_bytes(from)? },
            _ => return Err(CommandError::UnknownAction(number)),
        },
        EDIT => Action::Edit { target: from.varint()?, body: read_bytes(from)? },
        DELETE => Action::Delete { target: from.varint()? },
        REACT => Action::React { target: from.varint()?, add: from.flag()?, reaction: from.text()?.to_owned() },
        LEAVE => Action::Leave,
        ADD => Action::Add { user: from.user()? },
        REMOVE => Action::Remove { user: from.user()?, ban: from.flag()? },
        SET_ROLE => match (from.user()?, from.u8()?) {
            (user, role) if role::is_known(role) => Action::SetRole { user, role },
            _ => return Err(CommandError::UnknownAction(number)),
        },
        SET_TITLE => Action::SetTitle { title: from.text()?.to_owned() },
        MARK => Action::Mark { seq: from.varint()?, number: from.varint()? },
        SET_POLICY => Action::SetPolicy { policy: Policy::read(from)? },
        TRIM => Action::Trim { first_kept: from.varint()? },
        SEEN => Action::Seen { user: from.user()?, at: from.varint()? },
        FORGET => Action::Forget { user: from.user()?, device: from.device()?, before: from.varint()? },
        _ => return Err(CommandError::UnknownAction(number)),
    };
    Ok(action)
}

fn read_join(from: &mut Reader<'_>) -> Result<JoinAs, CommandError> {
    match from.u8()? {
        EXISTING => Ok(JoinAs::Existing),
        DIRECT => Ok(JoinAs::Direct(from.user()?)),
        ROOM => Ok(JoinAs::Room(from.text()?.to_owned())),
        NEW_GROUP => Ok(JoinAs::NewGroup),
        _ => Err(CommandError::UnknownAction(JOIN.into())),
    }
}

fn read_bytes(from: &mut Reader<'_>) -> Result<Bytes, Malformed> {
    from.blob().map(Bytes::copy_from_slice)
}
