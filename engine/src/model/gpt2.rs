//! One block of GPT-2: layernorm, attention over a cache, residual; layernorm, feed-forward,
//! residual (Radford et al. 2019; the pre-norm order of the published code).

use serde_json::{Map, Value, json};

use crate::dtype::DType;
use crate::program::{Axis, Id, Kind, Program, ProgramError, View};
use crate::shape::Meta;

/// The numbers of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Heads; each of hidden / heads elements.
    pub heads: usize,
    /// Width of the feed-forward.
    pub ffn: usize,
    /// Positions of the cache.
    pub context: usize,
    /// Added under the root of both norms.
    pub eps: f64,
}

impl Config {
    /// Holds the numbers against each other.
    ///
    /// # Errors
    /// The first field that no such model has.
    pub fn check(&self) -> Result<(), ProgramError> {
        let positive = [
            ("hidden", self.hidden),
            ("heads", self.heads),
            ("ffn", self.ffn),
            ("context", self.context),
        ];
        let refuse = |field, found: String, wanted: &str| {
            Err(ProgramError::Config { field, found, wanted: wanted.to_owned() })
        };
        if let Some((field, _)) = positive.iter().find(|(_, x)| *x == 0) {
            return refuse(field, "0".into(), "above 0");
        }
        if !self.hidden.is_multiple_of(self.heads) {
            let wanted = format!("a divisor of hidden, {}", self.hidden);
            return refuse("heads", self.heads.to_string(), &wanted);
        }
        if self.context > 1_000_000 {
            return refuse("context", self.context.to_string(), "at most 1000000");
        }
        if !(self.eps.is_finite() && self.eps > 0.0) {
            return refuse("eps", self.eps.to_string(), "a finite number above 0");
        }
        Ok(())
    }
}

/// The tensors of a block, by the names of the GGUF file, with the shapes that they must have.
pub fn weights(c: &Config) -> Vec<(&'static str, Vec<usize>)> {
    let (h, f) = (c.hidden, c.ffn);
    vec![
        ("attn_norm.weight", vec![h]),
        ("attn_norm.bias", vec![h]),
        ("attn_qkv.weight", vec![3 * h, h]),
        ("attn_qkv.bias", vec![3 * h]),
        ("attn_output.weight", vec![h, h]),
        ("attn_output.bias", vec![h]),
        ("ffn_norm.weight", vec![h]),
        ("ffn_norm.bias", vec![h]),
        ("ffn_up.weight", vec![f, h]),
        ("ffn_up.bias", vec![f]),
        ("ffn_down.weight", vec![h, f]),
        ("ffn_down.bias", vec![h]),
    ]
}

/// Builds the block: `x` [n, hidden] f32 in, `out` [n, hidden] f32 out, caches of type `kv`.
/// `found` tells type and shape of each tensor of the file.
///
/// # Errors
/// A configuration or a weight that does not fit, by name, with both shapes.
pub fn block(
    c: &Config,
    dtype: DType,
    kv: DType,
    found: impl Fn(&str) -> Option<Meta>,
) -> Result<Program, ProgramError> {
    c.check()?;
    for (tensor, shape) in weights(c) {
        let refuse = |what: String| ProgramError::Weight { tensor: tensor.to_owned(), what };
        let meta = found(tensor).ok_or_else(|| refuse("is missing".into()))?;
        if meta.shape != shape {
            return Err(refuse(format!("is {:?}, wants {shape:?}", meta.shape)));
        }
        if shape.len() == 1 && meta.dtype != DType::F32 {
            return Err(refuse(format!("is {}, vectors are f32", meta.dtype)));
        }
    }
    let mut b = Builder { p: Program::default(), c: *c, dtype, found: &found };
    let x = b.p.slot("x", Kind::Input, DType::F32, &[Axis::N, Axis::Is(c.hidden)]);

    let normed = b.layernorm("attn.norm", x, "attn_norm");
    let q = b.linear("attn.q", normed, "attn_qkv", 0..c.hidden, dtype);
    let k = b.linear("attn.k", normed, "attn_qkv", c.hidden..2 * c.hidden, dtype);
    let v = b.linear("attn.v", normed, "attn_qkv", 2 * c.hidden..3 * c.hidden, dtype);
    let attended = b.attention("attn.out", q, k, v, kv);
    let o = b.linear("attn.o", attended, "attn_output", 0..c.hidden, DType::F32);
    let sum = b.residual("attn.sum", x, o);

    let normed = b.layernorm("ffn.norm", sum, "ffn_norm");
    let up = b.linear("ffn.up", normed, "ffn_up", 0..c.ffn, dtype);
    let act = b.gelu("ffn.act", up);
    let down = b.linear("ffn.down", act, "ffn_down", 0..c.hidden, DType::F32);
    b.residual("out", sum, down);
    Ok(b.p)
}

struct Builder<'a> {
    p: Program,
    c: Config,
    dtype: DType,
    found: &'a dyn Fn(&str) -> Option<Meta>,
}

impl Builder<'_> {
    fn weight(&mut self, name: &str, tensor: &str, shape: &[usize], first: usize) -> View {
        let dtype = (self.found)(tensor).map_or(DType::F32, |m| m.dtype);
        let shape: Vec<Axis> = shape.iter().map(|x| Axis::Is(*x)).collect();
        let kind = Kind::Weight { tensor: tensor.to_owned(), first };
        let id = self.p.slot(name, kind, dtype, &shape);
        self.p.whole(id)
    }

    fn step(
        &mut self,
        op: &'static str,
        attributes: Value,
        operands: Vec<(&'static str, View)>,
        results: Vec<(&'static str, View)>,
    ) {
        let name = self.p.slots[results[0].1.slot.0].name.clone();
        let attributes = attributes.as_object().cloned().unwrap_or_else(Map::new);
        let from_position = Vec::new();
        self.p.steps.push(crate::program::Step {
            name,
            op,
            attributes,
            from_position,
            operands,
            results,
        });
    }

    fn value(&mut self, name: &str, dtype: DType, width: usize) -> View {
        let id = self.p.slot(name, Kind::Value, dtype, &[Axis::N, Axis::Is(width)]);
        self.p.whole(id)
    }

    fn layernorm(&mut self, name: &str, x: Id, tensor: &str) -> Id {
        let h = self.c.hidden;
        let gamma = self.weight(&format!("{name}.gamma"), &format!("{tensor}.weight"), &[h], 0);
        let beta = self.weight(&format!("{name}.beta"), &format!("{tensor}.bias"), &[h], 0);
        let y = self.value(name, self.dtype, h);
        let operands = vec![("x", self.p.whole(x)), ("gamma", gamma), ("beta", beta)];
        let attributes = json!({"eps": self.c.eps, "to": "D"});
        self.step("layernorm", attributes, operands, vec![("y", y.clone())]);
        y.slot
    }

    /// Rows `rows` of a tensor: a fused projection is three.
    fn linear(
        &mut self,
        name: &str,
        x: Id,
        tensor: &str,
        rows: std::ops::Range<usize>,
        to: DType,
    ) -> Id {
        let (first, count) = (rows.start, rows.len());
        let width = match self.p.slots[x.0].shape.last() {
            Some(Axis::Is(width)) => *width,
            _ => self.c.hidden,
        };
        let w = format!("{tensor}.weight");
        let w = self.weight(&format!("{name}.w"), &w, &[count, width], first);
        let bias = format!("{tensor}.bias");
        let bias = self.weight(&format!("{name}.bias"), &bias, &[count], first);
        let y = self.value(name, to, count);
        let operands = vec![("x", self.p.whole(x)), ("w", w), ("bias", bias)];
        let to = if to == self.dtype { "D" } else { "f32" };
        self.step("linear", json!({ "to": to }), operands, vec![("y", y.clone())]);
        y.slot
    }

    fn attention(&mut self, name: &str, q: Id, k: Id, v: Id, kv: DType) -> Id {
        let (heads, d) = (self.c.heads, self.c.hidden / self.c.heads);
        let cache = [Axis::Is(self.c.context), Axis::Is(heads), Axis::Is(d)];
        let k_cache = self.p.slot("kv.k", Kind::State, kv, &cache);
        let v_cache = self.p.slot("kv.v", Kind::State, kv, &cache);
        let [k_cache, v_cache] = [k_cache, v_cache].map(|id| self.p.whole(id));
        let by_head = |slot: Id| View { slot, shape: vec![Axis::N, Axis::Is(heads), Axis::Is(d)] };
        let caches = vec![("k_cache", k_cache.clone()), ("v_cache", v_cache.clone())];
        let mut operands = vec![("k", by_head(k)), ("v", by_head(v))];
        operands.extend(caches.clone());
        self.step("kv_append", json!({}), operands, caches);
        let y = self.value(name, self.dtype, self.c.hidden);
        let operands = vec![("q", by_head(q)), ("k", k_cache), ("v", v_cache)];
        self.step("attention_prefill", json!({}), operands, vec![("y", by_head(y.slot))]);
        for step in self.p.steps.iter_mut().rev().take(2) {
            step.from_position = vec!["start"];
        }
        y.slot
    }

    fn residual(&mut self, name: &str, a: Id, b: Id) -> Id {
        let y = self.value(name, DType::F32, self.c.hidden);
        let operands = vec![("a", self.p.whole(a)), ("b", self.p.whole(b))];
        self.step("residual", json!({}), operands, vec![("y", y.clone())]);
        y.slot
    }

    fn gelu(&mut self, name: &str, x: Id) -> Id {
        let y = self.value(name, self.dtype, self.c.ffn);
        let operands = vec![("x", self.p.whole(x))];
        self.step("gelu", json!({"approximate": "tanh"}), operands, vec![("y", y.clone())]);
        y.slot
    }
}
