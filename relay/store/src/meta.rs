//! What a store says of itself, beside the records: keys begin with 0, which is no kind.

use quip_order::Positions;

/// u64: identity of the log that the store follows.
pub(crate) const GENERATION: &[u8] = b"\0generation";
/// u64 for each partition: up to where the store has what follows from the log.
pub(crate) const POSITIONS: &[u8] = b"\0positions";

pub(crate) fn encode(positions: &Positions) -> Vec<u8> {
    positions.iter().flat_map(|(_, position)| position.to_be_bytes()).collect()
}

pub(crate) fn decode(value: &[u8]) -> Option<Positions> {
    let (numbers, rest) = value.as_chunks();
    rest.is_empty().then(|| numbers.iter().map(|number| u64::from_be_bytes(*number)).collect())
}

pub(crate) fn number(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back() {
        for positions in [vec![], vec![7], vec![1, u64::MAX, 0]] {
            let positions = Positions::from_iter(positions);
            assert_eq!(decode(&encode(&positions)), Some(positions));
        }
        assert_eq!(encode(&Positions::from_iter([7])), [0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!((decode(&[0; 9]), number(&[0; 7])), (None, None));
    }
}
