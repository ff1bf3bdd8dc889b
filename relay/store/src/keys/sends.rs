//! `sends`: slot 2 ‖ conversation 16 ‖ device 16 ‖ user id.

use quip_protocol::{ConversationId, DeviceId, UserId};

pub(crate) fn encode(id: ConversationId, device: DeviceId, user: &UserId) -> Vec<u8> {
    [&super::of_conversation(id)[..], &device.0, user.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    #[test]
    fn round_trip() {
        let key = encode(room(), DeviceId([0xd0; 16]), &ann());
        assert_eq!(hex(&key), "0f6703abababababababababababababababd0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0616e6e");
        let (id, rest) = super::super::split_conversation(&key).unwrap();
        assert_eq!((id, &rest[..16], &rest[16..]), (room(), &[0xd0; 16][..], &b"ann"[..]));
    }
}
