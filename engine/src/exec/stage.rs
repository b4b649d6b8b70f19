//! How weights go to a device: in batches that mirror their arena, each filled by several threads
//! and looked through for numbers that are not finite while it is in the processor's cache.

use rayon::prelude::*;

use crate::dtype::DType;
use crate::exec::cpu::{CallError, Source};
use crate::exec::room::Shelf;
use crate::program::{Id, Kind, Program, Sizes};
use crate::quant::is_finite;

/// Bytes of one buffer.
pub const BUFFER: usize = 16 << 20;

/// Buffers that are filled in turn.
pub const BUFFERS: usize = 4;

/// Most bytes that one thread fills at once: one thread alone copies slower than the bus.
const PIECE: usize = 1 << 20;

/// A weight of a Program and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight<'p> {
    tensor: &'p str,
    first: usize,
    rows: usize,
    dtype: DType,
    bytes: usize,
    offset: usize,
}

/// A part of a weight: whole elements or blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    /// Which weight.
    weight: usize,
    /// Its first byte within the weight.
    from: usize,
    /// How many.
    bytes: usize,
    /// Where they lie in the buffer.
    at: usize,
}

/// A range of the arena that goes over in one copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Where it lies in the arena.
    pub offset: usize,
    /// How long it is.
    pub bytes: usize,
    pieces: Vec<Piece>,
}

/// The weights of a Program in the order of their arena.
pub fn weights<'p>(program: &'p Program, shelf: &Shelf) -> Vec<Weight<'p>> {
    let mut weights = Vec::new();
    for (i, slot) in program.slots.iter().enumerate() {
        let Kind::Weight { tensor, first } = &slot.kind else { continue };
        let meta = program.slot_meta(Id(i), Sizes { n: 0, m: 0 });
        weights.push(Weight {
            tensor,
            first: *first,
            rows: meta.shape.first().copied().unwrap_or(1),
            dtype: meta.dtype,
            bytes: meta.bytes().unwrap_or(0),
            offset: shelf.offsets[&Id(i)],
        });
    }
    weights
}

/// Cuts weights, whose offsets rise, into batches of at most `most` bytes, which hold a block of
/// any type.
pub fn batches(weights: &[Weight<'_>], most: usize) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for (i, weight) in weights.iter().enumerate() {
        let unit = weight.dtype.bytes();
        let mut from = 0;
        while from < weight.bytes {
            let offset = weight.offset + from;
            let at = batches.last().map_or(most, |b| offset - b.offset);
            let room = most.saturating_sub(at).min(PIECE) / unit * unit;
            if room == 0 {
                batches.push(Batch { offset, bytes: 0, pieces: Vec::new() });
                continue;
            }
            let bytes = room.min(weight.bytes - from);
            if let Some(batch) = batches.last_mut() {
                batch.pieces.push(Piece { weight: i, from, bytes, at });
                batch.bytes = at + bytes;
            }
            from += bytes;
        }
    }
    batches
}

impl Batch {
    /// Fills the beginning of `buffer` from `source`; bytes between weights keep what they are.
    ///
    /// # Errors
    /// The first weight that holds a number that is not finite.
    ///
    /// # Panics
    /// If the buffer is shorter than the batch.
    pub fn fill(
        &self,
        weights: &[Weight<'_>],
        source: &dyn Source,
        buffer: &mut [u8],
    ) -> Result<(), CallError> {
        let (mut rest, mut end) = (&mut buffer[..self.bytes], 0);
        let mut parts = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            let (_, tail) = rest.split_at_mut(piece.at - end);
            let (part, tail) = tail.split_at_mut(piece.bytes);
            parts.push((piece, part));
            (rest, end) = (tail, piece.at + piece.bytes);
        }
        parts.into_par_iter().try_for_each(|(piece, part)| {
            let weight = &weights[piece.weight];
            weight.read(source, piece.from, piece.bytes, |bytes| part.copy_from_slice(bytes))
        })
    }
}

impl Weight<'_> {
    /// Hands `bytes` bytes from byte `from` on to `take`, if they are finite.
    fn read(
        &self,
        source: &dyn Source,
        from: usize,
        bytes: usize,
        take: impl FnOnce(&[u8]),
    ) -> Result<(), CallError> {
        let row = self.bytes / self.rows;
        let (first, last) = (from / row, (from + bytes).div_ceil(row));
        let rows = source.rows(self.tensor, self.first + first, last - first);
        let bytes = &rows[from - first * row..][..bytes];
        if !is_finite(self.dtype, bytes) {
            return Err(CallError::NotFinite { tensor: self.tensor.to_owned() });
        }
        take(bytes);
        Ok(())
    }
}

/// Looks for weights that are not finite, on all cores; nothing is copied.
///
/// # Errors
/// A weight that is not finite.
pub fn check(program: &Program, source: &dyn Source) -> Result<(), CallError> {
    let weights = weights(program, &Shelf::of(program));
    batches(&weights, BUFFER).par_iter().try_for_each(|batch| {
        let look = |p: &Piece| weights[p.weight].read(source, p.from, p.bytes, |_| ());
        batch.pieces.iter().try_for_each(look)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::program::Axis;
    use crate::tensor::Tensor;

    /// A Program of weights alone: parts of tensors, blocks, single elements, and nothing at all.
    fn model() -> (Program, BTreeMap<String, Tensor>) {
        let mut program = Program::default();
        let mut tensors = BTreeMap::new();
        for (name, dtype, rows, width) in [
            ("qkv", DType::F16, 9, 50),
            ("norm", DType::F32, 7, 1),
            ("down", DType::Q8_0, 5, 96),
            ("up", DType::Q6K, 2, 512),
        ] {
            let bytes = rows * width / dtype.elements() * dtype.bytes();
            // Any byte but those of an exponent that is all ones.
            let bytes = (0..bytes).map(|i| (i * 37 % 113) as u8 & 0x3f).collect();
            let shape = if width == 1 { vec![rows] } else { vec![rows, width] };
            tensors.insert(name.to_owned(), Tensor::new(dtype, &shape, bytes));
        }
        for (name, tensor, first, rows) in [
            ("q", "qkv", 0, 4),
            ("k", "qkv", 4, 2),
            ("v", "qkv", 6, 3),
            ("norm", "norm", 0, 7),
            ("down", "down", 0, 5),
            ("up", "up", 0, 2),
        ] {
            let meta = &tensors[tensor].meta;
            let mut shape: Vec<Axis> = meta.shape.iter().map(|x| Axis::Is(*x)).collect();
            shape[0] = Axis::Is(rows);
            let kind = Kind::Weight { tensor: tensor.to_owned(), first };
            program.slot(name, kind, meta.dtype, &shape);
        }
        (program, tensors)
    }

    #[test]
    fn batches_put_every_byte_where_it_belongs() {
        let (program, tensors) = model();
        let shelf = Shelf::of(&program);
        let weights = weights(&program, &shelf);
        let mut want = vec![0u8; shelf.bytes];
        for w in &weights {
            let rows = tensors.rows(w.tensor, w.first, w.rows);
            want[w.offset..w.offset + w.bytes].copy_from_slice(&rows);
        }
        for most in [210, 256, 300, 1000, 4096, BUFFER] {
            let batches = batches(&weights, most);
            let mut got = vec![0u8; shelf.bytes];
            let mut buffer = vec![0u8; most];
            let mut end = 0;
            for batch in &batches {
                assert!(batch.offset >= end && batch.bytes <= most && !batch.pieces.is_empty());
                end = batch.offset + batch.bytes;
                buffer.fill(0);
                batch.fill(&weights, &tensors, &mut buffer).expect("finite");
                got[batch.offset..end].copy_from_slice(&buffer[..batch.bytes]);
            }
            assert!(got == want, "batches of {most}");
        }
        assert_eq!(batches(&weights, BUFFER).len(), 1);
    }

    #[test]
    fn a_weight_that_is_not_finite_is_named() {
        let (program, mut tensors) = model();
        check(&program, &tensors).expect("finite");
        let up = tensors.get_mut("up").expect("a tensor");
        // The scale of a q6_k block stands in its last two bytes: here, of the last one.
        let last = up.bytes.len() - 1;
        up.bytes[last] = 0x7c;
        let error = check(&program, &tensors).expect_err("an infinite scale");
        assert_eq!(error.to_string(), "the weight up holds a number that is not finite");
        let weights = weights(&program, &Shelf::of(&program));
        for batch in batches(&weights, 1000) {
            let holds = batch.pieces.iter().any(|p| p.weight == 5 && p.from + p.bytes == last + 1);
            let filled = batch.fill(&weights, &tensors, &mut vec![0; 1000]);
            assert_eq!(filled.is_err(), holds);
        }
    }
}
