//! Metadata of a GGUF file: keys, typed values, arrays that stay in the file.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::weights::file::Mapped;
use crate::weights::refusal::begin;

/// One value. Numbers keep the type that the file gives them.
#[derive(Clone, Debug)]
pub enum Value {
    /// Type 0.
    U8(u8),
    /// Type 1.
    I8(i8),
    /// Type 2.
    U16(u16),
    /// Type 3.
    I16(i16),
    /// Type 4.
    U32(u32),
    /// Type 5.
    I32(i32),
    /// Type 6.
    F32(f32),
    /// Type 7.
    Bool(bool),
    /// Type 8.
    String(String),
    /// Type 9; never of arrays.
    Array(Array),
    /// Type 10.
    U64(u64),
    /// Type 11.
    I64(i64),
    /// Type 12.
    F64(f64),
}

impl Value {
    /// A whole number that is not negative, whatever its width.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Value::U8(x) => Some(x.into()),
            Value::U16(x) => Some(x.into()),
            Value::U32(x) => Some(x.into()),
            Value::U64(x) => Some(x),
            Value::I8(x) => x.try_into().ok(),
            Value::I16(x) => x.try_into().ok(),
            Value::I32(x) => x.try_into().ok(),
            Value::I64(x) => x.try_into().ok(),
            _ => None,
        }
    }

    /// A real number, widened.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::F32(x) => Some(x.into()),
            Value::F64(x) => Some(x),
            _ => None,
        }
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Value::Bool(x) => Some(x),
            _ => None,
        }
    }

    /// A string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(x) => Some(x),
            _ => None,
        }
    }

    /// An array.
    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Value::Array(x) => Some(x),
            _ => None,
        }
    }

    /// The name of the type, as the format's text has it.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::U8(_) => "uint8",
            Value::I8(_) => "int8",
            Value::U16(_) => "uint16",
            Value::I16(_) => "int16",
            Value::U32(_) => "uint32",
            Value::I32(_) => "int32",
            Value::F32(_) => "float32",
            Value::Bool(_) => "bool",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::U64(_) => "uint64",
            Value::I64(_) => "int64",
            Value::F64(_) => "float64",
        }
    }
}

/// The value in a message: strings cut, arrays by their length.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::U8(x) => x.fmt(f),
            Value::I8(x) => x.fmt(f),
            Value::U16(x) => x.fmt(f),
            Value::I16(x) => x.fmt(f),
            Value::U32(x) => x.fmt(f),
            Value::I32(x) => x.fmt(f),
            Value::F32(x) => x.fmt(f),
            Value::Bool(x) => x.fmt(f),
            Value::String(x) => f.write_str(&begin(x)),
            Value::Array(x) => write!(f, "{} of {}", x.len(), x.element().name()),
            Value::U64(x) => x.fmt(f),
            Value::I64(x) => x.fmt(f),
            Value::F64(x) => x.fmt(f),
        }
    }
}

/// What an array holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Type 0.
    U8,
    /// Type 1.
    I8,
    /// Type 2.
    U16,
    /// Type 3.
    I16,
    /// Type 4.
    U32,
    /// Type 5.
    I32,
    /// Type 6.
    F32,
    /// Type 7.
    Bool,
    /// Type 8.
    String,
    /// Type 10.
    U64,
    /// Type 11.
    I64,
    /// Type 12.
    F64,
}

impl Element {
    /// The type with this number; arrays are not among them.
    pub(super) fn of(id: u32) -> Option<Element> {
        use Element::{Bool, F32, F64, I8, I16, I32, I64, String, U8, U16, U32, U64};
        Some(match id {
            0 => U8,
            1 => I8,
            2 => U16,
            3 => I16,
            4 => U32,
            5 => I32,
            6 => F32,
            7 => Bool,
            8 => String,
            10 => U64,
            11 => I64,
            12 => F64,
            _ => return None,
        })
    }

    /// Bytes of one; of a string the fewest, its length.
    pub const fn bytes(self) -> u64 {
        match self {
            Element::U8 | Element::I8 | Element::Bool => 1,
            Element::U16 | Element::I16 => 2,
            Element::U32 | Element::I32 | Element::F32 => 4,
            Element::String | Element::U64 | Element::I64 | Element::F64 => 8,
        }
    }

    /// The name of the type, as the format's text has it.
    pub const fn name(self) -> &'static str {
        match self {
            Element::U8 => "uint8",
            Element::I8 => "int8",
            Element::U16 => "uint16",
            Element::I16 => "int16",
            Element::U32 => "uint32",
            Element::I32 => "int32",
            Element::F32 => "float32",
            Element::Bool => "bool",
            Element::String => "string",
            Element::U64 => "uint64",
            Element::I64 => "int64",
            Element::F64 => "float64",
        }
    }
}

/// A flat array: a range of the mapped file, decoded while it is walked.
#[derive(Clone)]
pub struct Array {
    pub(super) file: Arc<Mapped>,
    pub(super) element: Element,
    pub(super) count: usize,
    pub(super) range: Range<usize>,
}

impl Array {
    /// What it holds.
    pub fn element(&self) -> Element {
        self.element
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The strings, not copied; `None` if it holds something else. A file that somebody rewrote
    /// since it was opened may end the walk early.
    pub fn strings(&self) -> Option<impl Iterator<Item = &str>> {
        (self.element == Element::String).then(|| {
            let mut rest = self.bytes();
            std::iter::from_fn(move || {
                let (length, after) = rest.split_first_chunk::<8>()?;
                let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
                let (text, after) = after.split_at_checked(length)?;
                rest = after;
                std::str::from_utf8(text).ok()
            })
        })
    }

    /// The numbers as whole numbers; `None` if it holds floats, strings or booleans, or if one of
    /// them does not fit.
    pub fn integers(&self) -> Option<Vec<i64>> {
        let b = self.bytes();
        match self.element {
            Element::U8 => Some(b.iter().map(|&x| x.into()).collect()),
            Element::I8 => Some(b.iter().map(|&x| x.cast_signed().into()).collect()),
            Element::U16 => Some(words(b).map(|w| u16::from_le_bytes(w).into()).collect()),
            Element::I16 => Some(words(b).map(|w| i16::from_le_bytes(w).into()).collect()),
            Element::U32 => Some(words(b).map(|w| u32::from_le_bytes(w).into()).collect()),
            Element::I32 => Some(words(b).map(|w| i32::from_le_bytes(w).into()).collect()),
            Element::U64 => words(b).map(|w| u64::from_le_bytes(w).try_into().ok()).collect(),
            Element::I64 => Some(words(b).map(i64::from_le_bytes).collect()),
            Element::F32 | Element::F64 | Element::Bool | Element::String => None,
        }
    }

    /// The numbers as reals; `None` if it holds no floats.
    pub fn reals(&self) -> Option<Vec<f64>> {
        match self.element {
            Element::F32 => {
                Some(words(self.bytes()).map(|w| f32::from_le_bytes(w).into()).collect())
            }
            Element::F64 => Some(words(self.bytes()).map(f64::from_le_bytes).collect()),
            _ => None,
        }
    }

    /// The booleans; `None` if it holds something else.
    pub fn booleans(&self) -> Option<Vec<bool>> {
        (self.element == Element::Bool).then(|| self.bytes().iter().map(|&b| b != 0).collect())
    }

    fn bytes(&self) -> &[u8] {
        &self.file[self.range.clone()]
    }
}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}; {}]", self.element.name(), self.count)
    }
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}

/// A key with its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Value,
    /// The byte where the record begins: the key's length.
    pub record: u64,
    /// The byte where the value begins.
    pub offset: u64,
}

/// All keys of a file, in its order; no key stands twice.
#[derive(Clone, Debug, Default)]
pub struct Metadata(pub(super) Vec<Entry>);

impl Metadata {
    /// The entry of a key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.key == key)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Every entry, in the order of the file.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }
}
