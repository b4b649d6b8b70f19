"""The second witness: torch in float64, on its own functions, where torch is installed.

A disagreement beyond 1e-9 of the largest value is an error, so a golden with two witnesses was
computed twice. What they share is the inputs, the decoded block types (gguf-py is the witness of
those) and the inverse frequencies of scaled rotary positions.
"""

from importlib.metadata import version

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = F = None

try:
    import gguf
except ImportError:
    gguf = None

import numpy as np

from answer import Answer
from positions import frequencies, rotary_dim_of
from signature import Question
from stored import narrow, widen

AGREE = 1e-9


def t(values: np.ndarray):
    """A float64 (or int64) tensor."""
    return torch.from_numpy(np.array(values))


def layernorm(q: Question) -> dict:
    """F.layer_norm."""
    x = t(q["x"])
    return {"y": F.layer_norm(x, x.shape[-1:], t(q["gamma"]), t(q["beta"]), q.attr["eps"])}


def layernorm_residual(q: Question) -> dict:
    """F.layer_norm of the sum in the residual's own type."""
    total = stored_sum(q)
    y = F.layer_norm(total, total.shape[-1:], t(q["gamma"]), t(q["beta"]), q.attr["eps"])
    return {"y": y, "sum": total}


def stored_sum(q: Question):
    """x + residual rounded by torch to the residual's type."""
    kind = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
    return (t(q["x"]) + t(q["residual"])).to(kind[q.stored("residual")]).double()


def rmsnorm(q: Question) -> dict:
    """F.rms_norm."""
    x = t(q["x"])
    return {"y": F.rms_norm(x, x.shape[-1:], t(q["gamma"]), q.attr["eps"])}


def rmsnorm_residual(q: Question) -> dict:
    """F.rms_norm of the sum in the residual's own type."""
    total = stored_sum(q)
    return {"y": F.rms_norm(total, total.shape[-1:], t(q["gamma"]), q.attr["eps"]), "sum": total}


def softmax(q: Question) -> dict:
    """torch.softmax of the scaled rows."""
    return {"y": torch.softmax(q.attr["scale"] * t(q["x"]), -1)}


def gelu(q: Question) -> dict:
    """F.gelu."""
    return {"y": q.attr["scale"] * F.gelu(t(q["x"]), approximate=q.attr["approximate"])}


def swiglu(q: Question) -> dict:
    """F.silu times up."""
    return {"y": F.silu(t(q["gate"])) * t(q["up"])}


def swiglu_clamped(q: Question) -> dict:
    """Clamps, then F.silu rescaled by alpha."""
    limit, alpha = q.attr["limit"], q.attr["alpha"]
    g, u = t(q["gate"]).clamp(max=limit), t(q["up"]).clamp(-limit, limit)
    return {"y": F.silu(alpha * g) / alpha * (u + 1)}


def residual(q: Question) -> dict:
    """torch.add."""
    return {"y": torch.add(t(q["a"]), t(q["b"]))}


def linear(q: Question) -> dict:
    """F.linear."""
    bias = t(q["bias"]) if q.has("bias") else None
    return {"y": F.linear(t(q["x"]), t(q["w"]), bias)}


def embedding(q: Question) -> dict:
    """F.embedding; the one rounding of q4_k and q5_k to f32 by torch."""
    y = F.embedding(t(q["ids"]), t(q["table"]))
    return {"y": y.float().double() if q.stored("table") in ("q4_k", "q5_k") else y}


def rows(q: Question) -> dict:
    """index_select."""
    return {"y": t(q["x"]).index_select(0, t(q["rows"]))}


def ffn_gelu(q: Question) -> dict:
    """F.linear, F.gelu, F.linear."""
    up = F.linear(t(q["x"]), t(q["w_up"]), t(q["b_up"]))
    hidden = F.gelu(up, approximate=q.attr["approximate"])
    y = F.linear(hidden, t(q["w_down"]), t(q["b_down"]))
    return {"y": y + t(q["residual"]) if q.has("residual") else y}


def ffn_swiglu(q: Question) -> dict:
    """F.silu(gate)·up, then F.linear."""
    x = t(q["x"])
    hidden = F.silu(F.linear(x, t(q["w_gate"]))) * F.linear(x, t(q["w_up"]))
    y = F.linear(hidden, t(q["w_down"]))
    return {"y": y + t(q["residual"]) if q.has("residual") else y}


def positional(q: Question) -> dict:
    """F.embedding of the positions, added."""
    start, n = q.attr["start"], q.axes["n"]
    at = t(q["positions"]) if q.has("positions") else torch.arange(start, start + n)
    return {"y": t(q["x"]) + F.embedding(at, t(q["table"]))}


def positional_extract(q: Question) -> dict:
    """narrow."""
    return {"y": t(q["table"]).narrow(0, q.attr["start"], q.attr["count"])}


def rope(q: Question) -> dict:
    """Complex numbers: each pair times exp(i·angle)."""
    r = rotary_dim_of(q)
    inv, magnitude = frequencies(q, r)
    x = t(q["x"])
    turned, rest = x[..., :r], x[..., r:]
    half = q.attr["style"] == "half"
    shape = (*x.shape[:-1], 2, r // 2) if half else (*x.shape[:-1], r // 2, 2)
    pairs = turned.reshape(shape)
    pairs = (pairs.transpose(-1, -2) if half else pairs).contiguous()
    angle = torch.outer(t(q["positions"]).double(), t(inv))[:, None]
    turn = torch.polar(torch.full_like(angle, magnitude), angle)
    out = torch.view_as_real(torch.view_as_complex(pairs) * turn)
    out = (out.transpose(-1, -2) if half else out).reshape(turned.shape)
    return {"y": torch.cat([out, rest], -1)}


def dense(q: Question, x, k, v, of, position):
    """Masked attention over the whole cache: x [n,q,d], k, v [s,c,k,d]; sinks as a column.

    A ring's row holds the newest position of its residue; hidden rows are removed before the
    product, so that NaN in them is not read.
    """
    n, heads, d = x.shape
    group, c = heads // k.shape[2], k.shape[1]
    scale = q.attr["scale"] or d**-0.5
    out = torch.empty_like(x)
    rows = torch.arange(c)
    for i in range(n):
        at = int(position[i])
        held = rows + (torch.div(at - rows, c, rounding_mode="floor") * c if q.attr["ring"] else 0)
        seen = (held >= 0) & (held <= at)
        if q.attr["window"]:
            seen &= at - held < q.attr["window"]
        keys = k[int(of[i])][seen].repeat_interleave(group, 1)
        values = v[int(of[i])][seen].repeat_interleave(group, 1)
        scores = scale * torch.einsum("hd,thd->ht", x[i], keys)
        if q.has("sinks"):
            scores = torch.cat([scores, t(q["sinks"])[:, None]], -1)
        p = torch.softmax(scores, -1)[:, : len(keys)]
        out[i] = torch.einsum("ht,thd->hd", p, values)
    return out


def sequence_places(q: Question, n: int, start: int | None):
    """Sequence and position of each row: told, or by one-hot sequences and a running count."""
    of = t(q["sequences"]) if q.has("sequences") else torch.zeros(n, dtype=torch.int64)
    if q.has("positions"):
        return of, t(q["positions"])
    hot = F.one_hot(of)
    return of, start + (hot.cumsum(0) - hot).gather(1, of[:, None])[:, 0]


def rank4(q: Question, name: str):
    """A cache as [s,c,k,d]."""
    cache = t(q[name])
    return cache[None] if cache.ndim == 3 else cache


def attention_prefill(q: Question) -> dict:
    """Masked attention with repeated heads."""
    of, position = sequence_places(q, q.axes["n"], q.attr["start"])
    return {"y": dense(q, t(q["q"]), rank4(q, "k"), rank4(q, "v"), of, position)}


def into(q: Question, name: str, rows, of, position):
    """A cache [s,c,k,d] with rows written by index, rounded by torch to its type."""
    kind = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
    cache = rank4(q, name).clone()
    at = position % cache.shape[1] if q.attr["ring"] else position
    for i, (s, a) in enumerate(zip(of.tolist(), at.tolist())):
        cache[s, a] = rows[i].to(kind[q.stored(name)]).double()
    return cache


def kv_append(q: Question) -> dict:
    """Indexed writes."""
    of, position = sequence_places(q, q.axes["n"], q.attr["start"])
    k, v = (into(q, f"{n}_cache", t(q[n]), of, position) for n in ("k", "v"))
    return {"k_cache": k.reshape(q["k_cache"].shape), "v_cache": v.reshape(q["v_cache"].shape)}


def attention_decode(q: Question) -> dict:
    """kv_append, then rows of masked attention, each of its own sequence."""
    of, position = sequence_places(q, q.axes.get("n", 1), q.attr["position"])
    x, k, v = (t(q[name]).reshape(-1, *q[name].shape[-2:]) for name in ("q", "k_new", "v_new"))
    k, v = into(q, "k_cache", k, of, position), into(q, "v_cache", v, of, position)
    y = dense(q, x, k, v, of, position).reshape(q["q"].shape)
    return {"y": y, **{n: c.reshape(q[n].shape) for n, c in (("k_cache", k), ("v_cache", v))}}


def moe_router(q: Question) -> dict:
    """F.linear, a stable sort, softmax of the first."""
    logits = F.linear(t(q["x"]), t(q["w"]), t(q["b"]) if q.has("b") else None)
    ordered, ids = torch.sort(logits, dim=-1, descending=True, stable=True)
    top_k = q.attr["top_k"]
    return {"ids": ids[:, :top_k], "weights": torch.softmax(ordered[:, :top_k], -1)}


def moe_ffn(q: Question) -> dict:
    """Batched products of each row's own experts."""
    x, ids, limit = t(q["x"]), t(q["ids"]), q.attr["limit"]

    def through(name: str, bias: str, rows):
        y = torch.einsum("nti,ntoi->nto", rows, t(q[name])[ids])
        return y + t(q[bias])[ids] if q.has(bias) else y

    rows = x[:, None].expand(-1, ids.shape[1], -1)
    gate = through("w_gate", "b_gate", rows).clamp(max=limit)
    up = through("w_up", "b_up", rows).clamp(-limit, limit)
    hidden = gate * torch.sigmoid(q.attr["alpha"] * gate) * (up + 1)
    y = through("w_down", "b_down", hidden)
    return {"y": (t(q["weights"])[..., None] * y).sum(1)}


def argmax(q: Question) -> dict:
    """The first of a stable sort."""
    return {"ids": torch.sort(t(q["x"]), dim=-1, descending=True, stable=True)[1][:, 0]}


def kept(q: Question, mask):
    """Logits where the mask holds, by position in a stable sort; -inf elsewhere."""
    logits = t(q["logits"])
    order = torch.sort(logits, descending=True, stable=True)[1]
    out = torch.full_like(logits, -torch.inf)
    chosen = order[mask(logits[order])]
    out[chosen] = logits[chosen]
    return {"logits": out}


def temperature(q: Question) -> dict:
    """torch.div, or the first of a stable sort."""
    if q.attr["value"] == 0:
        return kept(q, lambda ordered: torch.arange(len(ordered)) < 1)
    return {"logits": torch.div(t(q["logits"]), q.attr["value"])}


def top_k(q: Question) -> dict:
    """The first k of a stable sort."""
    k = q.attr["value"] or q.axes["v"]
    return kept(q, lambda ordered: torch.arange(len(ordered)) < k)


def top_p(q: Question) -> dict:
    """As transformers: a token stays while the sum before it is below p."""
    p = q.attr["value"]

    def mask(ordered):
        shares = torch.softmax(ordered, -1)
        before = shares.cumsum(-1) - shares
        return (before < p) | (torch.arange(len(ordered)) == 0) if p < 1 else before >= 0

    return kept(q, mask)


def min_p(q: Question) -> dict:
    """Probabilities of at least p times the largest."""
    p = q.attr["value"]
    return kept(q, lambda ordered: ordered.exp() >= 0 if p == 0 else
                ordered - ordered[0] >= torch.log(torch.tensor(p, dtype=torch.float64)))


def repetition_penalty(q: Question) -> dict:
    """where of quotient and product; bits by shifts of a 64-bit word."""
    logits, value = t(q["logits"]), q.attr["value"]
    shifted = t(q["seen"])[:, None] >> torch.arange(32)
    seen = (shifted & 1).bool().reshape(-1)[: len(logits)]
    changed = torch.where(logits > 0, logits / value, logits * value)
    return {"logits": torch.where(seen, changed, logits)}


def multiply(a, b):
    """High and low word of a product of 32-bit words, by 16-bit halves, as int64."""
    low = a * (b & 0xFFFF)
    high = a * (b >> 16) + (low >> 16)
    return high >> 16, (high & 0xFFFF) << 16 | low & 0xFFFF


def sample(q: Question) -> dict:
    """Ten rounds on tensors of words; the id by searchsorted."""
    seed, index = q.attr["seed"], q.attr["index"]
    key = torch.tensor([seed & 0xFFFFFFFF, seed >> 32])
    words = torch.tensor([index & 0xFFFFFFFF, index >> 32, 0, 0])
    factors = torch.tensor([0xD2511F53, 0xCD9E8D57])
    for i in range(10):
        round_key = (key + i * torch.tensor([0x9E3779B9, 0xBB67AE85])) & 0xFFFFFFFF
        high, low = multiply(words[0::2], factors)
        mixed = high.flip(0) ^ words[1::2] ^ round_key
        words = torch.stack([mixed, low.flip(0)], -1).flatten()
    running = torch.softmax(t(q["logits"]), -1).cumsum(-1)
    target = running[-1:] * ((words[0] >> 8).double() * 2.0**-24)
    return {"id": torch.searchsorted(running, target, right=True)}


def advance(q: Question) -> dict:
    """The set of seen ids as a mask of bits."""
    i = int(q["id"][0])
    words = t(q["seen"].astype(np.int64)) & 0xFFFFFFFF
    mask = torch.zeros_like(words)
    mask[i >> 5] = 1 << (i & 31)
    seen = (words | mask).numpy().astype(np.uint32).view(np.int32)
    up = {n: t(q[n]) + 1 for n in ("length", "draws")}
    return {"token": t(q["id"]), "position": t(q["length"]), **up, "seen": t(seen)}


def dequantize(q: Question) -> dict:
    """gguf-py's own decoder; where OCP and ggml differ (scale byte 255) as OCP says."""
    raw = q.tensors["w"]
    kind = gguf.GGMLQuantizationType[raw.stored.upper()]
    octets = np.ascontiguousarray(raw.bits).view(np.uint8)
    with np.errstate(all="ignore"):
        y = gguf.quants.dequantize(octets, kind).astype(np.float64)
    y = y.reshape(raw.shape)
    if raw.stored == "mxfp4":
        scale = np.ascontiguousarray(raw.bits).reshape(-1, 17)[:, :1]
        y = np.where(np.repeat(scale, 32, 1).reshape(raw.shape) == 255, np.nan, y)
    return {"y": y}


WITNESSES = {
    f.__name__: f
    for f in (
        advance,
        argmax,
        attention_decode,
        attention_prefill,
        embedding,
        ffn_gelu,
        ffn_swiglu,
        gelu,
        kv_append,
        layernorm,
        layernorm_residual,
        linear,
        min_p,
        moe_ffn,
        moe_router,
        positional,
        positional_extract,
        repetition_penalty,
        residual,
        rmsnorm,
        rmsnorm_residual,
        rope,
        rows,
        sample,
        softmax,
        swiglu,
        swiglu_clamped,
        temperature,
        top_k,
        top_p,
    )
}


def second(q: Question, answer: Answer) -> list[dict]:
    """The second witness's entry, or nothing where it or the formula is not there.

    `worst` is the largest difference over the largest value of the result; ids must be equal
    where they are decided.
    """
    if q.op == "dequantize" and gguf is not None:
        theirs = dequantize(q)
        return [{"name": "gguf", "version": version("gguf"), "worst": agree(theirs, answer, "f32")}]
    if torch is None or q.op not in WITNESSES:
        return []
    theirs = {name: y.numpy() for name, y in WITNESSES[q.op](q).items()}
    return [{"name": "torch", "version": torch.__version__, "worst": agree(theirs, answer)}]


def agree(theirs: dict[str, np.ndarray], answer: Answer, stored: str = "f64") -> float:
    """The largest difference, as a share of the largest value; an error beyond AGREE.

    Our values are first rounded to `stored`, where the witness cannot hold more.
    """
    worst = 0.0
    for name, other in theirs.items():
        result = answer.results[name]
        ours = widen(narrow(np.asarray(result.values), stored), stored)
        other = other.astype(np.float64)
        decided = np.ones(ours.shape, bool) if result.decided is None else result.decided
        same = (ours == other) | (np.isnan(ours) & np.isnan(other)) | ~decided.astype(bool)
        scale = np.abs(ours[np.isfinite(ours)]).max(initial=1e-300)
        with np.errstate(invalid="ignore", over="ignore"):
            gap = np.where(same, 0.0, np.abs(ours - other))
        worst = max(worst, float(np.nan_to_num(gap, nan=np.inf).max() / scale))
    if not worst <= AGREE:
        raise ArithmeticError(f"the second witness and the formula differ by {worst}")
    return worst
