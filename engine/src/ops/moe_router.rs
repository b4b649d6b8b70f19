//! moe_router: the top_k experts by logit, and the softmax over the chosen.

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::error::{Refusal, RefusalKind};
use crate::ops::linear::{WEIGHT_VARIANTS, linear, weight_variant};
use crate::ops::softmax::softmax;
use std::collections::BTreeMap;

use crate::ops::declared::{Matrix, Shared, moved};
use crate::ops::{
    Asked, Attribute, Class, Cost, Declared, Inputs, Op, Operand, Question, ResultSlot, Signature,
    Slack, Values, declared, dims, slack, traffic,
};

/// The op.
pub struct MoeRouter;

static SIGNATURE: Signature = Signature {
    name: "moe_router",
    source: "openai/gpt-oss, gpt_oss/torch/model.py, MLPBlock: top-k by logit, softmax over those",
    operands: &[
        Operand::new("x", Class::DOrF32, &["n", "h"]),
        Operand::new("w", Class::W, &["e", "h"]),
        Operand::optional("b", Class::P, &["e"]),
    ],
    attributes: &[Attribute::whole("top_k", 1, i32::MAX as i64, None)],
    results: &[
        ResultSlot::new("ids", Class::Ids, &["n", "top_k"]),
        ResultSlot::new("weights", Class::F32, &["n", "top_k"]),
    ],
    rounds_inside: false,
};

static ARGS: Layout = Layout {
    name: "MoeRouterArgs",
    fields: &[
        ("x", Field::Ptr),
        ("w", Field::Ptr),
        ("b", Field::Ptr),
        ("ids", Field::Ptr),
        ("weights", Field::Ptr),
        ("fault", Field::Ptr),
        ("hidden", Field::I32),
        ("experts", Field::I32),
        ("top_k", Field::I32),
    ],
};

static PAGE: Page = Page {
    name: "moe_router",
    text: include_str!("../../../cuda/moe_router.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: WEIGHT_VARIANTS,
};

/// Most experts that the kernel holds the logits of.
const EXPERTS_MAX: usize = 1024;

/// The logits of all experts, and the error that a legal kernel may make in each, in units of
/// 2^-24.
fn logits_and_errors(asked: &Asked, h: usize) -> (Vec<f64>, Vec<f64>) {
    let (x, b) = (asked.inputs.real("x"), asked.inputs.find_real("b"));
    let w = &asked.tensors["w"];
    let whole = asked.inputs.real("w");
    let parts = slack::parts(w, whole);
    let parts = slack::slice(&parts, 0..whole.len());
    let (mut errors, _) = slack::matmul(x, &parts, w.meta.dtype, b, h, asked.sums);
    // Whatever the order of an exact sum, a legal kernel finds the same logits.
    if slack::exact_product(x, whole, b, h) {
        errors.fill(0.0);
    }
    (linear(x, whole, b, h), errors)
}

/// Ids of a row by falling logit, ties to the lower id.
fn ranks(row: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
    order
}

/// Whether a row's choice and order are the same for every legal kernel.
fn decided_rows(logits: &[f64], errors: &[f64], e: usize, top_k: usize) -> Vec<bool> {
    let rows = logits.chunks_exact(e).zip(errors.chunks_exact(e));
    let clear = |(row, a): (&[f64], &[f64])| {
        // Neighbours in rank, to the first that is left out. Where both are exact any order is
        // decided, ties by id.
        ranks(row).windows(2).take(top_k).all(|pair| {
            let error = (a[pair[0]] + a[pair[1]]) / slack::UNIT;
            error == 0.0 || row[pair[0]] - row[pair[1]] > error
        })
    };
    rows.map(clear).collect()
}

/// 2^24/u of the roundings that may change a row's choice or order, for each of its ranks.
fn shaky(logits: &[f64], errors: &[f64], e: usize, top_k: usize) -> Vec<f64> {
    let rows = logits.chunks_exact(e).zip(errors.chunks_exact(e));
    let ratio = |(row, a): (&[f64], &[f64])| {
        let order = ranks(row);
        let pairs = order.windows(2).take(top_k);
        let most = pairs.fold(0.0f64, |most, pair| {
            // A tie: with any rounding at all its order is open.
            let gap = (row[pair[0]] - row[pair[1]]).max(f64::MIN_POSITIVE);
            most.max((a[pair[0]] + a[pair[1]]) / gap)
        });
        std::iter::repeat_n(slack::UNIT * most.min(1e30), top_k)
    };
    rows.flat_map(ratio).collect()
}

impl Op for MoeRouter {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn check(&self, question: &Question) -> Result<(), Refusal> {
        let e = question.dims.get("e");
        let top_k = question.attributes.int("top_k");
        if top_k as usize > e {
            let message = format!("is {top_k}, but there are {e} experts");
            return Err(Refusal::new(RefusalKind::AttributeOutOfRange, "top_k", message));
        }
        if e > EXPERTS_MAX {
            let message = format!("{e} experts, but at most {EXPERTS_MAX} are offered");
            return Err(Refusal::new(RefusalKind::NotSupported, "w", message));
        }
        Ok(())
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let [h, e] = dims(&question.dims, ["h", "e"]);
        let top_k = question.attributes.int("top_k") as usize;
        let logits = linear(inputs.real("x"), inputs.real("w"), inputs.find_real("b"), h);
        let (mut ids, mut weights) = (Vec::new(), Vec::new());
        for (token, row) in logits.chunks_exact(e).enumerate() {
            if row.iter().any(|l| l.is_nan()) {
                let message = format!("a logit of row {token} is NaN");
                return Err(Refusal::new(RefusalKind::NotANumber, "x", message));
            }
            let mut order: Vec<usize> = (0..e).collect();
            // A stable sort: ties stay with the lower id.
            order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
            order.truncate(top_k);
            let chosen: Vec<f64> = order.iter().map(|i| row[*i]).collect();
            ids.extend(order.iter().map(|i| *i as i32));
            weights.extend(softmax(&chosen, 1.0));
        }
        Ok(vec![Values::Ids(ids), Values::Real(weights)])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let [n, h, e] = dims(&question.dims, ["n", "h", "e"]);
        let args = Args::new(
            &ARGS,
            [
                ("x", Arg::Slot("x", 0)),
                ("w", Arg::Slot("w", 0)),
                ("b", if question.has("b") { Arg::Slot("b", 0) } else { Arg::Null }),
                ("ids", Arg::Slot("ids", 0)),
                ("weights", Arg::Slot("weights", 0)),
                ("fault", Arg::Slot("fault", 0)),
                ("hidden", Arg::I32(h as i32)),
                ("experts", Arg::I32(e as i32)),
                ("top_k", Arg::I32(question.attributes.int("top_k") as i32)),
            ],
        );
        let entry = format!("moe_router_{}", question.type_of("x"));
        let mut launch = Launch::new(&PAGE, entry, n as u32, 256, args);
        launch.variant = weight_variant(question.type_of("w"));
        Lowered { faults: vec![(RefusalKind::NotANumber, "x")], ..Lowered::one(launch) }
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn slack(&self, asked: &Asked, values: &[Values]) -> Vec<Slack> {
        // p·(2√k + |z − max| + 8), and what errors A of the chosen logits add: p·(A + Σ p·A).
        let [h, e] = dims(&asked.question.dims, ["h", "e"]);
        let (Values::Ids(ids), weights) = (&values[0], values[1].real()) else {
            unreachable!("ids, then weights")
        };
        let (logits, a) = logits_and_errors(asked, h);
        let top_k = asked.question.attributes.int("top_k") as usize;
        let mut slack = Vec::with_capacity(weights.len());
        for (row, (ids, p)) in ids.chunks_exact(top_k).zip(weights.chunks_exact(top_k)).enumerate()
        {
            // Ids may come from a file, so one may be no expert's.
            let at = |m: &[f64], i: i32| {
                let i = usize::try_from(i).ok().filter(|i| *i < e);
                i.map_or(f64::NAN, |i| m[row * e + i])
            };
            let of = |m: &[f64]| ids.iter().map(|i| at(m, *i)).collect::<Vec<_>>();
            let (z, a) = (of(&logits), of(&a));
            let own = slack::softmax(&z, p, 1.0, asked.sums);
            let shared: f64 = p.iter().zip(&a).map(|(p, a)| p * a).sum();
            slack.extend((0..top_k).map(|j| own[j] + p[j] * (a[j] + shared)));
        }
        vec![Slack::default(), Slack::of(slack)]
    }

    fn declared(&self, asked: &Asked, values: &[Values], _x: &[&str]) -> Vec<Declared> {
        let [h, e] = dims(&asked.question.dims, ["h", "e"]);
        let top_k = asked.question.attributes.int("top_k") as usize;
        let (Values::Ids(ids), p) = (&values[0], values[1].real()) else {
            unreachable!("ids, then weights")
        };
        let (logits, a) = logits_and_errors(asked, h);
        let decided = decided_rows(&logits, &a, e, top_k);
        // Of each logit by place: what its product may be off by.
        let none = Values::Real(vec![0.0; logits.len()]);
        let inside = declared::of_product(asked, "w", h, &none);
        let mut errors: BTreeMap<&'static str, Vec<f64>> = inside
            .terms
            .iter()
            .map(|(place, t)| (*place, t.bound().iter().map(|b| b / slack::UNIT).collect()))
            .collect();
        errors.insert(declared::LOGITS, logits.iter().map(|l| moved(1.0, *l)).collect());
        let mut all = Declared::of(p.len());
        let w = asked.inputs.real("w");
        let matrix = Matrix::new(w, h, asked.tensors["w"].meta.dtype.is_block());
        let mut shared = Shared::default();
        let rows = asked.inputs.real("x").chunks_exact(h).zip(ids.chunks_exact(top_k));
        for (row, (x, ids)) in rows.enumerate() {
            // Ids may come from a file, so one may be no expert's.
            let known = |id: &i32| usize::try_from(*id).ok().filter(|id| *id < e);
            let Some(ids) = ids.iter().map(known).collect::<Option<Vec<_>>>() else { continue };
            let at = row * top_k;
            let p = &p[at..at + top_k];
            let g: Vec<f64> = p.iter().map(|p| if decided[row] { *p } else { 0.0 }).collect();
            let z: Vec<f64> = ids.iter().map(|id| logits[row * e + id]).collect();
            all.softmax(at, &z, p, &g, 1.0);
            for (i, p) in p.iter().enumerate() {
                all.own(declared::P, at + i, g[i], &[moved(1.0, *p)]);
            }
            for (place, error) in errors.iter().filter(|(place, _)| **place != declared::LOGITS) {
                let error: Vec<f64> = ids.iter().map(|id| error[row * e + id]).collect();
                let mean: f64 = p.iter().zip(&error).map(|(p, e)| p * e).sum();
                for (i, p) in p.iter().enumerate() {
                    all.bounded(place, at + i, p * (error[i] + mean));
                }
            }
            let mean: f64 = p.iter().zip(&g).map(|(p, g)| p * g).sum();
            let mut slope = vec![0.0; e];
            ids.iter().enumerate().for_each(|(i, id)| slope[*id] = p[i] * (g[i] - mean));
            all.back(x, &matrix, &slope, &mut shared);
        }
        all.whole(declared::WEIGHTS, shared.gain(|_| w));
        let shaky = errors.iter().map(|(place, e_of)| (*place, shaky(&logits, e_of, e, top_k)));
        all.shaky = shaky.collect();
        let mut ids = Declared::of(ids.len());
        ids.shaky.clone_from(&all.shaky);
        vec![ids, all]
    }

    fn decided(&self, asked: &Asked) -> Option<Vec<bool>> {
        let [h, e] = dims(&asked.question.dims, ["h", "e"]);
        let top_k = asked.question.attributes.int("top_k") as usize;
        let (logits, a) = logits_and_errors(asked, h);
        let rows = decided_rows(&logits, &a, e, top_k);
        Some(rows.into_iter().flat_map(|clear| std::iter::repeat_n(clear, top_k)).collect())
    }

    fn cost(&self, question: &Question) -> Cost {
        let [n, h, e] = dims(&question.dims, ["n", "h", "e"]);
        Cost { bytes: traffic(question), operations: 2.0 * (n * h * e) as f64 }
    }
}
