//! Names and how ids follow from them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use quip_protocol::{ConversationId, Kind, RoomName, UserId, limit};

fn user(text: &str) -> UserId {
    UserId::parse(text).unwrap()
}

#[test]
fn user_ids() {
    let longest = "x".repeat(limit::USER);
    for good in ["a", "Ännchen", "user with spaces", "a:b/c", "\u{a0}", &longest] {
        assert_eq!(UserId::parse(good).unwrap().as_str(), good);
    }
    let too_long_in_bytes = "ä".repeat(limit::USER / 2) + "x";
    for bad in ["", "a\0", "\n", "\u{7f}", "\u{80}", "\u{9f}", &(longest.clone() + "x"), &too_long_in_bytes] {
        assert!(UserId::parse(bad).is_err(), "{bad:?} passes");
    }
}

#[test]
fn room_names() {
    let part = "a".repeat(limit::ROOM_PART);
    for good in ["a:b", "lobby:main", "0.x_y-z:9", &format!("{part}:{part}")] {
        assert_eq!(RoomName::parse(good).unwrap().as_str(), good);
    }
    let long = format!("{part}a:b");
    let bad = ["", ":", "a", "a:", ":b", "a:b:c", "A:b", "a:B", ".a:b", "a:-b", "a:_b", "a b:c", "ä:b", "a:b\n", &long];
    for bad in bad {
        assert!(RoomName::parse(bad).is_err(), "{bad:?} passes");
    }
    assert_eq!(RoomName::parse("lobby:main").unwrap().namespace(), "lobby");
}

#[test]
fn the_kind_is_the_first_byte() {
    assert_eq!(ConversationId::direct(&user("a"), &user("b")).kind(), Some(Kind::Direct));
    assert_eq!(ConversationId::group([9; 15]).kind(), Some(Kind::Group));
    assert_eq!(ConversationId::group([9; 15]).0[1..], [9; 15]);
    assert_eq!(ConversationId::room(&RoomName::parse("a:b").unwrap()).kind(), Some(Kind::Room));
    for unused in (0..=u8::MAX).filter(|byte| !(1..=3).contains(byte)) {
        assert_eq!(ConversationId([unused; 16]).kind(), None);
    }
}

#[test]
fn direct_ids_depend_on_both_users_and_not_on_their_order() {
    let id = |a: &str, b: &str| ConversationId::direct(&user(a), &user(b));
    assert_eq!(id("alice", "bob"), id("bob", "alice"));
    assert_eq!(id("z", "ä"), id("ä", "z"));
    assert_ne!(id("alice", "bob"), id("alice", "alice"));
    assert_ne!(id("ab", "c"), id("a", "bc"), "lengths must be part of the hash");
}
