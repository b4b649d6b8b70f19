//! Every op on the device against its definition, on random shapes and values: a property test
//! beside the cases. Without a device it says that nothing ran.

use std::collections::BTreeMap;
use std::path::PathBuf;

use goldgate_engine::cuda::library::usual_folders;
use goldgate_engine::cuda::{Device, DeviceError, Settings};
use goldgate_engine::exec::op as on_device;
use goldgate_engine::ops::{self, Inputs, Question};
use goldgate_engine::{DType, Tensor};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};

/// A random question: op, dtype, attributes, operands.
struct Ask {
    op: &'static str,
    dtype: DType,
    attributes: Map<String, Value>,
    tensors: BTreeMap<String, Tensor>,
}

/// Draws shapes and values.
struct Dice(StdRng);

impl Dice {
    fn upto(&mut self, most: usize) -> usize {
        self.0.random_range(1..=most)
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.0.random_range(0..of.len())]
    }

    fn reals(&mut self, dtype: DType, shape: &[usize], size: f64) -> Tensor {
        let count = shape.iter().product();
        let values: Vec<f64> =
            (0..count).map(|_| (self.0.random::<f64>() - 0.5) * 2.0 * size).collect();
        Tensor::from_f64(dtype, shape, &values)
    }

    fn any(&mut self, types: &[DType], shape: &[usize], size: f64) -> Tensor {
        let dtype = self.pick(types);
        self.reals(dtype, shape, size)
    }

    fn ids(&mut self, shape: &[usize], below: usize) -> Tensor {
        let count: usize = shape.iter().product();
        let ids: Vec<i32> = (0..count).map(|_| self.0.random_range(0..below as i32)).collect();
        Tensor::from_i32(shape, &ids)
    }

    /// A weight of any stored type: blocks get random bytes and tame scales.
    fn weight(&mut self, dtype: DType, shape: &[usize]) -> Tensor {
        if !dtype.is_block() {
            return self.reals(dtype, shape, 1.0);
        }
        let bytes = shape.iter().product::<usize>() / dtype.elements() * dtype.bytes();
        let mut raw: Vec<u8> = (0..bytes).map(|_| self.0.random()).collect();
        for block in raw.chunks_exact_mut(dtype.bytes()) {
            let scale = half::f16::from_f64(0.01 + 0.02 * self.0.random::<f64>()).to_le_bytes();
            match dtype {
                DType::Mxfp4 => block[0] = self.0.random_range(120..126),
                DType::Q6K => block[208..210].copy_from_slice(&scale),
                DType::Q4K | DType::Q5K => {
                    block[..2].copy_from_slice(&scale);
                    block[2..4].copy_from_slice(&scale);
                }
                _ => block[..2].copy_from_slice(&scale),
            }
        }
        Tensor::new(dtype, shape, raw)
    }

    /// A width that rows of `dtype` may have.
    fn width(&mut self, dtype: DType, most: usize) -> usize {
        let unit = dtype.elements();
        self.upto(most.div_ceil(unit)) * unit
    }
}

fn ask(op: &'static str, d: &mut Dice) -> Ask {
    let dtype = d.pick(&DType::ACTIVATIONS);
    let w = d.pick(&DType::WEIGHTS);
    let (n, h) = (d.pick(&[1, 2, 7, 8, 9, 33, 130]), d.pick(&[1, 3, 8, 96, 257, 1024, 5000]));
    let p = DType::F32;
    let mut t: Vec<(&str, Tensor)> = Vec::new();
    let mut a = json!({});
    match op {
        "advance" => {
            let words = d.upto(300);
            t.push(("id", d.ids(&[1], 32 * words)));
            for name in ["token", "position", "length", "draws"] {
                t.push((name, d.ids(&[1], 1 << 20)));
            }
            t.push(("seen", d.ids(&[words], 1 << 30)));
        }
        "argmax" => t.push(("x", d.reals(p, &[n, h], 3.0))),
        "attention_prefill" => {
            let (kv, group, size) = (d.upto(3), d.upto(4), d.pick(&[3, 5, 64, 80, 96, 128]));
            let start = d.pick(&[0, 1, 63, 100]);
            let c = start + n + d.upto(70);
            let cache = d.pick(&[dtype, dtype, DType::F16]);
            t.push(("q", d.reals(dtype, &[n, kv * group, size], 1.0)));
            t.push(("k", d.reals(cache, &[c, kv, size], 1.0)));
            t.push(("v", d.reals(cache, &[c, kv, size], 1.0)));
            if d.upto(2) == 1 {
                t.push(("sinks", d.reals(p, &[kv * group], 3.0)));
            }
            a = json!({"start": start, "window": d.pick(&[0, 0, 1, 2, 64, 100])});
        }
        "attention_decode" => {
            let (kv, group, size) = (d.upto(3), d.upto(4), d.pick(&[3, 5, 64, 80, 96, 128]));
            let position = d.pick(&[0, 1, 63, 64, 65, 300, 700]);
            let c = position + d.upto(70);
            let cache = d.pick(&[dtype, dtype, DType::F16]);
            t.push(("q", d.reals(dtype, &[kv * group, size], 1.0)));
            t.push(("k_new", d.reals(dtype, &[kv, size], 1.0)));
            t.push(("v_new", d.reals(dtype, &[kv, size], 1.0)));
            t.push(("k_cache", d.reals(cache, &[c, kv, size], 1.0)));
            t.push(("v_cache", d.reals(cache, &[c, kv, size], 1.0)));
            if d.upto(2) == 1 {
                t.push(("sinks", d.reals(p, &[kv * group], 3.0)));
            }
            a = json!({"position": position, "window": d.pick(&[0, 0, 1, 2, 64, 100])});
        }
        "dequantize" => {
            let width = d.width(w, 700);
            t.push(("w", d.weight(w, &[n, width])));
        }
        "embedding" => {
            let width = d.width(w, 700);
            t.push(("table", d.weight(w, &[37, width])));
            t.push(("ids", d.ids(&[n], 37)));
            a = json!({"to": d.pick(&["f32", "D"])});
        }
        "ffn_gelu" | "ffn_swiglu" => {
            let (h, f) = (d.width(w, 300), d.width(w, 500));
            // Small enough that no activation overflows f16.
            t.push(("x", d.reals(dtype, &[n, h], 0.03)));
            t.push(("w_up", d.weight(w, &[f, h])));
            t.push(("w_down", d.weight(w, &[h, f])));
            if op == "ffn_gelu" {
                t.push(("b_up", d.reals(p, &[f], 1.0)));
                t.push(("b_down", d.reals(p, &[h], 1.0)));
                a = json!({"approximate": d.pick(&["none", "tanh"])});
            } else {
                t.push(("w_gate", d.weight(w, &[f, h])));
            }
            if d.upto(2) == 1 {
                t.push(("residual", d.any(&[dtype, p], &[n, h], 1.0)));
            }
        }
        "gelu" => {
            t.push(("x", d.reals(dtype, &[n, h], 6.0)));
            a = json!({"approximate": d.pick(&["none", "tanh"]), "scale": 1.5});
        }
        "kv_append" => {
            let (kv, size, start) = (d.upto(3), d.pick(&[3, 64]), d.upto(9));
            let (c, cache) = (start + n, d.pick(&DType::ACTIVATIONS));
            for name in ["k", "v"] {
                t.push((name, d.reals(dtype, &[n, kv, size], 1.0)));
            }
            for name in ["k_cache", "v_cache"] {
                t.push((name, d.reals(cache, &[2, c, kv, size], 1.0)));
            }
            t.push(("sequences", d.ids(&[n], 2)));
            a = json!({"start": start, "ring": d.upto(2) == 1});
        }
        "layernorm" | "rmsnorm" | "layernorm_residual" | "rmsnorm_residual" => {
            t.push(("x", d.any(&[dtype, p], &[n, h], 3.0)));
            t.push(("gamma", d.reals(p, &[h], 2.0)));
            if op.starts_with("layer") {
                t.push(("beta", d.reals(p, &[h], 2.0)));
            }
            if op.ends_with("residual") {
                t.push(("residual", d.any(&[dtype, p], &[n, h], 3.0)));
            }
            a = json!({"eps": 1e-5, "to": d.pick(&["f32", "D"])});
        }
        "linear" => {
            let width = d.width(w, 1500);
            let outputs = d.pick(&[1, 5, 64, 129, 300]);
            t.push(("x", d.any(&[dtype, dtype, p], &[n, width], 1.0)));
            t.push(("w", d.weight(w, &[outputs, width])));
            if d.upto(2) == 1 {
                t.push(("bias", d.reals(p, &[outputs], 1.0)));
            }
            a = json!({"to": d.pick(&["f32", "D"])});
        }
        "moe_router" => {
            let (width, e) = (d.width(w, 700), d.pick(&[4, 8, 33]));
            t.push(("x", d.any(&[dtype, p], &[n, width], 1.0)));
            t.push(("w", d.weight(w, &[e, width])));
            t.push(("b", d.reals(p, &[e], 1.0)));
            a = json!({"top_k": d.pick(&[1, 2, 4])});
        }
        "moe_ffn" => {
            let (h, f, e, k) = (d.width(w, 100), d.width(w, 200), 5, d.pick(&[1, 2, 4]));
            t.push(("x", d.reals(dtype, &[n, h], 1.0)));
            t.push(("ids", d.ids(&[n, k], e)));
            t.push(("weights", d.reals(p, &[n, k], 0.5)));
            t.push(("w_gate", d.weight(w, &[e, f, h])));
            t.push(("w_up", d.weight(w, &[e, f, h])));
            t.push(("w_down", d.weight(w, &[e, h, f])));
            t.push(("b_gate", d.reals(p, &[e, f], 1.0)));
            t.push(("b_up", d.reals(p, &[e, f], 1.0)));
            t.push(("b_down", d.reals(p, &[e, h], 1.0)));
        }
        "positional" => {
            t.push(("x", d.any(&[dtype, p], &[2, n, h], 1.0)));
            t.push(("table", d.any(&[dtype, p], &[n + 5, h], 1.0)));
            a = json!({"start": d.upto(5)});
        }
        "positional_extract" => {
            t.push(("table", d.reals(dtype, &[n + 5, h], 1.0)));
            a = json!({"start": d.upto(5), "count": n});
        }
        "residual" => {
            t.push(("a", d.any(&[dtype, p], &[n, h], 1.0)));
            t.push(("b", d.any(&[dtype, p], &[n, h], 1.0)));
        }
        "rope" => {
            let (heads, size) = (d.upto(5), d.pick(&[2, 6, 64, 80]));
            t.push(("x", d.reals(dtype, &[n, heads, size], 1.0)));
            t.push(("positions", d.ids(&[n], 131_072)));
            a = json!({"style": d.pick(&["half", "interleaved"]), "theta": 1e4, "rotary_dim": 2});
        }
        "rows" => {
            t.push(("x", d.any(&[dtype, p], &[n, h], 1.0)));
            t.push(("rows", d.ids(&[13], n)));
        }
        "softmax" => t.push(("x", d.any(&[dtype, p], &[n, h], 30.0))),
        "swiglu" | "swiglu_clamped" => {
            let x = d.pick(&[dtype, p]);
            t.push(("gate", d.reals(x, &[n, h], 9.0)));
            t.push(("up", d.reals(x, &[n, h], 9.0)));
        }
        "repetition_penalty" => {
            t.push(("logits", d.reals(p, &[h], 5.0)));
            t.push(("seen", d.ids(&[h.div_ceil(32)], i32::MAX as usize)));
            a = json!({"value": 1.3});
        }
        "temperature" | "top_p" | "min_p" => {
            t.push(("logits", d.reals(p, &[h], 5.0)));
            a = json!({"value": d.pick(&[0.0, 0.1, 0.5, 0.9, 1.0])});
        }
        "top_k" => {
            t.push(("logits", d.reals(p, &[h], 5.0)));
            a = json!({"value": d.pick(&[0, 1, 2, 40, 300])});
        }
        "sample" => {
            t.push(("logits", d.reals(p, &[h], 5.0)));
            a = json!({"seed": 42, "index": d.upto(1000)});
        }
        other => panic!("no random question for {other}"),
    }
    let tensors = t.into_iter().map(|(name, t)| (name.to_owned(), t)).collect();
    Ask { op, dtype, attributes: a.as_object().cloned().unwrap_or_default(), tensors }
}

/// The largest difference that sums of this size, on tensor cores and in 16 bits, may show: wide
/// enough for every honest kernel, narrow enough to see wrong wiring. Cases judge precision.
fn agrees(got: &Tensor, want: &Tensor, coarse: DType) -> Result<(), String> {
    if got.meta != want.meta {
        return Err(format!("is {}, wants {}", got.meta, want.meta));
    }
    if got.meta.dtype == DType::I32 {
        return if got == want { Ok(()) } else { Err("other ids".into()) };
    }
    let (got, want) = (got.to_f64(), want.to_f64());
    let size = want.iter().filter(|w| w.is_finite()).fold(1e-3, |m: f64, w| m.max(w.abs()));
    let limit = size * if coarse == DType::BF16 { 0.03 } else { 0.004 };
    // Written so that a NaN is wrong.
    let near = |g: f64, w: f64| g == w || (g - w).abs() <= limit;
    let wrong = |(_, (g, w)): &(usize, (&f64, &f64))| !near(**g, **w);
    match got.iter().zip(&want).enumerate().find(wrong) {
        None => Ok(()),
        Some((i, (g, w))) => Err(format!("element {i} is {g}, wants {w} within {limit}")),
    }
}

#[test]
fn every_op_agrees_with_its_definition() {
    let prefixes = ["/usr/local", "/usr"].map(PathBuf::from);
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let settings = Settings {
        search: usual_folders(&prefixes),
        cache: home.map(|h| h.join(".cache/goldgate")),
        ..Settings::default()
    };
    let mut device = match Device::open(&settings, 0) {
        Ok(device) => device,
        Err(e @ (DeviceError::NoDriver | DeviceError::NoDevice { .. })) => {
            println!("nothing ran: {e}");
            return;
        }
        Err(e) => panic!("{e}"),
    };
    let rounds: u64 =
        std::env::var("GOLDGATE_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(25);
    let mut failures = Vec::new();
    for op in ops::ALL {
        let name = op.signature().name;
        for round in 0..rounds {
            let ask = ask(name, &mut Dice(StdRng::seed_from_u64(round)));
            if let Err(e) = compare(&mut device, &ask) {
                failures
                    .push(format!("{name} round {round} {} {:?}: {e}", ask.dtype, ask.attributes));
                if e.starts_with("device") {
                    panic!("{}", failures.join("\n"));
                }
            }
        }
        println!("{name}: {} of {rounds} failed so far", failures.len());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn compare(device: &mut Device, ask: &Ask) -> Result<(), String> {
    let op = ops::find(ask.op).ok_or("no such op")?;
    let metas = ask.tensors.iter().map(|(n, t)| (n.clone(), t.meta.clone())).collect();
    let question =
        Question::new(op, ask.dtype, &ask.attributes, &metas).map_err(|e| e.to_string())?;
    let inputs = Inputs::of(ask.tensors.iter().map(|(n, t)| (n.as_str(), t)));
    let want = ops::answer(op, &question, &inputs).map_err(|e| e.to_string())?;
    let (got, observed) = on_device::run(device, op, &question, &ask.tensors, &BTreeMap::new())
        .map_err(|e| match e {
            on_device::OpError::Device(e) => format!("device: {e}"),
            e => e.to_string(),
        })?;
    let seen = (&*observed.guards, &*observed.inputs, &*observed.poison);
    if seen != ("intact", "unchanged", "overwritten") {
        return Err(format!("{seen:?}"));
    }
    for ((name, _), want) in question.results().iter().zip(&want) {
        let shapes: Vec<String> =
            ask.tensors.iter().map(|(n, t)| format!("{n} {}", t.meta)).collect();
        agrees(&got[*name], want, ask.dtype)
            .map_err(|e| format!("{name} {e} [{}] {:?}", shapes.join(", "), observed.route))?;
    }
    Ok(())
}
