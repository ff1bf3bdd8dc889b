//! Devices that send over two relays through an order that drops, repeats and reorders.

use std::collections::BTreeMap;

use proptest::prelude::*;
use quip_core::{Action, By, Command, JoinAs};
use quip_protocol::{Code, conversation::Outcome, event::kind};

use crate::world::{GRANTED, ROOM, World, device, room, text, user};

const DEVICES: u8 = 3;
/// More than the window of outcomes.
const COMMANDS: u64 = 150;

/// The device's `n`th command.
fn command(of: u8, n: u64) -> Command {
    let by = By::Device { user: user(if of == 0 { "ann" } else { "bob" }), device: device(of), n };
    let action = if n == 1 { Action::Join(JoinAs::Room(ROOM.into())) } else { text(&format!("{of}/{n}")) };
    Command { conversation: room(), by, authority: GRANTED, action }
}

/// What happens next to one device.
#[derive(Debug, Clone)]
struct Turn {
    of: u8,
    /// It sends so many from the first that has no outcome, as it may.
    burst: u64,
    /// In which order they come out, some of them twice, some not at all.
    order: Vec<u64>,
    at: u64,
}

fn turn() -> impl Strategy<Value = Turn> {
    let order = prop_oneof![
        3 => Just((0..8).collect()),
        2 => prop::collection::vec(0..8u64, 0..16),
        1 => prop::collection::vec(0..100u64, 0..16),
    ];
    (0..DEVICES, 1..9u64, order, 0..1_000_000u64).prop_map(|(of, burst, order, at)| Turn { of, burst, order, at })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn everything_arrives_once_and_in_order(turns in prop::collection::vec(turn(), 1..150)) {
        let mut world = World::default();
        let mut outcomes: BTreeMap<(u8, u64), Outcome> = BTreeMap::new();
        let mut submit = |world: &mut World, of, n, at| {
            let outcome = world.apply(&command(of, n), at).outcome.unwrap();
            match outcome.code {
                Code::DONE => {
                    let first = *outcomes.entry((of, n)).or_insert(outcome);
                    assert_eq!(outcome, first, "a repeat is told what the first was told");
                }
                // Only what is out of the window, or before its turn, is told anything else.
                Code::KNOWN => assert!(outcomes.contains_key(&(of, n + 64))),
                Code::MISSING => {
                    assert!(!outcomes.contains_key(&(of, n)) && !outcomes.contains_key(&(of, outcome.seq + 1)));
                    assert!(outcome.seq == 0 || outcomes.contains_key(&(of, outcome.seq)));
                }
                other => panic!("{other:?}"),
            }
        };
        for turn in &turns {
            let name = if turn.of == 0 { "ann" } else { "bob" };
            let first = world.sends(room(), name, turn.of).map_or(0, |row| row.last) + 1;
            for place in &turn.order {
                // Places over the burst stand for old ones that come again late, by the other relay.
                let n = if *place < turn.burst { first + place } else { first.saturating_sub(*place).max(1) };
                submit(&mut world, turn.of, n.min(COMMANDS), turn.at);
            }
        }
        // In the end every device sends what it has left, as it would.
        for of in 0..DEVICES {
            for n in 1..=COMMANDS {
                submit(&mut world, of, n, 0);
            }
        }

        let head = world.conversation(room()).unwrap().head;
        let mut next = [2; DEVICES as usize];
        let mut at = 0;
        for seq in 1..=head {
            let (event, row) = (world.event(room(), seq).unwrap(), world.event_record(room(), seq).unwrap());
            prop_assert!(event.at >= at, "time never goes back");
            at = event.at;
            if event.kind == kind::TEXT {
                let of = row.device.0[0];
                prop_assert_eq!(row.n, next[of as usize], "each once, in its device's order");
                prop_assert_eq!(event.body, format!("{of}/{}", row.n).into_bytes());
                next[of as usize] += 1;
            }
        }
        prop_assert_eq!(next, [COMMANDS + 1; DEVICES as usize]);
        prop_assert_eq!(head, 2 + u64::from(DEVICES) * (COMMANDS - 1), "two users joined once each");
    }
}
