//! GPT-2: token and position embeddings; blocks of layernorm, attention over a cache, residual,
//! layernorm, feed-forward, residual; a last norm and the head (Radford et al. 2019; the pre-norm
//! order of the published code).

use serde_json::json;

use crate::dtype::DType;
use crate::model::Config as Model;
use crate::model::build::{Bias, Builder, Capacity, Heads, Rows, Types};
use crate::program::{Axis, Id, Program, ProgramError};
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

/// Builds one block: `x` [n, hidden] f32 in, `out` [n, hidden] f32 out. `found` tells type and
/// shape of each tensor of the file.
///
/// # Errors
/// A configuration or weights that do not fit, by name, with both shapes.
pub fn block(
    c: &Config,
    types: Types,
    sequences: usize,
    found: impl Fn(&str) -> Option<Meta>,
) -> Result<Program, ProgramError> {
    c.check()?;
    let capacity = Capacity { context: c.context, sequences };
    let mut b = Builder::new(types, capacity, &found);
    let x = b.input("x", DType::F32, &[Axis::N, Axis::Is(c.hidden)]);
    layer(&mut b, x, c);
    b.finish()
}

/// Builds the model: `tokens` \[n\] in, `logits` [m, vocabulary] f32 out.
///
/// # Errors
/// Every weight that does not fit, by name, with both shapes.
pub fn program(
    c: &Model,
    types: Types,
    capacity: Capacity,
    found: impl Fn(&str) -> Option<Meta>,
) -> Result<Program, ProgramError> {
    let mut b = Builder::new(types, capacity, &found);
    let tokens = b.input("tokens", DType::I32, &[Axis::N]);
    let x = b.embedding("embed.tokens", tokens, "token_embd.weight", [c.vocabulary, c.hidden]);
    let mut x = b.positional("embed", x, "position_embd.weight", c.context);
    let one = Config {
        hidden: c.hidden,
        heads: c.heads,
        ffn: c.feed_forward,
        context: capacity.context,
        eps: c.norm_eps,
    };
    for l in 0..c.layers {
        (b.slots, b.tensors) = (format!("layer.{l}."), format!("blk.{l}."));
        x = layer(&mut b, x, &one);
    }
    (b.slots, b.tensors) = (String::new(), String::new());
    let x = b.rows("final.rows", x);
    let x = b.layernorm("final.norm", x, "output_norm", c.norm_eps);
    let head = if c.tied { "token_embd" } else { "output" };
    b.linear_f32("logits", x, &Rows::all(head, c.vocabulary), Bias::None);
    b.finish()
}

fn layer(b: &mut Builder<'_>, x: Id, c: &Config) -> Id {
    let h = c.hidden;
    let qkv = |i: usize| Rows { tensor: "attn_qkv", of: 3 * h, part: i * h..(i + 1) * h };
    let heads = Heads { q: c.heads, k: c.heads, d: h / c.heads };

    let normed = b.layernorm("attn.norm", x, "attn_norm", c.eps);
    let q = b.linear("attn.q", normed, &qkv(0), Bias::Must);
    let k = b.linear("attn.k", normed, &qkv(1), Bias::Must);
    let v = b.linear("attn.v", normed, &qkv(2), Bias::Must);
    let attended = b.attention("attn.out", [q, k, v], heads, &json!({}));
    let o = b.linear_f32("attn.o", attended, &Rows::all("attn_output", h), Bias::Must);
    let sum = b.residual("attn.sum", x, o);

    let normed = b.layernorm("ffn.norm", sum, "ffn_norm", c.eps);
    let up = b.linear("ffn.up", normed, &Rows::all("ffn_up", c.ffn), Bias::Must);
    let act = b.gelu_tanh("ffn.act", up);
    let down = b.linear_f32("ffn.down", act, &Rows::all("ffn_down", h), Bias::Must);
    b.residual("out", sum, down)
}
