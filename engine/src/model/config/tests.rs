//! Configurations from both kinds of file: real models pass, and each rule refuses.

use serde_json::{Value, json};

use super::{Config, Experts, Scaling};
use crate::model::Architecture;
use crate::weights::gguf::tests::Builder;
use crate::weights::{Checkpoint, Code, Malformed, Warnings};

fn gguf(builder: &Builder) -> Result<(Config, Warnings), Malformed> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.gguf");
    std::fs::write(&path, builder.bytes()).expect("written");
    Config::of(&Checkpoint::open(&path)?)
}

/// A folder with this configuration and one tensor, which no rule here looks at.
fn hub(config: &Value) -> Result<(Config, Warnings), Malformed> {
    let folder = tempfile::tempdir().expect("a folder");
    let header = r#"{"lm_head.weight":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    std::fs::write(folder.path().join("model.safetensors"), bytes).expect("written");
    std::fs::write(folder.path().join("config.json"), config.to_string()).expect("written");
    Config::of(&Checkpoint::open(folder.path())?)
}

/// The keys of a tiny gpt-oss: heads that are no divisor of the hidden size.
fn gpt_oss() -> Builder {
    Builder::default()
        .string("general.architecture", "gpt-oss")
        .u32("gpt-oss.block_count", 2)
        .u32("gpt-oss.context_length", 4096)
        .u32("gpt-oss.embedding_length", 90)
        .u32("gpt-oss.feed_forward_length", 96)
        .u32("gpt-oss.attention.head_count", 4)
        .u32("gpt-oss.attention.head_count_kv", 2)
        .u32("gpt-oss.attention.key_length", 32)
        .u32("gpt-oss.attention.value_length", 32)
        .f32("gpt-oss.attention.layer_norm_rms_epsilon", 1e-5)
        .u32("gpt-oss.attention.sliding_window", 128)
        .u32("gpt-oss.expert_count", 4)
        .u32("gpt-oss.expert_used_count", 2)
        .u32("gpt-oss.expert_feed_forward_length", 96)
        .f32("gpt-oss.rope.freq_base", 150_000.0)
        .string("gpt-oss.rope.scaling.type", "yarn")
        .f32("gpt-oss.rope.scaling.factor", 32.0)
        .u32("gpt-oss.rope.scaling.original_context_length", 4096)
        .zeros("token_embd.weight", &[7, 90])
        .zeros("output.weight", &[7, 90])
}

fn llama() -> Builder {
    Builder::default()
        .string("general.architecture", "llama")
        .u32("llama.block_count", 1)
        .u32("llama.context_length", 64)
        .u32("llama.embedding_length", 32)
        .u32("llama.feed_forward_length", 48)
        .u32("llama.attention.head_count", 4)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        .zeros("token_embd.weight", &[7, 32])
}

#[test]
fn gguf_of_gpt_oss() {
    let (config, warnings) = gguf(&gpt_oss()).expect("a configuration");
    assert_eq!(config.architecture, Architecture::GptOss);
    assert_eq!((config.heads, config.head_size, config.hidden), (4, 32, 90));
    assert_eq!(config.experts, Some(Experts { count: 4, used: 2, feed_forward: 96 }));
    assert_eq!((config.window, config.sinks, config.tied), (Some(128), true, false));
    let rope = config.rope.expect("rotations");
    assert_eq!((rope.theta, rope.rotary), (150_000.0, 32));
    let Some(Scaling::Yarn { factor, beta_fast, truncate, .. }) = rope.scaling else {
        panic!("{rope:?}");
    };
    assert_eq!((factor, beta_fast, truncate), (32.0, 32.0, false));
    // The rotary size, both betas and the rounding of the ramp were filled in.
    assert_eq!(warnings.list().len(), 4, "{warnings:?}");
}

#[test]
fn defaults_of_the_format_are_told() {
    let (config, warnings) = gguf(&llama()).expect("a configuration");
    assert_eq!((config.kv_heads, config.head_size, config.tied), (4, 8, true));
    let rope = config.rope.expect("rotations");
    assert_eq!((rope.theta, rope.rotary), (10_000.0, 8));
    let told = |key: &str| warnings.list().iter().any(|w| w.starts_with(key));
    for key in ["attention.head_count_kv", "attention.key_length", "rope.freq_base"] {
        assert!(told(&format!("llama.{key} is absent")), "{key}: {warnings:?}");
    }
}

#[test]
fn rules_refuse_at_the_key() {
    let cases = [
        ("attention.head_count", Some(0), Code::Param),
        ("attention.head_count", Some(5), Code::Param),
        ("attention.head_count_kv", Some(0), Code::Param),
        ("attention.head_count_kv", Some(3), Code::Param),
        ("block_count", Some(0), Code::Param),
        ("block_count", Some(513), Code::Param),
        ("block_count", Some(u32::MAX), Code::Param),
        ("context_length", Some(1_000_001), Code::Param),
        ("embedding_length", Some(0), Code::Param),
        ("embedding_length", Some(100_004), Code::Param),
        ("rope.dimension_count", Some(7), Code::Param),
        ("rope.dimension_count", Some(10), Code::Param),
        ("expert_count", Some(8), Code::Param),
        ("attention.value_length", Some(9), Code::Param),
    ];
    for (key, value, code) in cases {
        let key = format!("llama.{key}");
        let refusal = gguf(&replaced(&key, value.map(u32::to_le_bytes), 4)).expect_err("a refusal");
        assert_eq!((refusal.code, refusal.field.as_str()), (code, key.as_str()));
        assert!(refusal.offset.is_some());
    }
    for bad in [f32::NAN, f32::INFINITY, 0.0, -1.0, 1e30] {
        for key in ["llama.attention.layer_norm_rms_epsilon", "llama.rope.freq_base"] {
            let builder = replaced(key, Some(bad.to_le_bytes()), 6);
            let refusal = gguf(&builder).expect_err("a refusal");
            assert_eq!((refusal.code, refusal.field.as_str()), (Code::Range, key), "{bad}");
        }
    }
}

#[test]
fn what_changes_numbers_has_no_default() {
    let required = [
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "attention.head_count",
        "block_count",
        "attention.layer_norm_rms_epsilon",
    ];
    for key in required {
        let key = format!("llama.{key}");
        let refusal = gguf(&replaced(&key, None, 4)).expect_err("a refusal");
        assert_eq!((refusal.code, refusal.field.as_str()), (Code::Param, key.as_str()));
    }
    let refusal = gguf(&replaced("llama.block_count", Some([0; 4]), 0)).map(|_| ());
    assert!(refusal.is_err());
}

/// The llama of [`llama`] with one key given another value, or left out.
fn replaced(key: &str, value: Option<[u8; 4]>, id: u32) -> Builder {
    let mut builder = Builder::default().string("general.architecture", "llama");
    let mut found = false;
    for (name, at, bytes) in [
        ("block_count", 4, 1u32.to_le_bytes()),
        ("context_length", 4, 64u32.to_le_bytes()),
        ("embedding_length", 4, 32u32.to_le_bytes()),
        ("feed_forward_length", 4, 48u32.to_le_bytes()),
        ("attention.head_count", 4, 4u32.to_le_bytes()),
        ("attention.layer_norm_rms_epsilon", 6, 1e-5f32.to_le_bytes()),
    ] {
        let name = format!("llama.{name}");
        match (name == key, value) {
            (true, Some(value)) => builder = builder.raw(&name, id, &value),
            (true, None) => {}
            (false, _) => builder = builder.raw(&name, at, &bytes),
        }
        found |= name == key;
    }
    if let (false, Some(value)) = (found, value) {
        builder = builder.raw(key, id, &value);
    }
    builder.zeros("token_embd.weight", &[7, 32])
}

fn llama_json() -> Value {
    json!({
        "model_type": "llama", "hidden_act": "silu", "hidden_size": 64,
        "intermediate_size": 96, "max_position_embeddings": 131072, "num_hidden_layers": 2,
        "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 16,
        "rms_norm_eps": 1e-5, "vocab_size": 100, "tie_word_embeddings": true,
        "torch_dtype": "bfloat16", "rope_theta": 500000.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    })
}

#[test]
fn both_styles_of_config_json_say_the_same() {
    let old = llama_json();
    let mut new = old.clone();
    let object = new.as_object_mut().expect("an object");
    let mut rope = object.remove("rope_scaling").expect("scaling");
    rope["rope_theta"] = object.remove("rope_theta").expect("a base");
    object.insert("rope_parameters".to_owned(), rope);
    let dtype = object.remove("torch_dtype").expect("a type");
    object.insert("dtype".to_owned(), dtype);
    let (old, told) = hub(&old).expect("a configuration");
    assert_eq!(old, hub(&new).expect("a configuration").0);
    assert!(told.list().is_empty(), "{told:?}");
    let scaling = old.rope.and_then(|rope| rope.scaling);
    let wanted = Scaling::Llama3 {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 8192.0,
    };
    assert_eq!(scaling, Some(wanted));
}

#[test]
fn config_json_of_gpt2() {
    let mut config = json!({
        "model_type": "gpt2", "activation_function": "gelu_new", "n_ctx": 1024,
        "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_inner": null,
        "layer_norm_epsilon": 1e-5, "vocab_size": 50257
    });
    let (read, warnings) = hub(&config).expect("a configuration");
    assert_eq!((read.feed_forward, read.head_size, read.rope), (3072, 64, None));
    assert!(warnings.list().iter().any(|w| w.starts_with("n_inner is absent: 3072")));
    config["activation_function"] = json!("gelu");
    let refusal = hub(&config).expect_err("another activation");
    assert_eq!((refusal.code, refusal.field.as_str()), (Code::Param, "activation_function"));
}

#[test]
fn config_json_refuses_what_is_not_run() {
    let cases = [
        ("model_type", json!("mamba"), Code::ArchUnknown),
        ("model_type", json!(null), Code::NoArchitecture),
        ("hidden_size", json!("64"), Code::ParamType),
        ("hidden_size", json!(-64), Code::ParamType),
        ("hidden_size", json!(null), Code::Param),
        ("rms_norm_eps", json!(null), Code::Param),
        ("rms_norm_eps", json!(0), Code::Range),
        ("num_attention_heads", json!(0), Code::Param),
        ("num_key_value_heads", json!(3), Code::Param),
        ("head_dim", json!(15), Code::Param),
        ("hidden_act", json!("gelu"), Code::Param),
        ("mlp_bias", json!(true), Code::Param),
        ("use_sliding_window", json!(true), Code::Param),
        ("layer_types", json!(["full_attention", "sliding_attention"]), Code::Param),
        ("rope_scaling", json!({"rope_type": "dynamic", "factor": 2.0}), Code::Param),
        ("rope_scaling", json!({"rope_type": "llama3", "factor": 2.0}), Code::Param),
        ("rope_scaling", json!([]), Code::ParamType),
        ("tie_word_embeddings", json!("no"), Code::ParamType),
    ];
    for (key, value, code) in cases {
        let mut config = llama_json();
        config[key] = value.clone();
        let refusal = hub(&config).expect_err("a refusal");
        assert_eq!(refusal.code, code, "{key} {value}: {refusal}");
    }
}
