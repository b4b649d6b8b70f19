//! The static memory plan: where each value of a call lies, reused once nobody reads it again.

/// Something that needs bytes from one step to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// How many bytes.
    pub bytes: usize,
    /// The first step that it must exist in.
    pub first: usize,
    /// The last one.
    pub last: usize,
}

/// Every address is a multiple of this.
pub const ALIGN: usize = 256;

/// An offset for each need, and the bytes of the arena: the largest first, each at the lowest
/// place where nothing that lives at the same time lies.
pub fn plan(needs: &[Need]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..needs.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(needs[*i].bytes), *i));
    let mut offsets = vec![0; needs.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut end = 0;
    for i in order {
        let need = needs[i];
        let mut beside: Vec<(usize, usize)> = placed
            .iter()
            .filter(|j| needs[**j].first <= need.last && need.first <= needs[**j].last)
            .map(|j| (offsets[*j], offsets[*j] + needs[*j].bytes))
            .collect();
        beside.sort_unstable();
        let mut at = 0usize;
        for (from, to) in beside {
            if at + need.bytes <= from {
                break;
            }
            at = at.max(to.next_multiple_of(ALIGN));
        }
        offsets[i] = at;
        end = end.max(at + need.bytes);
        placed.push(i);
    }
    (offsets, end.next_multiple_of(ALIGN))
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn what_lives_together_lies_apart() {
        let mut rng = StdRng::seed_from_u64(7);
        for _ in 0..200 {
            let needs: Vec<Need> = (0..rng.random_range(1..40))
                .map(|_| {
                    let first = rng.random_range(0..20);
                    let last = first + rng.random_range(0..6);
                    Need { bytes: rng.random_range(1..5000), first, last }
                })
                .collect();
            let (offsets, end) = plan(&needs);
            for (i, a) in needs.iter().enumerate() {
                assert!(offsets[i].is_multiple_of(ALIGN) && offsets[i] + a.bytes <= end);
                for (j, b) in needs.iter().enumerate().skip(i + 1) {
                    let together = a.first <= b.last && b.first <= a.last;
                    let apart =
                        offsets[i] + a.bytes <= offsets[j] || offsets[j] + b.bytes <= offsets[i];
                    assert!(
                        !together || apart,
                        "{a:?} at {} and {b:?} at {}",
                        offsets[i],
                        offsets[j]
                    );
                }
            }
        }
    }

    #[test]
    fn a_chain_needs_two_places() {
        let needs: Vec<Need> =
            (0..10).map(|i| Need { bytes: 1024, first: i, last: i + 1 }).collect();
        assert_eq!(plan(&needs).1, 2048);
    }
}
