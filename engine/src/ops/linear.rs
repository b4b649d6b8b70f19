//! linear: y = x · wᵀ + bias, with w in any stored type.

use rayon::prelude::*;

use crate::cuda::page::Variant;
use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::dtype::DType;
use crate::error::Refusal;
use crate::ops::{
    Asked, Attribute, Class, Cost, Declared, Inputs, Op, Operand, Phase, Question, ResultSlot,
    Signature, Slack, Values, declared, dims, slack, traffic,
};

/// The op.
pub struct Linear;

static SIGNATURE: Signature = Signature {
    name: "linear",
    source: "matrix product, PyTorch's nn.Linear: y = x wᵀ + b",
    operands: &[
        Operand::new("x", Class::DOrF32, &["n", "in"]),
        Operand::new("w", Class::W, &["out", "in"]),
        Operand::optional("bias", Class::P, &["out"]),
    ],
    attributes: &[Attribute::TO],
    results: &[ResultSlot::new("y", Class::To, &["n", "out"])],
    rounds_inside: false,
};

static ARGS: Layout = Layout {
    name: "LinearArgs",
    fields: &[
        ("w", Field::Ptr),
        ("x", Field::Ptr),
        ("bias", Field::Ptr),
        ("residual", Field::Ptr),
        ("y", Field::Ptr),
        ("in", Field::I32),
        ("out", Field::I32),
        ("n", Field::I32),
        ("span", Field::I32),
    ],
};

/// A page compiled once for each stored type of the weight, in the order of [`DType::WEIGHTS`].
pub(crate) const WEIGHT_VARIANTS: &[Variant] = &[
    Variant(&[("W", "f32")]),
    Variant(&[("W", "f16")]),
    Variant(&[("W", "bf16")]),
    Variant(&[("W", "q4_0")]),
    Variant(&[("W", "q5_0")]),
    Variant(&[("W", "q8_0")]),
    Variant(&[("W", "q4_k")]),
    Variant(&[("W", "q5_k")]),
    Variant(&[("W", "q6_k")]),
    Variant(&[("W", "mxfp4")]),
];

/// The variant of a page that reads weights of type `w`.
///
/// # Panics
/// If `w` is no weight type: the signature was checked before.
pub(crate) fn weight_variant(w: DType) -> Variant {
    let at = DType::WEIGHTS.iter().position(|t| *t == w);
    WEIGHT_VARIANTS[at.unwrap_or_else(|| panic!("{w} is no weight type"))]
}

pub(crate) static PAGE: Page = Page {
    name: "linear",
    text: include_str!("../../../cuda/linear.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: WEIGHT_VARIANTS,
};

/// Rows of tokens up to which the decode kernels answer.
pub const DECODE_ROWS: usize = 8;

/// x [n, in] times the transpose of w [out, in]; unrounded. Sums in index order.
pub fn matmul(x: &[f64], w: &[f64], width: usize) -> Vec<f64> {
    let outputs = w.len() / width;
    let mut y = vec![0.0; x.len() / width * outputs];
    y.par_chunks_mut(outputs).zip(x.par_chunks_exact(width)).for_each(|(y, x)| {
        y.par_iter_mut().zip(w.par_chunks_exact(width)).with_min_len(64).for_each(|(y, w)| {
            *y = x.iter().zip(w).map(|(x, w)| x * w).sum();
        });
    });
    y
}

/// [`matmul`] plus a bias a column, where there is one; unrounded.
pub fn linear(x: &[f64], w: &[f64], bias: Option<&[f64]>, width: usize) -> Vec<f64> {
    let mut y = matmul(x, w, width);
    if let Some(bias) = bias {
        for row in y.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
    }
    y
}

/// A product to launch: sizes, and slot and type of each operand.
pub(crate) struct Product {
    /// The phase, where it is known.
    pub phase: Option<Phase>,
    /// Rows of x.
    pub n: usize,
    /// Columns of x and w.
    pub width: usize,
    /// Rows of w.
    pub outputs: usize,
    /// x [n, width].
    pub x: (Arg, DType),
    /// w [outputs, width].
    pub w: (Arg, DType),
    /// bias [outputs], or null.
    pub bias: Arg,
    /// What is added behind the bias, [n, outputs] of the type of y, or null.
    pub residual: Arg,
    /// y [n, outputs].
    pub y: (Arg, DType),
}

/// Warps of a block of the kernels for generated rows.
pub(crate) const WARPS: usize = 4;

/// Rows and columns of the tile of a block on tensor cores, and on CUDA cores.
pub(crate) const TILE: usize = 128;
pub(crate) const SIMT: usize = 64;

/// Units of a row that a lane of those kernels has under way at once.
pub(crate) const AHEAD: usize = 4;

/// Whether those kernels read rows of `width` elements of type `w` in whole units.
pub(crate) fn is_wide(w: DType, width: usize) -> bool {
    w.is_block() || width.is_multiple_of(8)
}

/// Grid and block of those kernels, and warps a row: as few as have a row under way at once, by
/// type and width alone, so that what shares the call does not change a row's sums.
pub(crate) fn few_rows(w: DType, width: usize, outputs: usize) -> (u32, u32, i32) {
    let elements = match w {
        DType::Q4K | DType::Q5K => 32,
        DType::Q6K => 16,
        _ => 8,
    };
    let loads = width.div_ceil(elements * 32 * AHEAD);
    let span = loads.next_power_of_two().min(WARPS);
    ((outputs.div_ceil(WARPS / span)) as u32, 32 * WARPS as u32, span as i32)
}

/// Whether decode kernels answer: by the phase, where it is known, else up to [`DECODE_ROWS`] rows.
pub(crate) fn is_few(phase: Option<Phase>, n: usize) -> bool {
    phase.map_or(n <= DECODE_ROWS, |phase| phase == Phase::Decode)
}

/// The launch of a product.
pub(crate) fn launch(p: &Product) -> Launch {
    let ((_, x), (_, w), (_, y)) = (&p.x, &p.w, &p.y);
    let (few, wide) = (is_few(p.phase, p.n), is_wide(*w, p.width));
    let tensor = *x != DType::F32 && (w == x || w.is_block());
    let (rows, threads, span) = few_rows(*w, p.width, p.outputs);
    let (form, grid, block) = match p.n {
        1 if few && wide => ("wide1", [rows, 1], threads),
        _ if few && wide => ("wide8", [rows, 1], threads),
        _ if few => ("any", [p.outputs.div_ceil(WARPS) as u32, 1], threads),
        _ if tensor => ("mma", [p.outputs, p.n].map(|x| x.div_ceil(TILE) as u32), 256),
        _ => ("simt", [p.outputs, p.n].map(|x| x.div_ceil(SIMT) as u32), 256),
    };
    let args = Args::new(
        &ARGS,
        [
            ("w", p.w.0.clone()),
            ("x", p.x.0.clone()),
            ("bias", p.bias.clone()),
            ("residual", p.residual.clone()),
            ("y", p.y.0.clone()),
            ("in", Arg::I32(p.width as i32)),
            ("out", Arg::I32(p.outputs as i32)),
            ("n", Arg::I32(p.n as i32)),
            ("span", Arg::I32(span)),
        ],
    );
    let mut launch = Launch::new(&PAGE, format!("linear_{form}_{x}_{y}"), 1, block, args);
    launch.grid = [grid[0], grid[1], 1];
    launch.variant = weight_variant(*w);
    launch
}

impl Op for Linear {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let width = question.dims.get("in");
        let bias = inputs.find_real("bias");
        Ok(vec![Values::Real(linear(inputs.real("x"), inputs.real("w"), bias, width))])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let [n, width, outputs] = dims(&question.dims, ["n", "in", "out"]);
        let bias = if question.has("bias") { Arg::Slot("bias", 0) } else { Arg::Null };
        Lowered::one(launch(&Product {
            phase: question.phase,
            n,
            width,
            outputs,
            x: (Arg::Slot("x", 0), question.type_of("x")),
            w: (Arg::Slot("w", 0), question.type_of("w")),
            bias,
            residual: Arg::Null,
            y: (Arg::Slot("y", 0), question.result_type("y")),
        }))
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn slack(&self, asked: &Asked, _values: &[Values]) -> Vec<Slack> {
        let (k, w) = (asked.question.dims.get("in"), &asked.tensors["w"]);
        let (x, bias) = (asked.inputs.real("x"), asked.inputs.find_real("bias"));
        let whole = asked.inputs.real("w");
        let parts = slack::parts(w, whole);
        let parts = slack::slice(&parts, 0..whole.len());
        let (slack, q) = slack::matmul(x, &parts, w.meta.dtype, bias, k, asked.sums);
        vec![Slack::of(slack).keep("w", &q)]
    }

    fn declared(&self, asked: &Asked, values: &[Values], _x: &[&str]) -> Vec<Declared> {
        let k = asked.question.dims.get("in");
        vec![declared::of_product(asked, "w", k, &values[0])]
    }

    fn cost(&self, question: &Question) -> Cost {
        let [n, width, outputs] = dims(&question.dims, ["n", "in", "out"]);
        let operations = 2.0 * n as f64 * width as f64 * outputs as f64;
        Cost { bytes: traffic(question), operations }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_that_a_transposed_weight_would_change() {
        let y = linear(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], Some(&[10.0, 20.0]), 3);
        assert_eq!(y, [24.0, 52.0]);
    }
}
