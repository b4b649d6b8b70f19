//! How tensors of a file are stored: every type of both formats, and which of them are computed
//! with.

use std::fmt;

use crate::dtype::DType;

/// A type of a model file: blocks of [`Stored::elements`] elements in [`Stored::bytes`] bytes.
#[derive(Clone, Copy)]
pub struct Stored(&'static Format);

struct Format {
    /// The number in a GGUF file; `None` for types of safetensors alone.
    id: Option<u32>,
    /// The word in a safetensors file; empty for types of GGUF alone.
    word: &'static str,
    name: &'static str,
    elements: u64,
    bytes: u64,
    dtype: Option<DType>,
}

const fn ours(id: u32, word: &'static str, dtype: DType) -> Format {
    let (elements, bytes) = (dtype.elements() as u64, dtype.bytes() as u64);
    Format { id: Some(id), word, name: dtype.name(), elements, bytes, dtype: Some(dtype) }
}

const fn other(id: u32, word: &'static str, name: &'static str, e: u64, b: u64) -> Format {
    Format { id: Some(id), word, name, elements: e, bytes: b, dtype: None }
}

const fn word(word: &'static str, name: &'static str, elements: u64, bytes: u64) -> Format {
    Format { id: None, word, name, elements, bytes, dtype: None }
}

/// ggml.h and ggml-common.h for the numbers and block sizes; the safetensors format for the words.
const FORMATS: &[Format] = &[
    ours(0, "F32", DType::F32),
    ours(1, "F16", DType::F16),
    ours(2, "", DType::Q4_0),
    other(3, "", "q4_1", 32, 20),
    ours(6, "", DType::Q5_0),
    other(7, "", "q5_1", 32, 24),
    ours(8, "", DType::Q8_0),
    other(9, "", "q8_1", 32, 36),
    other(10, "", "q2_k", 256, 84),
    other(11, "", "q3_k", 256, 110),
    ours(12, "", DType::Q4K),
    ours(13, "", DType::Q5K),
    ours(14, "", DType::Q6K),
    other(15, "", "q8_k", 256, 292),
    other(16, "", "iq2_xxs", 256, 66),
    other(17, "", "iq2_xs", 256, 74),
    other(18, "", "iq3_xxs", 256, 98),
    other(19, "", "iq1_s", 256, 50),
    other(20, "", "iq4_nl", 32, 18),
    other(21, "", "iq3_s", 256, 110),
    other(22, "", "iq2_s", 256, 82),
    other(23, "", "iq4_xs", 256, 136),
    other(24, "I8", "i8", 1, 1),
    other(25, "I16", "i16", 1, 2),
    ours(26, "I32", DType::I32),
    other(27, "I64", "i64", 1, 8),
    ours(28, "F64", DType::F64),
    other(29, "", "iq1_m", 256, 56),
    ours(30, "BF16", DType::BF16),
    other(34, "", "tq1_0", 256, 54),
    other(35, "", "tq2_0", 256, 66),
    ours(39, "", DType::Mxfp4),
    Format { id: None, word: "U8", name: "u8", elements: 1, bytes: 1, dtype: Some(DType::U8) },
    word("BOOL", "bool", 1, 1),
    word("C64", "c64", 1, 8),
    word("F4", "f4", 2, 1),
    word("F6_E2M3", "f6_e2m3", 4, 3),
    word("F6_E3M2", "f6_e3m2", 4, 3),
    word("F8_E4M3", "f8_e4m3", 1, 1),
    word("F8_E4M3FNUZ", "f8_e4m3fnuz", 1, 1),
    word("F8_E5M2", "f8_e5m2", 1, 1),
    word("F8_E5M2FNUZ", "f8_e5m2fnuz", 1, 1),
    word("F8_E8M0", "f8_e8m0", 1, 1),
    word("U16", "u16", 1, 2),
    word("U32", "u32", 1, 4),
    word("U64", "u64", 1, 8),
];

/// Numbers that GGUF gave up, and what they were.
pub const REMOVED: &[(u32, &str)] = &[
    (4, "q4_2"),
    (5, "q4_3"),
    (31, "q4_0_4_4"),
    (32, "q4_0_4_8"),
    (33, "q4_0_8_8"),
    (36, "iq4_nl_4_4"),
    (37, "iq4_nl_4_8"),
    (38, "iq4_nl_8_8"),
];

/// A number of a GGUF type that newer writers may use.
pub const NEWER: std::ops::RangeInclusive<u32> = 40..=255;

impl Stored {
    /// The type with this number in a GGUF file.
    pub fn of_gguf(id: u32) -> Option<Stored> {
        FORMATS.iter().find(|f| f.id == Some(id)).map(Stored)
    }

    /// The type with this word in a safetensors file.
    pub fn of_word(word: &str) -> Option<Stored> {
        FORMATS.iter().find(|f| f.word == word && !word.is_empty()).map(Stored)
    }

    /// Every word of a safetensors file, for messages.
    pub fn words() -> Vec<&'static str> {
        let mut words: Vec<_> =
            FORMATS.iter().map(|f| f.word).filter(|word| !word.is_empty()).collect();
        words.sort_unstable();
        words
    }

    /// The engine's type, if it computes with it.
    pub fn dtype(self) -> Option<DType> {
        self.0.dtype
    }

    /// The name, lower case: `q4_k`, `iq4_nl`, `bf16`.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Elements of a block; 1 for plain types.
    pub fn elements(self) -> u64 {
        self.0.elements
    }

    /// Bytes of a block; of one element for plain types.
    pub fn bytes(self) -> u64 {
        self.0.bytes
    }
}

impl PartialEq for Stored {
    fn eq(&self, other: &Stored) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Stored {}

impl PartialEq<DType> for Stored {
    fn eq(&self, other: &DType) -> bool {
        self.0.dtype == Some(*other)
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_and_word_occurs_once_and_every_weight_type_has_a_number() {
        for (i, a) in FORMATS.iter().enumerate() {
            for b in &FORMATS[i + 1..] {
                assert!(a.name != b.name && (a.id.is_none() || a.id != b.id), "{}", a.name);
                assert!(a.word.is_empty() || a.word != b.word, "{}", a.word);
            }
            assert!(REMOVED.iter().all(|(id, _)| a.id != Some(*id)), "{}", a.name);
        }
        for dtype in DType::WEIGHTS {
            assert!(FORMATS.iter().any(|f| f.dtype == Some(dtype) && f.id.is_some()), "{dtype}");
        }
    }
}
