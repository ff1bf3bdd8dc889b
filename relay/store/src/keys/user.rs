//! `users`: slot of the user 2 ‖ length of the user id 1 ‖ user id.

use quip_protocol::UserId;

pub(crate) fn encode(user: &UserId) -> Vec<u8> {
    super::of_user(user, 0)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    #[test]
    fn round_trip() {
        let key = encode(&ann());
        assert_eq!(hex(&key), "08ff03616e6e");
        assert_eq!(super::super::split_user(&key), Some((ann(), &[][..])));
    }
}
