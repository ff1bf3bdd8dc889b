//! Checks that each member of a conversation got every message once, and all members in the same order.

use std::collections::{HashMap, HashSet};

use crate::check::Faults;

/// Compares what each member of a conversation got, including the sender, with what was sent.
///
/// `said` are the messages in order of time with their senders; `got` are the messages of each member in order of arrival.
/// The common order is that of the members; it must keep the order of each sender.
pub(super) fn judge(said: &[(u64, usize)], got: &[Vec<u64>]) -> Faults {
    let mut faults = Faults::default();
    let once: Vec<Vec<u64>> = got
        .iter()
        .map(|numbers| {
            let mut seen = HashSet::new();
            let once: Vec<u64> = numbers.iter().copied().filter(|number| seen.insert(*number)).collect();
            faults.duplicated += (numbers.len() - once.len()) as u64;
            faults.lost += (said.len() - once.len()) as u64;
            once
        })
        .collect();
    // The reference is the order of a member with the most messages, since others say nothing about what they lack. Of these
    // it is the one with the fewest faults, since one member may have the wrong order.
    let most = once.iter().map(Vec::len).max().unwrap_or(0);
    let orders = once.iter().filter(|order| order.len() == most);
    faults.reordered = orders.map(|order| disorder(said, order, &once)).min().unwrap_or(0);
    faults
}

/// Number of messages that arrived after a later one, in terms of `order`.
fn disorder(said: &[(u64, usize)], order: &[u64], got: &[Vec<u64>]) -> u64 {
    let places: HashMap<u64, usize> = order.iter().copied().zip(0..).collect();
    let late = |places: &mut dyn Iterator<Item = usize>| {
        let mut latest = 0;
        places
            .filter(|place| {
                latest = latest.max(*place);
                *place < latest
            })
            .count() as u64
    };
    let senders = said.iter().map(|(_, sender)| *sender).collect::<HashSet<_>>();
    let of_sender = |sender: usize| {
        let own = said.iter().filter(move |(_, by)| *by == sender);
        own.filter_map(|(number, _)| places.get(number).copied())
    };
    let within: u64 = senders.into_iter().map(|sender| late(&mut of_sender(sender))).sum();
    let between: u64 =
        got.iter().map(|numbers| late(&mut numbers.iter().filter_map(|number| places.get(number).copied()))).sum();
    within + between
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages 10 to 15 of two senders, of which the members have 11 and 12 in the other order.
    const SAID: [(u64, usize); 6] = [(10, 0), (11, 1), (12, 0), (13, 0), (14, 1), (15, 1)];
    const ORDER: [u64; 6] = [10, 12, 11, 13, 14, 15];

    fn faults(got: &[Vec<u64>]) -> (u64, u64, u64) {
        let Faults { lost, duplicated, reordered } = judge(&SAID, got);
        (lost, duplicated, reordered)
    }

    #[test]
    fn members_decide_the_order_of_different_senders() {
        assert_eq!(faults(&[ORDER.to_vec(), ORDER.to_vec()]), (0, 0, 0));
        assert_eq!(faults(&[SAID.map(|(number, _)| number).to_vec()]), (0, 0, 0));
    }

    #[test]
    fn planted_faults_are_found_at_any_member_and_message() {
        for members in [2, 3, 8] {
            for (member, place) in (0..members).flat_map(|member| (0..5).map(move |place| (member, place))) {
                let all = vec![ORDER.to_vec(); members];
                let mut lost = all.clone();
                lost[member].remove(place);
                assert_eq!(faults(&lost), (1, 0, 0), "{member} loses {place}");
                let mut twice = all.clone();
                twice[member].push(ORDER[place]);
                assert_eq!(faults(&twice), (0, 1, 0), "{member} has {place} twice");
                let mut swapped = all;
                swapped[member].swap(place, place + 1);
                assert_eq!(faults(&swapped), (0, 0, 1), "{member} has {place} late");
            }
        }
    }

    #[test]
    fn a_senders_own_order_is_kept_by_all_or_it_is_a_fault() {
        let swapped = vec![10, 13, 11, 12, 14, 15];
        assert_eq!(faults(&[swapped.clone(), swapped]), (0, 0, 1));
    }

    #[test]
    fn a_loss_does_not_hide_a_swap() {
        let swapped = vec![10, 11, 12, 13, 14, 15];
        assert_eq!(faults(&[ORDER.to_vec(), swapped, Vec::new()]), (6, 0, 1));
    }

    #[test]
    fn who_gets_nothing_loses_everything() {
        assert_eq!(faults(&[ORDER.to_vec(), Vec::new()]), (6, 0, 0));
    }
}
