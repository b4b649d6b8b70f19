//! Byte-pair encoding of one piece: the merge of lowest rank first, the leftmost among equals.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Merges by the ids of their two parts.
#[derive(Clone, Debug, Default)]
pub struct Merges {
    /// Parts → rank, and the id of the whole.
    pairs: HashMap<(u32, u32), (u32, u32)>,
}

/// A symbol of a piece: a token, and its neighbours.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    id: u32,
    before: usize,
    after: usize,
    alive: bool,
}

/// No neighbour.
const NONE: usize = usize::MAX;

impl Merges {
    /// Merges in the order of their rank: left, right, whole. The first of equal pairs counts.
    pub fn new(ranked: impl IntoIterator<Item = (u32, u32, u32)>) -> Merges {
        let mut pairs = HashMap::new();
        for (rank, (left, right, whole)) in (0u32..).zip(ranked) {
            pairs.entry((left, right)).or_insert((rank, whole));
        }
        Merges { pairs }
    }

    /// Merges the symbols of one piece in `O(n log n)` and appends what is left of them.
    pub fn apply(&self, piece: impl ExactSizeIterator<Item = u32>, into: &mut Vec<u32>) {
        let n = piece.len();
        let mut symbols: Vec<Symbol> = piece
            .enumerate()
            .map(|(i, id)| Symbol {
                id,
                before: i.checked_sub(1).unwrap_or(NONE),
                after: if i + 1 < n { i + 1 } else { NONE },
                alive: true,
            })
            .collect();
        let mut queue = BinaryHeap::with_capacity(n);
        (1..n).for_each(|i| self.consider(&symbols, i - 1, i, &mut queue));
        while let Some(Reverse((_, left, pair))) = queue.pop() {
            let Symbol { id, after: right, alive, .. } = symbols[left];
            // A pair that other merges have changed meanwhile.
            if !alive || right == NONE || (id, symbols[right].id) != pair {
                continue;
            }
            let (_, whole) = self.pairs[&pair];
            let (before, after) = (symbols[left].before, symbols[right].after);
            symbols[left] = Symbol { id: whole, before, after, alive: true };
            symbols[right].alive = false;
            if after != NONE {
                symbols[after].before = left;
                self.consider(&symbols, left, after, &mut queue);
            }
            if before != NONE {
                self.consider(&symbols, before, left, &mut queue);
            }
        }
        into.extend(symbols.iter().filter(|s| s.alive).map(|s| s.id));
    }

    fn consider(&self, symbols: &[Symbol], left: usize, right: usize, queue: &mut Queue) {
        let pair = (symbols[left].id, symbols[right].id);
        if let Some((rank, _)) = self.pairs.get(&pair) {
            queue.push(Reverse((*rank, left, pair)));
        }
    }
}

/// Candidates: rank, place of the left symbol, and the two ids that stood there.
type Queue = BinaryHeap<Reverse<(u32, usize, (u32, u32))>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(merges: &Merges, piece: &[u32]) -> Vec<u32> {
        let mut out = Vec::new();
        merges.apply(piece.iter().copied(), &mut out);
        out
    }

    #[test]
    fn the_lowest_rank_goes_first_and_the_leftmost_of_equals() {
        // b c before a b: the second merge wins although it stands further right.
        let merges = Merges::new([(1, 2, 10), (0, 1, 11), (11, 2, 12)]);
        assert_eq!(apply(&merges, &[0, 1, 2]), [0, 10]);
        assert_eq!(apply(&merges, &[0, 1, 0, 1, 2]), [11, 0, 10]);
        let doubled = Merges::new([(5, 5, 6)]);
        assert_eq!(apply(&doubled, &[5, 5, 5]), [6, 5]);
        assert_eq!(apply(&doubled, &[]), [0u32; 0]);
    }

    #[test]
    fn a_merge_by_id_is_not_a_merge_by_rank() {
        // The whole with the larger id has the lower rank.
        let merges = Merges::new([(1, 2, 99), (0, 1, 50)]);
        assert_eq!(apply(&merges, &[0, 1, 2]), [0, 99]);
    }

    #[test]
    fn a_long_piece_takes_no_quadratic_time() {
        let merges = Merges::new([(0, 0, 1), (1, 1, 2), (2, 2, 3), (3, 3, 4)]);
        let out = apply(&merges, &vec![0; 1 << 20]);
        assert_eq!(out, vec![4; 1 << 16]);
    }
}
