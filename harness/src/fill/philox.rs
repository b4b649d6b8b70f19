//! Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"):
//! a block cipher used as a generator, so that word i can be computed without the words before it.

use sha2::{Digest, Sha256};

/// The stream of words for one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
}

impl Philox {
    /// The stream of a tensor. The key is the first 8 bytes (two little-endian words) of SHA-256
    /// over `goldgate-fill-1`, stem, case and tensor, each followed by a newline.
    pub fn for_tensor(parts: [&str; 3]) -> Philox {
        let mut hash = Sha256::new();
        for part in ["goldgate-fill-1"].into_iter().chain(parts) {
            hash.update(part.as_bytes());
            // The newline keeps the parts apart: without it, `a` and `bc` would share a stream with
            // `ab` and `c`.
            hash.update(b"\n");
        }
        let digest = hash.finalize();
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| digest[at + i]));
        Philox { key: [word(0), word(4)] }
    }

    /// Word `i`: word i mod 4 of the block with the counter i div 4.
    pub fn word(&self, i: u64) -> u32 {
        self.block(i / 4)[(i % 4) as usize]
    }

    /// The four words of a block. `counter` is the low 64 bits of its counter, and the high ones
    /// are zero.
    pub fn block(&self, counter: u64) -> [u32; 4] {
        philox4x32_10([counter as u32, (counter >> 32) as u32, 0, 0], self.key)
    }
}

/// Ten rounds on a counter of four words under a key of two.
pub fn philox4x32_10(mut c: [u32; 4], mut k: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        // The key is raised between rounds, hence nine times in ten, as the paper has it.
        if round > 0 {
            k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
        }
        let p0 = u64::from(c[0]) * 0xD251_1F53;
        let p1 = u64::from(c[2]) * 0xCD9E_8D57;
        c = [
            (p1 >> 32) as u32 ^ c[1] ^ k[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ c[3] ^ k[1],
            p0 as u32,
        ];
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers of Random123 1.14, `kat_vectors`.
    #[test]
    fn known_answers() {
        let table = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, want) in table {
            assert_eq!(philox4x32_10(counter, key), want);
        }
    }

    #[test]
    fn a_new_name_is_new_data() {
        let a = Philox::for_tensor(["layernorm", "one", "x"]);
        assert_ne!(a, Philox::for_tensor(["layernorm", "one", "gamma"]));
        assert_ne!(a, Philox::for_tensor(["layernorm", "onex", ""]));
        assert_eq!(a.word(7), a.block(1)[3]);
    }
}
