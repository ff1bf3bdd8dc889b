//! Spreads work over ticks, so that thousands of connections are not looked at in one go.

/// A round of keys, some in each tick.
#[derive(Debug)]
pub(super) struct Round<K> {
    left: Vec<K>,
    each: usize,
}

impl<K> Round<K> {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self { left: Vec::new(), each: 0 }
    }

    /// Begins a round that takes so many ticks. What an earlier one left comes first.
    pub(super) fn begin(&mut self, keys: impl Iterator<Item = K>, ticks: usize) {
        let late = std::mem::take(&mut self.left);
        self.left.extend(keys);
        self.left.extend(late);
        self.each = self.left.len().div_ceil(ticks.max(1));
    }

    /// Those of the next tick.
    pub(super) fn next(&mut self) -> Vec<K> {
        self.left.split_off(self.left.len().saturating_sub(self.each))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_comes_once_in_a_round_and_few_come_together() {
        for (keys, ticks, each) in [(0, 20, 0), (1, 20, 1), (10_001, 20, 501), (7, 1, 7), (7, 0, 7)] {
            let mut round = Round::new();
            round.begin(0..keys, ticks);
            let mut seen = Vec::new();
            for _ in 0..ticks.max(1) {
                let some = round.next();
                assert!(some.len() <= each, "{} of {keys}", some.len());
                seen.extend(some);
            }
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..keys));
            assert!(round.next().is_empty());
        }
    }

    #[test]
    fn what_an_unfinished_round_left_comes_first() {
        let mut round = Round::new();
        round.begin(0..10, 5);
        round.next();
        round.begin(10..14, 2);
        let (first, second) = (round.next(), round.next());
        assert!(first.iter().all(|key| *key < 8), "{first:?}");
        assert_eq!((first.len(), second.len()), (6, 6));
    }
}
