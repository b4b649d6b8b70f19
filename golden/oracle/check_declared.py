"""Part of check.py: declared roundings. Engines that round at one place alone, each number once by
numpy, stay within what the place adds, element by element and as a whole. What it adds to the whole
of a product is less than a factor of 1.002, in f16 and in bf16.
"""

import numpy as np

import blocks
from activations import gelu, sigmoid, silu
from declared import INT8
from norms import layernorm, rmsnorm, softmax
from positions import pairs
from slack import UNIT
from stored import rounded
from wire import Raw

UNIT_OF = {"f16": 2.0**-11, "bf16": 2.0**-8}
SMALLEST = {"f16": 2.0**-14, "bf16": 2.0**-126}


def int8(x: np.ndarray, block: int) -> np.ndarray:
    """Rows quantised to whole numbers of at most 127 and back, as ggml does it."""
    blocks = x.reshape(*x.shape[:-1], -1, block)
    scale = np.abs(blocks).max(-1, keepdims=True) / 127
    return (np.round(blocks / np.where(scale == 0, 1, scale)) * scale).reshape(x.shape)


class Engine:
    """Rounds numbers at one place only."""

    def __init__(self, place: str, stored: str):
        self.place, self.stored = place, stored

    def __call__(self, place: str, values: np.ndarray) -> np.ndarray:
        """`values` as the engine goes on with them."""
        if place == "x" and self.place in INT8:
            return int8(values, INT8[self.place])
        return rounded(values, self.stored) if place == self.place else values


def within(place: str, stored: str, honest, got, out: dict, name: str = "y") -> tuple[float, float]:
    """The shares of both limits that an answer uses: of its worst element, and of the whole."""
    u = 1.0 if place in INT8 else UNIT_OF[stored]
    # below its smallest normal number a type rounds as coarsely as at it
    least = 0.0 if place in INT8 else SMALLEST[stored]
    bound = u * np.maximum(out[f"{name}.declared.{place}"].bits / UNIT, least)
    gain = 4 * u * out[f"{name}.gain.{place}"].bits[0]
    # curvature: a rounding of 2^-8 is not quite small
    error = np.abs(got - honest)
    element = float((error / (1.1 * bound + 1e-12 * np.abs(honest) + 1e-300)).max())
    whole = float(abs(((got - honest) * honest).sum()) / (1.1 * gain + 1e-12 * (honest**2).sum()))
    return element, whole


def linear(r: Engine, t: dict) -> np.ndarray:
    """A product."""
    return r("x", t["x"]) @ r("weights", t["w"]).T + t["bias"]


def ffn_swiglu(r: Engine, t: dict) -> np.ndarray:
    """Each step of the block by itself, as an engine of loose steps computes it."""
    x = r("x", t["x"])
    gate = r("activation", x @ r("weights", t["w_gate"]).T)
    up = r("activation", x @ r("weights", t["w_up"]).T)
    hidden = r("x", r("activation", r("activation", silu(gate)) * up))
    return r("activation", hidden @ r("weights", t["w_down"]).T) + t["residual"]


def ffn_gelu(r: Engine, t: dict) -> np.ndarray:
    """Product, GELU, product."""
    up = r("activation", r("x", t["x"]) @ r("weights", t["w_up"]).T + t["b_up"])
    hidden = r("x", r("activation", gelu(up)))
    return hidden @ r("weights", t["w_down"]).T + t["b_down"]


def clamped(r: Engine, gate, up) -> np.ndarray:
    """gpt-oss's activation in loose steps."""
    gate, up = np.minimum(gate, 7.0), np.clip(up, -7.0, 7.0)
    alpha = float(np.float32(1.702))
    s = r("activation", 1 / (1 + np.exp(-r("activation", alpha * gate))))
    return r("activation", up + 1) * r("activation", gate * s)


def swiglu_clamped(r: Engine, t: dict) -> np.ndarray:
    """The activation alone."""
    return clamped(r, t["gate"], t["up"])


def swiglu(r: Engine, t: dict) -> np.ndarray:
    """The sigmoid, the gate times it."""
    return r("activation", t["gate"] * r("activation", sigmoid(t["gate"]))) * t["up"]


def gelu_tanh(r: Engine, t: dict) -> np.ndarray:
    """Cube, product, sum, product with √(2/π), tanh, 1 + that: as transformers' NewGELU does it."""
    x = t["x"]
    inside = r("activation", x + r("activation", 0.044715 * r("activation", x**3)))
    u = r("activation", np.sqrt(2 / np.pi) * inside)
    return x / 2 * r("activation", 1 + r("activation", np.tanh(u)))


def attention_decode(r: Engine, t: dict) -> np.ndarray:
    """One row that sees the cache and itself, in the cache's last row."""
    k, v = (np.concatenate([t[f"{n}_cache"][:-1], t[f"{n}_new"][None]]) for n in ("k", "v"))
    one = {"q": t["q"][None].repeat(len(k), 0), "k": k, "v": v}
    return attention(r, one)[-1]


def moe_ffn(r: Engine, t: dict) -> np.ndarray:
    """Experts one after the other, added up in steps."""
    y = np.zeros((len(t["x"]), t["w_down"].shape[1]))
    for i, x in enumerate(r("x", t["x"])):
        for e, share in zip(t["ids"][i], t["weights"][i]):
            gate = r("activation", r("weights", t["w_gate"][e]) @ x)
            up = r("activation", r("weights", t["w_up"][e]) @ x)
            hidden = r("x", r("activation", clamped(r, gate, up)))
            part = r("activation", r("weights", t["w_down"][e]) @ hidden)
            y[i] = r("activation", y[i] + r("activation", r("activation", share) * part))
    return y


def moe_router(r: Engine, t: dict) -> np.ndarray:
    """The weights of the chosen; which are chosen is asked of wide gaps only."""
    logits = r("logits", r("x", t["x"]) @ r("weights", t["w"]).T)
    chosen = np.take_along_axis(logits, np.argsort(-logits, -1, kind="stable")[:, :2], -1)
    return r("p", softmax(chosen))


def rope(r: Engine, t: dict) -> np.ndarray:
    """Angles in f64, cosine and sine rounded, products rounded."""
    y, x = np.array(t["x"]), t["x"]
    d = x.shape[-1]
    angle = t["positions"][:, None] * 10000.0 ** (-np.arange(0, d, 2) / d)
    c, s = (r("rope", f(angle))[:, None, :] for f in (np.cos, np.sin))
    (x1, x2), (y1, y2) = pairs(x, d, "half"), pairs(y, d, "half")
    y1[...] = r("rope", x1 * c) - r("rope", x2 * s)
    y2[...] = r("rope", x2 * c) + r("rope", x1 * s)
    return y


def attention(r: Engine, t: dict) -> np.ndarray:
    """Scores, their scale, weights: all rows see all earlier ones."""
    n, heads, d = t["q"].shape
    y = np.zeros((n, heads, d))
    for i in range(n):
        for h in range(heads):
            scores = r("logits", t["k"][: i + 1, 0] @ t["q"][i, h])
            y[i, h] = r("p", softmax(r("logits", scores / np.sqrt(d)))) @ t["v"][: i + 1, 0]
    return y


def questions(rng) -> list:
    """Op, engine, operands, attributes, places; operands are exact in f32."""
    def normal(*shape, mean: float = 0.0, std: float = 1.0):
        return rounded(rng.normal(mean, std, shape), "f32")

    x, g = normal(6, 256), normal(256, mean=1, std=0.2)
    ffn = {"x": x, "w_up": normal(96, 256, std=0.1), "w_down": normal(256, 96, std=0.1)}
    experts = {
        "x": x, "ids": rng.permuted(np.tile(np.arange(3), (6, 1)), axis=1)[:, :2],
        "weights": normal(6, 2, mean=0.5, std=0.1), "w_gate": normal(3, 96, 256, std=0.1),
        "w_up": normal(3, 96, 256, std=0.1), "w_down": normal(3, 256, 96, std=0.1),
    }
    heads = {"q": normal(9, 4, 32), "k": normal(9, 1, 32), "v": normal(9, 1, 32)}
    between = ("weights", "x", "activation")
    return [
        ("linear", linear, {"x": x, "w": normal(64, 256), "bias": normal(64)}, {},
         ("weights", "x")),
        ("ffn_swiglu", ffn_swiglu, {**ffn, "w_gate": normal(96, 256, std=0.1),
                                    "residual": normal(6, 256)}, {}, between),
        ("ffn_gelu", ffn_gelu, {**ffn, "b_up": normal(96), "b_down": normal(256)}, {}, between),
        ("moe_ffn", moe_ffn, experts, {}, between),
        ("moe_router", moe_router, {"x": x, "w": spread(rng)}, {"top_k": 2},
         ("weights", "x", "logits", "p")),
        ("swiglu_clamped", swiglu_clamped, {"gate": x, "up": normal(6, 256)}, {},
         ("activation",)),
        ("swiglu", swiglu, {"gate": x, "up": normal(6, 256)}, {}, ("activation",)),
        ("gelu", gelu_tanh, {"x": x}, {"approximate": "tanh"}, ("activation",)),
        ("embedding", lambda r, t: r("weights", t["table"])[t["ids"]],
         {"ids": np.array([2, 0, 2]), "table": x}, {}, ("weights",)),
        ("attention_decode", attention_decode,
         {"q": normal(4, 32), "k_new": normal(1, 32), "v_new": normal(1, 32),
          "k_cache": normal(9, 1, 32), "v_cache": normal(9, 1, 32)}, {"position": 8},
         ("p", "logits")),
        ("rmsnorm", lambda r, t: r("norm", rmsnorm(t["x"], 1.0, 1e-5)) * t["gamma"],
         {"x": x, "gamma": g}, {"eps": 1e-5}, ("norm",)),
        ("layernorm", layernorm_of,
         {"x": x, "gamma": g, "beta": normal(256)}, {"eps": 1e-5}, ("norm",)),
        ("softmax", lambda r, t: softmax(r("logits", t["x"])), {"x": x}, {}, ("logits",)),
        ("rope", rope, {"x": normal(6, 4, 64), "positions": np.arange(6) * 7},
         {"style": "half", "theta": 10000.0}, ("rope",)),
        ("attention_prefill", attention, heads, {}, ("p", "logits")),
    ]


def layernorm_of(r: Engine, t: dict) -> np.ndarray:
    """Normalised, then scaled and moved."""
    return r("norm", layernorm(t["x"], 1.0, 0.0, 1e-5)) * t["gamma"] + t["beta"]


def spread(rng) -> np.ndarray:
    """A router whose logits lie far apart: rows of rising size in one direction."""
    rows = np.outer(np.arange(5) - 2.0, np.ones(256)) / 8
    return rounded(rows + rng.normal(0, 0.01, rows.shape), "f32")


def of_blocks(rng, random_blocks) -> list:
    """As `questions`, with weights of block types: activations in int8 too."""
    x = rounded(rng.normal(0, 1, (6, 256)), "f32")
    linear_of = {"x": x, "w": random_blocks("q4_k", 64, 1), "bias": np.zeros(64)}
    names = ("w_gate", "w_up", "w_down")
    ffn = {"x": x / 64, **{name: random_blocks("q8_0", 256, 8) for name in names},
           "residual": np.zeros((6, 256))}
    return [("linear", linear, linear_of, {}, ("weights", *INT8)),
            ("ffn_swiglu", ffn_swiglu, ffn, {}, ("weights", *INT8))]


def check(ask, tensor, random_blocks, rng) -> None:
    """`ask`, `tensor` and `random_blocks` are those of check.py."""
    for op, engine, operands, attributes, places in questions(rng) + of_blocks(rng, random_blocks):
        ids = ("ids", "positions")
        tensors = {k: v if isinstance(v, Raw) else tensor(v, "i32" if k in ids else "f32")
                   for k, v in operands.items()}
        operands = {k: sum(blocks.parts(v.bits, v.stored, v.shape)) if isinstance(v, Raw) else v
                    for k, v in operands.items()}
        head, out = ask(op, tensors, attributes)
        assert "ok" in head, head
        name = "weights" if op == "moe_router" else "y"
        exact = out[name].bits
        for place in places:
            for stored in UNIT_OF:
                got = engine(Engine(place, stored), operands)
                element, whole = within(place, stored, exact, got, out, name)
                assert 0.01 < element <= 1, (op, place, stored, element)
                assert whole <= 1, (op, place, stored, whole)
                if op == "linear" and place == "weights":
                    gain = 4 * UNIT_OF[stored] * out["y.gain.weights"].bits[0]
                    assert gain < 0.002 * (exact**2).sum(), (stored, gain)
