//! Names and shapes of tensors, by architecture and by kind of file.

use super::{Expected, Role};
use crate::model::config::Config;
use crate::model::detect::Architecture;
use crate::weights::SafeTensors;

/// A list of tensors as it grows, under a prefix.
struct List {
    prefix: String,
    all: Vec<Expected>,
}

impl List {
    fn add(&mut self, name: &str, shape: &[usize], role: Role) -> &mut Expected {
        let name = format!("{}{name}", self.prefix);
        self.all.push(Expected { name, shape: shape.to_vec(), role, optional: false });
        let last = self.all.len() - 1;
        &mut self.all[last]
    }

    fn matrix(&mut self, name: &str, shape: &[usize]) {
        self.add(name, shape, Role::Matrix);
    }

    fn vector(&mut self, name: &str, length: usize) {
        self.add(name, &[length], Role::Vector);
    }

    fn optional(&mut self, name: &str, length: usize) {
        self.add(name, &[length], Role::Vector).optional = true;
    }

    /// A weight [out, in] with its bias.
    fn linear(&mut self, name: &str, out: usize, width: usize) {
        self.matrix(&format!("{name}.weight"), &[out, width]);
        self.vector(&format!("{name}.bias"), out);
    }

    /// A norm with its bias.
    fn layernorm(&mut self, name: &str, width: usize) {
        self.vector(&format!("{name}.weight"), width);
        self.vector(&format!("{name}.bias"), width);
    }
}

/// Buffers that old checkpoints carry and no model reads.
pub(super) fn is_buffer(name: &str) -> bool {
    [".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"].iter().any(|b| name.ends_with(b))
}

/// The tensors of one layer, or with `None` those outside of all layers.
pub(super) fn gguf(c: &Config, layer: Option<usize>) -> Vec<Expected> {
    let mut list = List { prefix: String::new(), all: Vec::new() };
    if let Some(layer) = layer {
        list.prefix = format!("blk.{layer}.");
        match c.architecture {
            Architecture::Gpt2 => gguf_gpt2(c, &mut list),
            Architecture::GptOss => gguf_gpt_oss(c, &mut list),
            Architecture::Llama | Architecture::Qwen2 => gguf_llama(c, &mut list),
        }
        return list.all;
    }
    list.matrix("token_embd.weight", &[c.vocabulary, c.hidden]);
    if !c.tied {
        list.matrix("output.weight", &[c.vocabulary, c.hidden]);
    }
    list.vector("output_norm.weight", c.hidden);
    if c.architecture == Architecture::Gpt2 {
        list.vector("output_norm.bias", c.hidden);
        list.add("position_embd.weight", &[c.context, c.hidden], Role::Vector);
    }
    if let Some(rope) = &c.rope {
        list.optional("rope_freqs.weight", rope.rotary / 2);
    }
    list.all
}

fn gguf_gpt2(c: &Config, list: &mut List) {
    let (h, f) = (c.hidden, c.feed_forward);
    list.layernorm("attn_norm", h);
    list.linear("attn_qkv", 3 * h, h);
    list.linear("attn_output", h, h);
    list.layernorm("ffn_norm", h);
    list.linear("ffn_up", f, h);
    list.linear("ffn_down", h, f);
}

fn gguf_llama(c: &Config, list: &mut List) {
    let (h, f) = (c.hidden, c.feed_forward);
    let (q, kv) = (c.heads * c.head_size, c.kv_heads * c.head_size);
    list.vector("attn_norm.weight", h);
    for (name, out) in [("attn_q", q), ("attn_k", kv), ("attn_v", kv)] {
        list.matrix(&format!("{name}.weight"), &[out, h]);
        let bias = list.add(&format!("{name}.bias"), &[out], Role::Vector);
        bias.optional = c.architecture == Architecture::Llama;
    }
    list.matrix("attn_output.weight", &[h, q]);
    if c.architecture == Architecture::Llama {
        list.optional("attn_output.bias", h);
    }
    list.vector("ffn_norm.weight", h);
    list.matrix("ffn_gate.weight", &[f, h]);
    list.matrix("ffn_up.weight", &[f, h]);
    list.matrix("ffn_down.weight", &[h, f]);
}

fn gguf_gpt_oss(c: &Config, list: &mut List) {
    let (h, f) = (c.hidden, c.feed_forward);
    let e = c.experts.map_or(0, |experts| experts.count);
    let (q, kv) = (c.heads * c.head_size, c.kv_heads * c.head_size);
    list.vector("attn_norm.weight", h);
    list.linear("attn_q", q, h);
    list.linear("attn_k", kv, h);
    list.linear("attn_v", kv, h);
    list.linear("attn_output", h, q);
    list.vector("attn_sinks.weight", c.heads);
    list.vector("post_attention_norm.weight", h);
    list.linear("ffn_gate_inp", e, h);
    for (name, out, width) in [("gate", f, h), ("up", f, h), ("down", h, f)] {
        list.matrix(&format!("ffn_{name}_exps.weight"), &[e, out, width]);
        list.add(&format!("ffn_{name}_exps.bias"), &[e, out], Role::Vector);
    }
}

/// As [`gguf`], for a folder of the hub.
pub(super) fn hub(c: &Config, tensors: &SafeTensors, layer: Option<usize>) -> Vec<Expected> {
    let mut list = List { prefix: String::new(), all: Vec::new() };
    if !c.tied && layer.is_none() {
        list.matrix("lm_head.weight", &[c.vocabulary, c.hidden]);
    }
    match c.architecture {
        Architecture::Gpt2 => hub_gpt2(c, tensors, layer, &mut list),
        _ => hub_llama(c, tensors, layer, &mut list),
    }
    list.all
}

/// GPT-2 keeps its weights as [in, out], and its names may lack the first part.
fn hub_gpt2(c: &Config, tensors: &SafeTensors, layer: Option<usize>, list: &mut List) {
    let (h, f) = (c.hidden, c.feed_forward);
    let bare = tensors.tensor("wte.weight").is_some();
    let root = if bare { "" } else { "transformer." };
    let Some(layer) = layer else {
        list.prefix = root.to_owned();
        list.matrix("wte.weight", &[c.vocabulary, h]);
        list.add("wpe.weight", &[c.context, h], Role::Vector);
        list.layernorm("ln_f", h);
        return;
    };
    list.prefix = format!("{root}h.{layer}.");
    list.layernorm("ln_1", h);
    list.layernorm("ln_2", h);
    let shapes = [("attn.c_attn", h, 3 * h), ("attn.c_proj", h, h), ("mlp.c_fc", h, f)];
    for (name, width, out) in shapes.into_iter().chain([("mlp.c_proj", f, h)]) {
        list.matrix(&format!("{name}.weight"), &[width, out]);
        list.vector(&format!("{name}.bias"), out);
    }
}

fn hub_llama(c: &Config, tensors: &SafeTensors, layer: Option<usize>, list: &mut List) {
    let (h, f) = (c.hidden, c.feed_forward);
    let (q, kv) = (c.heads * c.head_size, c.kv_heads * c.head_size);
    list.prefix = "model.".to_owned();
    let Some(layer) = layer else {
        list.matrix("embed_tokens.weight", &[c.vocabulary, h]);
        list.vector("norm.weight", h);
        return;
    };
    list.prefix = format!("model.layers.{layer}.");
    list.vector("input_layernorm.weight", h);
    list.vector("post_attention_layernorm.weight", h);
    for (name, out, width) in [("q", q, h), ("k", kv, h), ("v", kv, h), ("o", h, q)] {
        list.matrix(&format!("self_attn.{name}_proj.weight"), &[out, width]);
        if name == "o" && c.architecture == Architecture::Qwen2 {
            continue;
        }
        let bias = list.add(&format!("self_attn.{name}_proj.bias"), &[out], Role::Vector);
        bias.optional = c.architecture == Architecture::Llama;
    }
    if c.architecture == Architecture::GptOss {
        return hub_experts(c, tensors, list);
    }
    list.matrix("mlp.gate_proj.weight", &[f, h]);
    list.matrix("mlp.up_proj.weight", &[f, h]);
    list.matrix("mlp.down_proj.weight", &[h, f]);
}

/// Experts of gpt-oss: packed as published, [expert, out, in / 32, 16], or unpacked,
/// [expert, in, out].
fn hub_experts(c: &Config, tensors: &SafeTensors, list: &mut List) {
    let (h, f) = (c.hidden, c.feed_forward);
    let e = c.experts.map_or(0, |experts| experts.count);
    list.vector("self_attn.sinks", c.heads);
    list.linear("mlp.router", e, h);
    for (name, out, width) in [("gate_up_proj", 2 * f, h), ("down_proj", h, f)] {
        let name = format!("mlp.experts.{name}");
        list.add(&format!("{name}_bias"), &[e, out], Role::Vector);
        if tensors.tensor(&format!("{}{name}", list.prefix)).is_some() {
            list.matrix(&name, &[e, width, out]);
        } else {
            list.add(&format!("{name}_blocks"), &[e, out, width / 32, 16], Role::Packed);
            list.add(&format!("{name}_scales"), &[e, out, width / 32], Role::Packed);
        }
    }
}
