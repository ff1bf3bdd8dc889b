//! Spreads a scan over ticks, so that thousands of connections are not looked at in one go. Pure.

/// Keys, some for each tick.
#[derive(Debug)]
pub(super) struct PacedScan<K> {
    left: Vec<K>,
    each: usize,
}

impl<K> PacedScan<K> {
    /// Nothing to scan.
    pub(super) fn new() -> Self {
        Self { left: Vec::new(), each: 0 }
    }

    /// Begins a scan that takes this many ticks. What an earlier one left comes first.
    pub(super) fn begin(&mut self, keys: impl Iterator<Item = K>, ticks: usize) {
        let late = std::mem::take(&mut self.left);
        self.left.extend(keys);
        self.left.extend(late);
        self.each = self.left.len().div_ceil(ticks.max(1));
    }

    /// The keys of the next tick.
    pub(super) fn next(&mut self) -> Vec<K> {
        self.left.split_off(self.left.len().saturating_sub(self.each))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_comes_once_in_a_scan_and_few_come_together() {
        for (keys, ticks, each) in [(0, 20, 0), (1, 20, 1), (10_001, 20, 501), (7, 1, 7), (7, 0, 7)] {
            let mut scan = PacedScan::new();
            scan.begin(0..keys, ticks);
            let mut seen = Vec::new();
            for _ in 0..ticks.max(1) {
                let some = scan.next();
                assert!(some.len() <= each, "{} of {keys}", some.len());
                seen.extend(some);
            }
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..keys));
            assert!(scan.next().is_empty());
        }
    }

    #[test]
    fn what_an_unfinished_scan_left_comes_first() {
        let mut scan = PacedScan::new();
        scan.begin(0..10, 5);
        scan.next();
        scan.begin(10..14, 2);
        let (first, second) = (scan.next(), scan.next());
        assert!(first.iter().all(|key| *key < 8), "{first:?}");
        assert_eq!((first.len(), second.len()), (6, 6));
    }
}
