//! Send numbers that were not used for long are found page by page and forgotten.

use std::collections::BTreeSet;

use quip_core::{Command, record::SendsKey};
use quip_protocol::{Code, DeviceId};
use quip_store::View;

use crate::harness::*;

/// Everything that the pages name, and how many there were. No page looks at much more than `looks` records.
fn expired(view: &View, before: u64, looks: usize) -> (BTreeSet<SendsKey>, usize) {
    let (mut all, mut after, mut pages) = (BTreeSet::new(), None, 0);
    loop {
        let page = view.expired(after.as_ref(), before, looks).unwrap();
        assert!(page.devices.len() <= looks);
        for key in page.devices {
            assert!(all.insert(key), "named twice");
        }
        pages += 1;
        after = page.next;
        if after.is_none() {
            return (all, pages);
        }
    }
}

#[test]
fn devices_are_found_wherever_a_page_ends_and_forgotten_with_all_their_parts() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::open(folder.path());
    let rooms = ["test:one", "test:two"];
    let mut keys = BTreeSet::new();
    for (number, name) in (0..40).map(|number: u8| (number, rooms[usize::from(number) % 2])) {
        let mut device = Device { device: DeviceId([number; 16]), ..Device::new("ann", room(name)) };
        relay.accepted(device.next(join(name)));
        // Up to nine parts, and one that was used again from the first place on.
        for _ in 0..number * 3 {
            relay.accepted(device.next(post("x")));
        }
        keys.insert(SendsKey(device.conversation, device.device, device.user));
    }
    let view = relay.view();
    assert_eq!(expired(view, 0, 7).0, BTreeSet::new(), "all were used since");
    for looks in [1, 2, 3, 10, 64, 10_000] {
        let (found, pages) = expired(view, u64::MAX, looks);
        assert_eq!(found, keys, "{looks} looks");
        assert_eq!(pages == 1, looks == 10_000, "{pages} pages of {looks} looks");
    }

    let gone: BTreeSet<_> = keys.iter().filter(|SendsKey(_, device, _)| device.0[0] < 30).cloned().collect();
    for key in &gone {
        relay.submit(Command::forget(key.clone(), u64::MAX));
    }
    // They have no outcome to wait for.
    relay.close();
    let relay = Relay::open(folder.path());
    // A device that is heard again begins with 1.
    let SendsKey(conversation, device, user) = gone.last().cloned().unwrap();
    let mut again = Device { user, device, conversation, n: 50 };
    let refused = relay.send(again.next(post("50"))).outcome.unwrap();
    assert_eq!((refused.code, refused.seq), (Code::MISSING, 0));
    again.n = 0;
    relay.accepted(again.next(post("1")));
    let left: BTreeSet<_> = keys.difference(&gone).chain(gone.last()).cloned().collect();
    assert_eq!(expired(relay.view(), u64::MAX, 5).0, left);
    relay.close();
    let relay = Relay::open(folder.path());
    let view = relay.view();
    assert_eq!(expired(view, u64::MAX, 5).0, left);
    let sends = view.sends(again.conversation, &again.user, again.device).unwrap().unwrap();
    assert_eq!((sends.last, sends.latest.len()), (1, 1), "no part of before is left");
    relay.close();
}
