//! Llama and Qwen2: an embedding; blocks of rmsnorm, rotated grouped-query attention over a cache,
//! residual, rmsnorm, gated feed-forward, residual; a last norm and the head (Touvron et al. 2023;
//! Yang et al. 2024: Qwen2 has biases on q, k and v).

use serde_json::{Value, json};

use crate::dtype::DType;
use crate::model::build::{Bias, Builder, Capacity, Heads, Rows, Types};
use crate::model::{Architecture, Config, Rope, Scaling};
use crate::program::{Axis, Id, Program, ProgramError};
use crate::shape::Meta;

/// Builds the model: `tokens` \[n\] in, `logits` [m, vocabulary] f32 out.
///
/// # Errors
/// Every weight that does not fit, by name, with both shapes.
pub fn program(
    c: &Config,
    types: Types,
    capacity: Capacity,
    found: impl Fn(&str) -> Option<Meta>,
) -> Result<Program, ProgramError> {
    let mut b = Builder::new(types, capacity, &found);
    let tokens = b.input("tokens", DType::I32, &[Axis::N]);
    let mut x = b.embedding("embed", tokens, "token_embd.weight", [c.vocabulary, c.hidden]);
    // Llama 3's scaling comes as divisors, whatever the file: the same bits from each form.
    let divided = b.has(DIVISORS);
    for l in 0..c.layers {
        (b.slots, b.tensors) = (format!("layer.{l}."), format!("blk.{l}."));
        x = layer(&mut b, x, c, divided);
    }
    (b.slots, b.tensors) = (String::new(), String::new());
    let x = b.rows("final.rows", x);
    let x = b.rmsnorm("final.norm", x, "output_norm", c.norm_eps);
    let head = if c.tied { "token_embd" } else { "output" };
    b.linear_f32("logits", x, &Rows::all(head, c.vocabulary), Bias::None);
    b.finish()
}

fn layer(b: &mut Builder<'_>, x: Id, c: &Config, divided: bool) -> Id {
    let heads = Heads { q: c.heads, k: c.kv_heads, d: c.head_size };
    let (wide, narrow) = (heads.q * heads.d, heads.k * heads.d);
    let (qkv_bias, o_bias) = match c.architecture {
        Architecture::Qwen2 => (Bias::Must, Bias::None),
        _ => (Bias::May, Bias::May),
    };

    let normed = b.rmsnorm("attn.norm", x, "attn_norm", c.norm_eps);
    let q = b.linear("attn.q", normed, &Rows::all("attn_q", wide), qkv_bias);
    let k = b.linear("attn.k", normed, &Rows::all("attn_k", narrow), qkv_bias);
    let v = b.linear("attn.v", normed, &Rows::all("attn_v", narrow), qkv_bias);
    let (q, k) = match &c.rope {
        None => (q, k),
        Some(rope) => {
            let attributes = attributes(rope);
            let divisors = divided.then_some((DIVISORS, rope.rotary / 2));
            let q = b.rope("attn.q_rope", q, (heads.q, heads.d), &attributes, divisors);
            (q, b.rope("attn.k_rope", k, (heads.k, heads.d), &attributes, divisors))
        }
    };
    let attended = b.attention("attn.out", [q, k, v], heads, &json!({}));
    let o = b.linear_f32("attn.o", attended, &Rows::all("attn_output", c.hidden), o_bias);
    let sum = b.residual("attn.sum", x, o);

    let normed = b.rmsnorm("ffn.norm", sum, "ffn_norm", c.norm_eps);
    let gate = b.linear_f32("ffn.gate", normed, &Rows::all("ffn_gate", c.feed_forward), Bias::None);
    let up = b.linear_f32("ffn.up", normed, &Rows::all("ffn_up", c.feed_forward), Bias::None);
    let act = b.swiglu("ffn.act", gate, up);
    let down = b.linear_f32("ffn.down", act, &Rows::all("ffn_down", c.hidden), Bias::None);
    b.residual("out", sum, down)
}

/// What llama3's scaling divides each frequency by, [rotary / 2] f32.
pub const DIVISORS: &str = "rope_freqs.weight";

fn attributes(rope: &Rope) -> Value {
    let mut attributes = json!({
        "style": "half",
        "theta": rope.theta,
        "rotary_dim": rope.rotary,
    });
    if let Some(Scaling::Yarn {
        factor,
        beta_fast,
        beta_slow,
        original_context,
        truncate,
        attention_factor,
    }) = rope.scaling
    {
        attributes["scaling"] = json!({"yarn": {
            "factor": factor,
            "beta_fast": beta_fast,
            "beta_slow": beta_slow,
            "original_context": original_context,
            "truncate": truncate,
            "attention_factor": attention_factor,
        }});
    }
    attributes
}
