//! `sends`: slot 2 ‖ conversation 16 ‖ device 16 ‖ length of the user id 1 ‖ user id ‖ place of the part 1.

use quip_protocol::{ConversationId, DeviceId, UserId};

pub(crate) fn encode(id: ConversationId, device: DeviceId, user: &UserId, place: u8) -> Vec<u8> {
    let mut key = prefix(id, device, user);
    key.push(place);
    key
}

/// What the keys of a device's parts begin with.
pub(crate) fn prefix(id: ConversationId, device: DeviceId, user: &UserId) -> Vec<u8> {
    let user = user.as_str().as_bytes();
    [&super::of_conversation(id)[..], &device.0, &[user.len() as u8], user].concat()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    #[test]
    fn round_trip() {
        let key = encode(room(), DeviceId([0xd0; 16]), &ann(), 8);
        assert_eq!(hex(&key), "0f6703abababababababababababababababd0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d003616e6e08");
        let annie = UserId::parse("annie").unwrap();
        assert!(!encode(room(), DeviceId([0xd0; 16]), &annie, 0).starts_with(&key[..key.len() - 1]));
    }
}
