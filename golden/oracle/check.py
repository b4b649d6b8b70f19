"""The oracle's own test: python3 golden/oracle/check.py. Plain asserts, numpy and gguf only.

Formulas against hand values and against other ways to compute them; slack rows on honest float32
and float16 kernels with tree sums; wrong formulas against right ones; the wire there and back.
"""

import json
import math
import struct
import subprocess
import sys
from pathlib import Path

import packages

packages.need("requirements.txt", "numpy", "gguf")

import gguf
import numpy as np

import blocks
import check_declared as of_declared
import check_models as of_models
import ops
import sampling
from stored import narrow, representable, rounded, widen
from wire import Raw, build, parse

RNG = np.random.default_rng(20240607)


def tensor(values, stored: str = "f32") -> Raw:
    """A plain operand."""
    values = np.asarray(values)
    bits = values.astype(np.int32) if stored == "i32" else narrow(values, stored)
    return Raw(stored, bits.shape, bits)


def random_blocks(stored: str, rows: int, count: int) -> Raw:
    """A block operand with random codes and ordinary scales."""
    elements, size = blocks.SIZES[stored]
    b = RNG.integers(0, 256, (rows * count, size)).astype(np.uint8)
    at = {"q4_k": (0, 2), "q5_k": (0, 2), "q6_k": (208,), "mxfp4": ()}.get(stored, (0,))
    for offset in at:
        scale = narrow(RNG.uniform(0.01, 0.1, len(b)), "f16")
        b[:, offset : offset + 2] = scale.view(np.uint8).reshape(-1, 2)
    if stored == "mxfp4":
        b[:, 0] = RNG.integers(110, 130, len(b))
    return Raw(stored, (rows, count * elements), b.reshape(rows, count * size))


def ask(op: str, tensors: dict, attr=None, dtype: str = "f32", golden=None):
    """The oracle's answer to a question, golden form unless `golden` is False."""
    message = {"id": 1, "call": "op", "op": op, "dtype": dtype, "attr": attr or {}}
    if golden is not False:
        message["golden"] = golden or {}
    return ops.respond(message, tensors)


def values(op: str, tensors: dict, attr=None, name: str = "y", **more) -> np.ndarray:
    """One golden result."""
    head, out = ask(op, tensors, attr, **more)
    assert "ok" in head, head
    return out[name].bits


def near(found, wanted, error: float = 1e-12) -> None:
    """Close in every element."""
    np.testing.assert_allclose(found, wanted, rtol=error, atol=error)


def check_stored() -> None:
    """Rounding to bf16 and f16 against exact neighbours; lowest bits."""
    every = np.arange(0x7F80, dtype=np.uint32)
    exact = widen(every.astype(np.uint16), "bf16")
    assert np.array_equal(narrow(exact, "bf16"), every)
    middle = (exact[:-1] + exact[1:]) / 2
    assert np.array_equal(narrow(middle, "bf16"), every[:-1] + (every[:-1] & 1))
    assert np.array_equal(narrow(np.nextafter(middle, np.inf), "bf16"), every[1:])
    assert representable(np.array([1.0, -0.5, 240.0])) and not representable(np.array([257.0]))
    assert narrow(np.array([np.nan, np.inf, 3.4e38]), "bf16").tolist() == [0x7FC0, 0x7F80, 0x7F80]


def check_blocks() -> None:
    """Decoders against gguf-py, bit for bit in f32; the two scales where OCP and ggml differ."""
    for stored, count in (("q4_0", 3), ("q5_0", 3), ("q8_0", 3), ("mxfp4", 3), ("q4_k", 2),
                          ("q5_k", 2), ("q6_k", 2)):
        w = random_blocks(stored, 5, count)
        kind = gguf.GGMLQuantizationType[stored.upper()]
        theirs = gguf.quants.dequantize(w.bits, kind)
        ours = values("dequantize", {"w": w}).astype(np.float32)
        assert np.array_equal(ours, theirs), stored
    edge = np.zeros((4, 17), dtype=np.uint8)
    edge[:, 0] = [0, 1, 254, 255]
    edge[:, 1:] = 0x71
    y = values("dequantize", {"w": Raw("mxfp4", (4, 32), edge)})
    assert y[0, 0] == 2.0**-128 and y[0, 16] == 6 * 2.0**-127 and y[1, 0] == 2.0**-127
    assert y[2, 16] == 6 * 2.0**127 and np.isnan(y[3]).all()


def check_norms() -> None:
    """Norms against hand values and against two-step computations."""
    ones, zeros = tensor(np.ones(4)), tensor(np.zeros(4))
    one_to_four = {"x": tensor([[1, 2, 3, 4]]), "gamma": ones, "beta": zeros}
    y = values("layernorm", one_to_four, {"eps": 1e-5})
    near(y[0], (np.array([1, 2, 3, 4]) - 2.5) / math.sqrt(1.25 + np.float64(np.float32(1e-5))))
    x = rounded(RNG.normal(3, 2, (5, 37)), "f32")
    gamma = rounded(RNG.normal(1, 0.2, 37), "f32")
    operands = {"x": tensor(x), "gamma": tensor(gamma)}
    eps = float(np.float32(1e-5))
    wanted = [[v * g / math.sqrt(sum(w * w for w in row) / 37 + eps) for v, g in zip(row, gamma)]
              for row in x]
    near(values("rmsnorm", operands, {"eps": 1e-5}), wanted)
    residual = rounded(RNG.normal(0, 2, (5, 37)), "f16")
    halves = {"x": tensor(x, "f16"), "residual": tensor(residual, "f16"), "gamma": tensor(gamma)}
    total = values("rmsnorm_residual", halves, {"eps": 1e-5}, "sum", dtype="f16")
    assert np.array_equal(total, rounded(rounded(x, "f16") + residual, "f16"))
    z = x / 4
    wanted = np.exp(z) / np.exp(z).sum(1)[:, None]
    near(values("softmax", {"x": tensor(x)}, {"scale": 0.25}), wanted)


def check_activations() -> None:
    """GELU and SwiGLU against values by hand and against math.erf."""
    x = rounded(np.linspace(-6, 6, 241), "f32").reshape(1, -1)
    erf = np.array([[v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x[0]]])
    near(values("gelu", {"x": tensor(x)}), erf)
    u = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    near(values("gelu", {"x": tensor(x)}, {"approximate": "tanh"}), 0.5 * x * (1 + np.tanh(u)))
    assert abs(values("gelu", {"x": tensor([[-1.0]])})[0, 0] + 0.15865525393145707) < 1e-15
    g, up = tensor([[9.0, 1.0]]), tensor([[-9.0, 0.0]])
    y = values("swiglu_clamped", {"gate": g, "up": up})
    near(y, [[7 / (1 + math.exp(-7 * float(np.float32(1.702)))) * -6,
              1 / (1 + math.exp(-float(np.float32(1.702))))]])
    near(values("swiglu", {"gate": tensor([[1.0, 2.0]]), "up": tensor([[1.0, 1.0]])}),
         [[0.7310585786300049, 1.7615941559557649]])


def check_products() -> None:
    """linear by loops; exactness; M and Q by loops."""
    x, w = RNG.integers(-4, 5, (3, 40)), RNG.integers(-4, 5, (6, 40))
    head, out = ask("linear", {"x": tensor(x), "w": tensor(w)}, golden={"keeps": ["w"]})
    assert head["ok"]["exact"] and np.array_equal(out["y"].bits, x @ w.T)
    terms = x[1] * w[2]
    m = max(np.abs(np.cumsum(terms)).max(), math.sqrt((terms**2).sum()))
    near(out["y.slack"].bits[1, 2], (6 * math.sqrt(40) + 5 + 6) * m, 1e-6)
    kept = 2.0**26 * math.sqrt((terms**2).sum())
    near(out["y.keeps.w"].bits[1, 2], kept, 1e-6)
    rough, _ = ask("linear", {"x": tensor(RNG.normal(size=(3, 40))), "w": tensor(w)})
    assert not rough["ok"]["exact"]


def check_positions() -> None:
    """RoPE by complex numbers; the frequencies of gpt-oss from its table; learned positions."""
    x = rounded(RNG.normal(size=(2, 1, 64)), "f32")
    attr = {"style": "interleaved", "theta": 10000.0}
    at = tensor([5, 131000], "i32")
    y = values("rope", {"x": tensor(x), "positions": at}, attr)
    inv = 10000.0 ** (-np.arange(32) / 32)
    turn = np.exp(1j * np.array([5, 131000])[:, None] * inv)
    turned = (x[..., 0::2] + 1j * x[..., 1::2]) * turn[:, None]
    near(y[..., 0::2] + 1j * y[..., 1::2], turned, 1e-9)
    yarn = {"factor": 32.0, "original_context": 4096, "truncate": False}
    attr = {"style": "half", "theta": 150000.0, "scaling": {"yarn": yarn}}
    one = np.zeros((1, 1, 64))
    one[0, 0, :32] = 1
    y = values("rope", {"x": tensor(one), "positions": tensor([1], "i32")}, attr)[0, 0]
    angle = np.arctan2(y[32:], y[:32])
    near(np.hypot(y[:32], y[32:]), np.full(32, 1.3465735903), 1e-9)
    inv = [3.170569618e-2, 1.933500113e-2, 1.293187012e-4, 3.830881237e-5]
    near(angle[[9, 10, 17, 18]], inv, 1e-9)
    table = RNG.integers(-99, 99, (9, 4))
    x = RNG.integers(-99, 99, (2, 3, 4))
    y = values("positional", {"x": tensor(x), "table": tensor(table)}, {"start": 4})
    assert np.array_equal(y, x + table[4:7])


def check_attention() -> None:
    """A dense computation; decode equals prefill; ring equals long cache; sinks in closed form."""
    q, k, v = (rounded(RNG.normal(size=s), "f32") for s in ((3, 4, 8), (9, 2, 8), (9, 2, 8)))
    both = {"q": tensor(q), "k": tensor(k), "v": tensor(v)}
    y = values("attention_prefill", both, {"start": 5, "window": 4})
    wide_k, wide_v = (np.repeat(m, 2, axis=1) for m in (k, v))
    s = np.einsum("nhd,chd->hnc", q, wide_k) / math.sqrt(8)
    gap = (5 + np.arange(3))[:, None] - np.arange(9)
    s = np.where((gap >= 0) & (gap < 4), s, -np.inf)
    p = np.exp(s) / np.exp(s).sum(-1, keepdims=True)
    near(y, np.einsum("hnc,chd->nhd", p, wide_v))
    step = {"q": tensor(q[2]), "k_new": tensor(k[7]), "v_new": tensor(v[7]),
            "k_cache": tensor(k * (np.arange(9) != 7)[:, None, None]), "v_cache": tensor(v)}
    near(values("attention_decode", step, {"position": 7, "window": 4}), y[2])
    ring_k, ring_v = (np.stack([m[4], m[5], m[6], m[7]]) for m in (k, v))
    ring = {"q": tensor(q[2:]), "k": tensor(ring_k), "v": tensor(ring_v)}
    near(values("attention_prefill", ring, {"start": 7, "window": 4, "ring": True}), y[2:])
    flat = {"q": tensor(np.zeros((1, 2, 4))), "k": tensor(RNG.normal(size=(5, 1, 4))),
            "v": tensor(np.ones((5, 1, 4))), "sinks": tensor([0.5, 3.0])}
    closed = [5 / (5 + math.exp(0.5)), 5 / (5 + math.exp(3.0))]
    near(values("attention_prefill", flat, {"start": 4})[0, :, 0], closed)


def check_experts() -> None:
    """The router by sorting; experts by loops."""
    x, w = (rounded(RNG.normal(size=s), "f32") for s in ((4, 16), (6, 16)))
    head, out = ask("moe_router", {"x": tensor(x), "w": tensor(w)}, {"top_k": 2})
    logits = x @ w.T
    assert np.array_equal(out["ids"].bits, np.argsort(-logits, 1)[:, :2])
    assert out["ids.decided"].bits.all()
    ids, weights = np.array([[0, 1]] * 4), np.full((4, 2), 0.5)
    gate, up, down = (RNG.normal(size=s) for s in ((2, 8, 16), (2, 8, 16), (2, 16, 8)))
    experts = {"x": tensor(x), "ids": tensor(ids, "i32"), "weights": tensor(weights),
               "w_gate": tensor(gate), "w_up": tensor(up), "w_down": tensor(down)}
    gate, up, down = (rounded(m, "f32") for m in (gate, up, down))
    wanted = np.zeros((4, 16))
    for e in range(2):
        g, u = np.minimum(x @ gate[e].T, 7), np.clip(x @ up[e].T, -7, 7)
        alpha = float(np.float32(1.702))
        wanted += 0.5 * ((g / (1 + np.exp(-alpha * g)) * (u + 1)) @ down[e].T)
    near(values("moe_ffn", experts), wanted)


def check_sampling() -> None:
    """Philox against the published vectors; filters by hand."""
    assert sampling.philox(0, 0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = (1 << 128) - 1
    assert sampling.philox((1 << 64) - 1, ones) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    logits = tensor(np.log([0.5, 0.25, 0.125, 0.125]))
    kept = values("top_p", {"logits": logits}, {"value": 0.6}, "logits")
    assert np.isfinite(kept).tolist() == [True, True, False, False]
    ties = tensor([1.0, 5.0, 5.0, 0.0, 5.0])
    kept = values("top_k", {"logits": ties}, {"value": 2}, "logits")
    assert np.isfinite(kept).tolist() == [False, True, True, False, False]
    seen = {"logits": tensor([4.0, -3.0, 5.0]), "seen": tensor([3], "i32")}
    assert values("repetition_penalty", seen, {"value": 2.0}, "logits").tolist() == [2, -6, 5]
    flat = tensor(np.zeros(1000))
    drawn = values("sample", {"logits": flat}, {"seed": 0, "index": 0}, "id")
    assert drawn.tolist() == [int(1000 * (0x6627E8 / 2**24))]


def tree(terms: np.ndarray) -> np.ndarray:
    """The sum of the last axis in f32, as a tree."""
    terms = terms.astype(np.float32)
    while terms.shape[-1] > 1:
        if terms.shape[-1] % 2:
            terms = np.concatenate([terms, np.zeros_like(terms[..., :1])], axis=-1)
        terms = terms[..., 0::2] + terms[..., 1::2]
    return terms[..., 0]


def half_ulp(r: np.ndarray, stored: str) -> np.ndarray:
    """Half a unit of the last place of the stored type at r."""
    bits, least = {"f32": (24, -126), "f16": (11, -14), "bf16": (8, -126)}[stored]
    return np.exp2(np.maximum(np.floor(np.log2(np.abs(r) + 1e-300)), least) - bits)


def load(o: np.ndarray, r: np.ndarray, slack: np.ndarray, stored: str) -> float:
    """The largest share of the allowance beyond half an ulp that is used (specs/README.md)."""
    beyond = np.maximum(np.abs(o.astype(np.float64) - r) - half_ulp(r, stored), 0)
    return float((beyond / np.maximum(2.0**-24 * slack.astype(np.float64), 1e-300)).max())


def honest(op: str, t: dict, eps: np.float32) -> np.ndarray:
    """An honest f32 kernel with tree sums, unrounded at the store."""
    f = {k: widen(v.bits, v.stored).astype(np.float32) for k, v in t.items()}
    k = np.float32(f["x"].shape[-1])
    if op == "linear":
        return np.stack([tree(f["w"] * row) for row in f["x"]]) + f["bias"]
    if op == "softmax":
        e = np.exp(f["x"] - f["x"].max(-1, keepdims=True))
        return e / tree(e)[:, None]
    if op == "gelu":
        erfc = np.frompyfunc(math.erfc, 1, 1)
        tail = erfc((-f["x"] * np.float32(math.sqrt(0.5))).astype(np.float64)).astype(np.float32)
        return f["x"] * (np.float32(0.5) * tail)
    mean = (tree(f["x"]) / k)[:, None] if op == "layernorm" else np.float32(0)
    centred = f["x"] - mean
    scale = np.float32(1) / np.sqrt((tree(centred * centred) / k)[:, None] + eps)
    y = centred * scale * f["gamma"]
    return y + f["beta"] if op == "layernorm" else y


def check_slack() -> None:
    """Honest kernels stay below load 1 and, in f32, use more than a hundredth of it."""
    worst = {}
    for mean, std in ((0, 1), (3, 1), (1000, 0.5), (0, 1e-3), (0, 100)):
        for stored in ("f32", "f16"):
            x = tensor(RNG.normal(mean, std, (6, 769)), stored)
            vector = tensor(RNG.uniform(0.5, 1.5, 769))
            w = tensor(RNG.normal(0, 0.0625, (17, 769)), stored)
            for op, more in (("layernorm", {"gamma": vector, "beta": vector}),
                             ("rmsnorm", {"gamma": vector}), ("softmax", {}), ("gelu", {}),
                             ("linear", {"w": w, "bias": tensor(RNG.normal(size=17))})):
                t = {"x": x, **more}
                attr = {"eps": 1e-5} if "norm" in op else {}
                if op == "gelu":
                    t["x"] = tensor(np.clip(widen(x.bits, stored), -8, 8), stored)
                golden = {"accumulate": "f32"}
                head, out = ask(op, t, attr, stored, golden)
                y = rounded(honest(op, t, np.float32(1e-5)), stored)
                found = load(y, out["y"].bits, out["y.slack"].bits, stored)
                assert found < 1, (op, mean, std, stored, found)
                worst[op, stored] = max(worst.get((op, stored), 0), found)
    for (op, stored), found in worst.items():
        assert stored != "f32" or found > 0.01, (op, found)


def honest_attention(q, k, v, start: int) -> np.ndarray:
    """Attention in f32 with tree sums, one KV head a query head."""
    y = np.empty_like(q)
    for i in range(len(q)):
        keys, values_ = k[: start + i + 1], v[: start + i + 1]
        s = tree(keys * q[i]) * np.float32(1 / math.sqrt(q.shape[-1]))
        e = np.exp(s - s.max(0))
        up = tree(np.moveaxis(e[:, :, None] * values_, 0, -1))
        y[i] = up / tree(e.T)[:, None]
    return y


def check_slack_of_attention_and_pairs() -> None:
    """The same for attention, rope (with an f32 angle) and swiglu."""
    f = np.float32
    for std in (0.25, 1, 3):
        shapes = ((4, 3, 64), (150, 3, 64), (150, 3, 64))
        q, k, v = (RNG.normal(0, std, s).astype(f) for s in shapes)
        both = {"q": tensor(q), "k": tensor(k), "v": tensor(v)}
        head, out = ask("attention_prefill", both, {"start": 140}, golden={"accumulate": "f32"})
        found = load(honest_attention(q, k, v, 140), out["y"].bits, out["y.slack"].bits, "f32")
        assert 0.01 < found < 1, ("attention", std, found)
        at = np.array([3, 500, 9000, 131000])
        inv = (f(10000) ** (-np.arange(32, dtype=f) / f(32))).astype(f)
        angle = at.astype(f)[:, None] * inv
        c, s = (m[:, None] for m in (np.cos(angle), np.sin(angle)))
        one, two = q[..., :32], q[..., 32:]
        y = np.concatenate([one * c - two * s, two * c + one * s], -1)
        turned = {"x": tensor(q), "positions": tensor(at, "i32")}
        head, out = ask("rope", turned, {"style": "half", "theta": 10000.0})
        found = load(y, out["y"].bits, out["y.slack"].bits, "f32")
        assert 0.01 < found < 1, ("rope", std, found)
        g, u = np.clip(k[:, 0] * f(8), -80, 80), v[:, 0]
        head, out = ask("swiglu", {"gate": tensor(g), "up": tensor(u)})
        y = g * (f(1) / (f(1) + np.exp(-g))) * u
        found = load(y, out["y"].bits, out["y.slack"].bits, "f32")
        assert 0.01 < found < 1, ("swiglu", std, found)


def check_wrong() -> None:
    """Each wrong formula of these ops answers, in the right shape, something else."""
    vector = tensor(RNG.uniform(0.5, 1.5, 41))
    x = tensor(RNG.normal(3, 30, (3, 41)))
    seqs = tensor([1, 0, 1], "i32")
    k, v = (tensor(RNG.normal(size=(2, 150, 2, 96)) * 3) for _ in range(2))
    questions = {
        "layernorm": ({"x": x, "gamma": vector, "beta": vector}, {"eps": 1e-2}),
        "rmsnorm": ({"x": x, "gamma": vector}, {"eps": 1e-2}),
        "swiglu_clamped": ({"gate": x, "up": x}, {}),
        "attention_prefill": (
            {"q": tensor(RNG.normal(size=(3, 4, 96))), "k": k, "v": v, "sequences": seqs,
             "sinks": tensor(RNG.normal(size=4))},
            {"start": 140, "window": 100},
        ),
    }
    # mistakes that need inputs of their own to show
    same = {"ring_ignored", "ring_one_early", "mask_10000", "without_max", "exponential_overflows",
            "nan_swallowed", "sink_in_sum_only", "last_tile_dropped", "sequence_stride_of_length"}
    for op, (tensors, attr) in questions.items():
        names = sorted(ops.WRONG[op])
        head, out = ask(op, tensors, attr, golden={"wrong": names})
        for name in names:
            wrong = out[f"wrong.{name}.y"].bits
            assert wrong.shape == out["y"].bits.shape, (op, name)
            far = np.abs(wrong - out["y"].bits) > 1e-9
            assert name in same or far.any() or np.isnan(wrong).any(), (op, name)


def check_refusals() -> None:
    """Malformed questions, each with its kind and operand."""
    x, w = tensor(np.ones((2, 8))), tensor(np.ones((4, 8)))
    cases = [
        ("linear", {"x": x}, {}, "OperandMissing", "w"),
        ("linear", {"x": x, "w": w, "z": w}, {}, "OperandUnknown", "z"),
        ("linear", {"x": x, "w": tensor(np.ones((8, 4)))}, {}, "ShapeMismatch", "w"),
        ("linear", {"x": tensor(np.ones((0, 8))), "w": w}, {}, "EmptyAxis", "x"),
        ("linear", {"x": x, "w": Raw("q8_1", (4, 8), w.bits)}, {}, "TypeUnsupported", "w"),
        ("gelu", {"x": tensor([[1]], "i32")}, {}, "DtypeMismatch", "x"),
        ("gelu", {"x": x}, {"scale": 0.0}, "AttributeOutOfRange", "scale"),
        ("rmsnorm", {"x": x, "gamma": tensor(np.ones(8))}, {}, "AttributeMissing", "eps"),
        ("gelu", {"x": x}, {"form": "tanh"}, "AttributeUnknown", "form"),
        ("embedding", {"ids": tensor([4], "i32"), "table": w}, {}, "IdOutOfRange", "ids"),
        ("argmax", {"x": tensor([[np.nan, 1.0]])}, {}, "NotANumber", "x"),
    ]
    for op, tensors, attr, kind, operand in cases:
        head, out = ask(op, tensors, attr)
        found = head.get("refused", {})
        assert (found.get("kind"), found.get("operand")) == (kind, operand), (op, kind, head)
        assert not out


def check_wire() -> None:
    """A frame there and back with every type; the program itself over its pipes."""
    tensors = {"a": tensor([[1.5, -2.0]]), "b": tensor([1.0], "bf16"), "c": tensor([7], "i32"),
               "w": random_blocks("mxfp4", 2, 1), "none": tensor(np.zeros((0, 3)))}
    message, back = parse(build({"id": 3, "call": "op"}, tensors))
    assert message == {"id": 3, "call": "op"}
    for name, t in tensors.items():
        assert (back[name].stored, back[name].shape) == (t.stored, t.shape)
        assert np.array_equal(back[name].bits, t.bits)
    asked = [({"id": 0, "call": "hello"}, {}),
             ({"id": 1, "call": "op", "op": "gelu", "dtype": "bf16", "attr": {}},
              {"x": tensor([[1.0, -1.0]], "bf16")}),
             ({"id": 2, "call": "op", "op": "none", "dtype": "f32"}, {})]
    frames = [build(*a) for a in asked]
    stream = b"".join(struct.pack("<Q", len(f)) + f for f in frames)
    program = str(Path(__file__).with_name("ops.py"))
    out = subprocess.run([sys.executable, program], input=stream, capture_output=True, check=True)
    replies, rest = [], out.stdout
    while rest:
        length = struct.unpack("<Q", rest[:8])[0]
        replies.append(parse(rest[8 : 8 + length]))
        rest = rest[8 + length :]
    assert [r[0]["id"] for r in replies] == [0, 1, 2]
    hello = replies[0][0]["ok"]
    assert "gelu" in hello["wrong"] and hello["device"]["kind"] == "cpu"
    y = replies[1][1]["y"]
    found = widen(y.bits, y.stored)
    assert y.stored == "bf16" and np.array_equal(found, [[0.83984375, -0.158203125]])
    assert "unsupported" in replies[2][0]
    json.dumps(replies[0][0], allow_nan=False)


def main() -> None:
    """Runs every check of this file, in order, and those of the models."""
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            check()
            print(f"ok {name[6:]}")
    of_declared.check(ask, tensor, random_blocks, RNG)
    print("ok declared roundings")
    of_models.main()


if __name__ == "__main__":
    main()
