"""The forward pass of GPT-2, Llama and Qwen2 in float64: numpy, plain formulas, no engine in sight.

Written from the papers: Radford et al. 2019 (GPT-2: pre-norm, learned positions, tanh GELU),
Touvron et al. 2023 (Llama: RMSNorm, SwiGLU, rotary positions), Dubey et al. 2024 (Llama 3: scaled
frequencies), Yang et al. 2024 (Qwen2: biases on q, k, v). Each step is one method, so that a wrong
engine is this one with one method replaced (wrong_models.py).

Widths in comments: n rows of this call, t rows in all, h hidden, v vocabulary.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from activations import gelu_of, sigmoid
from checkpoint import Model


@dataclass
class Cache:
    """What a text leaves behind: keys, rotated, and values of each layer, [t, kv heads, size]."""

    k: list[np.ndarray] = field(default_factory=list)
    v: list[np.ndarray] = field(default_factory=list)

    def rows(self) -> int:
        """How many tokens it holds."""
        return len(self.k[0]) if self.k else 0

    def cut(self, rows: int) -> "Cache":
        """The cache as it was when it held so many."""
        return Cache([k[:rows] for k in self.k], [v[:rows] for v in self.v])

    def append(self, layer: int, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Adds rows to a layer; gives all of its rows."""
        if layer == len(self.k):
            self.k.append(k)
            self.v.append(v)
        else:
            self.k[layer] = np.concatenate([self.k[layer], k])
            self.v[layer] = np.concatenate([self.v[layer], v])
        return self.k[layer], self.v[layer]


class Reference:
    """A model that answers with the logits of every row, [n, v]."""

    def __init__(self, model: Model):
        self.config = model.config
        self.weights = model.weights
        self.slots: dict[str, np.ndarray] | None = None

    def weight(self, name: str) -> np.ndarray:
        """A weight in float64."""
        return np.asarray(self.weights[name], np.float64)

    def bias(self, name: str) -> np.ndarray | float:
        """The bias of a product or norm, 0 where the model has none."""
        return self.weight(f"{name}.bias") if f"{name}.bias" in self.weights else 0.0

    def keep(self, name: str, x: np.ndarray) -> np.ndarray:
        """Notes a slot, rows flattened, if somebody asked; gives it back."""
        if self.slots is not None:
            self.slots[name] = x.reshape(len(x), -1)
        return x

    # --- what stands before the blocks

    def positions(self, first: int, n: int) -> np.ndarray:
        """Positions of n rows, the first of which has `first` rows before it."""
        return np.arange(first, first + n)

    def embedding(self, ids: np.ndarray) -> np.ndarray:
        """Rows of the embedding, [n, h]."""
        return np.asarray(self.weights["embed.weight"][ids], np.float64)

    def learned(self, at: np.ndarray) -> np.ndarray:
        """Rows of the learned positions, [n, h]."""
        return self.weight("positions.weight")[at]

    def embed(self, ids: np.ndarray, at: np.ndarray) -> np.ndarray:
        """What enters the first block, [n, h]."""
        x = self.embedding(ids)
        if self.config.kind == "gpt2":
            x = self.keep("embed.tokens", x) + self.learned(at)
        return self.keep("embed", x)

    # --- pieces of a block

    def product(self, x: np.ndarray, name: str) -> np.ndarray:
        """x·wᵀ, [n, in] → [n, out]."""
        return x @ self.weight(f"{name}.weight").T

    def linear(self, x: np.ndarray, name: str) -> np.ndarray:
        """x·wᵀ + bias."""
        return self.product(x, name) + self.bias(name)

    def eps(self) -> float:
        """What keeps a norm from dividing by nothing."""
        return self.config.eps

    def variance(self, x: np.ndarray) -> np.ndarray:
        """The mean square of what is already centred, biased, [n, 1]."""
        return (x * x).mean(-1, keepdims=True)

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        """LayerNorm for GPT-2, RMSNorm for the others."""
        if self.config.kind == "gpt2":
            x = x - x.mean(-1, keepdims=True)
        y = x / np.sqrt(self.variance(x) + self.eps()) * self.weight(f"{name}.weight")
        return y + self.bias(name)

    def exponents(self) -> np.ndarray:
        """2i/d for each rotated pair i."""
        return np.arange(0, self.rotary(), 2) / self.rotary()

    def theta(self) -> float:
        """The base of the frequencies."""
        return self.config.theta

    def rotary(self) -> int:
        """How many elements of a head are rotated."""
        return self.config.rotary

    def frequencies(self) -> np.ndarray:
        """theta^(-2i/d), scaled as Llama 3 does it: by 1/factor where a wave is long."""
        inv = self.theta() ** -self.exponents()
        if self.config.divisors is not None:
            return inv / np.asarray(self.config.divisors, np.float64)[: len(inv)]
        s = self.config.scaling
        if s is None:
            return inv
        low, high, by = s["low_freq_factor"], s["high_freq_factor"], s["factor"]
        turns = s["original_max_position_embeddings"] * inv / (2 * math.pi)
        kept = np.clip((turns - low) / (high - low), 0, 1)
        return kept * inv + (1 - kept) * inv / by

    def angles(self, at: np.ndarray) -> np.ndarray:
        """Position times frequency, [n, rotated pairs]."""
        return at[:, None] * self.frequencies()

    def pairs(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The two members of each rotated pair, as views: the halves of the rotated part."""
        r = self.rotary()
        return x[..., : r // 2], x[..., r // 2 : r]

    def rotate(self, x: np.ndarray, at: np.ndarray) -> np.ndarray:
        """x [n, heads, size], each pair turned by its angle (Su et al. 2021, eq. 34)."""
        c, s = (f(self.angles(at))[:, None, :] for f in (np.cos, np.sin))
        y = x.copy()
        (x1, x2), (y1, y2) = self.pairs(x), self.pairs(y)
        y1[...], y2[...] = x1 * c - x2 * s, x2 * c + x1 * s
        return y

    def rotate_query(self, q: np.ndarray, at: np.ndarray) -> np.ndarray:
        """The rotation of queries: the same as that of keys."""
        return self.rotate(q, at)

    def seen(self, first: int, n: int, window: int) -> np.ndarray:
        """How often each row of the cache counts for each new one, [n, t]: 1 or 0."""
        gap = (first + np.arange(n))[:, None] - np.arange(first + n)
        return ((gap >= 0) & ((gap < window) if window else True)).astype(float)

    def scale(self) -> float:
        """What scores are multiplied by."""
        return 1 / math.sqrt(self.config.head_size)

    def shared(self) -> np.ndarray:
        """The key head of each query head."""
        return np.arange(self.config.heads) // (self.config.heads // self.config.kv_heads)

    def attend(self, q, k, v, counts: np.ndarray, layer: int) -> np.ndarray:
        """softmax(scale·q·kᵀ)·v: q [n, heads, size], k, v [t, kv heads, size], counts [n, t]."""
        of = self.shared()
        scores = self.scale() * q.transpose(1, 0, 2) @ k[:, of].transpose(1, 2, 0)
        with np.errstate(divide="ignore"):
            scores = scores + np.log(counts)
        m = scores.max(-1, keepdims=True)
        sinks = self.weights.get(f"layer.{layer}.attn.sinks")
        rest = 0.0
        if sinks is not None:  # a score with no value: it takes its share and gives nothing
            m = np.maximum(m, np.asarray(sinks, np.float64)[:, None, None])
            rest = np.exp(sinks[:, None, None] - m)
        e = np.exp(scores - m)
        p = e / (e.sum(-1, keepdims=True) + rest)
        return (p @ v[:, of].transpose(1, 0, 2)).transpose(1, 0, 2)

    def merge(self, y: np.ndarray) -> np.ndarray:
        """Heads side by side, [n, heads·size]."""
        return y.reshape(len(y), -1)

    def residual(self, x: np.ndarray, normed: np.ndarray, y: np.ndarray) -> np.ndarray:
        """What goes on beside a half block: its input, not the normed one, plus its result."""
        return x + y

    def qkv(self, x: np.ndarray, name: str) -> list[np.ndarray]:
        """Queries, keys and values of normed rows, each [n, heads, size]."""
        size = self.config.head_size
        rows = (self.keep(f"{name}.{part}", self.linear(x, f"{name}.{part}")) for part in "qkv")
        return [y.reshape(len(y), -1, size) for y in rows]

    def attention(self, x, layer: int, first: int, at: np.ndarray, cache: Cache) -> np.ndarray:
        """The first half of a block, [n, h]; the text has `first` rows before these."""
        name = f"layer.{layer}.attn"
        normed = self.keep(f"{name}.norm", self.norm(x, f"{name}.norm"))
        q, k, v = self.qkv(normed, name)
        if self.config.kind != "gpt2":
            q = self.keep(f"{name}.q_rope", self.rotate_query(q, at))
            k = self.keep(f"{name}.k_rope", self.rotate(k, at))
        k, v = cache.append(layer, k, v)
        counts = self.seen(first, len(x), self.config.window[layer])
        y = self.keep(f"{name}.out", self.merge(self.attend(q, k, v, counts, layer)))
        y = self.keep(f"{name}.o", self.linear(y, f"{name}.o"))
        return self.keep(f"{name}.sum", self.residual(x, normed, y))

    def gelu(self, x: np.ndarray) -> np.ndarray:
        """GPT-2's activation: by tanh, unless its configuration says otherwise."""
        return gelu_of(x, self.config.gelu)

    def gated(self, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        """SwiGLU (Shazeer 2020): silu(gate)·up."""
        return gate * sigmoid(gate) * up

    def feed_forward(self, x: np.ndarray, layer: int) -> np.ndarray:
        """The second half of a block, [n, h]."""
        name = f"layer.{layer}.ffn"
        normed = self.keep(f"{name}.norm", self.norm(x, f"{name}.norm"))
        if self.config.kind == "gpt2":
            y = self.gelu(self.keep(f"{name}.up", self.linear(normed, f"{name}.up")))
        else:
            gate = self.keep(f"{name}.gate", self.linear(normed, f"{name}.gate"))
            y = self.gated(gate, self.keep(f"{name}.up", self.linear(normed, f"{name}.up")))
        y = self.linear(self.keep(f"{name}.act", y), f"{name}.down")
        y = self.residual(x, normed, self.keep(f"{name}.down", y))
        return self.keep(f"layer.{layer}.out", y)

    # --- the whole

    def layers(self) -> int:
        """How many blocks there are."""
        return self.config.layers

    def head(self, x: np.ndarray) -> np.ndarray:
        """Logits of normed rows, [n, v]."""
        return self.product(x, "head")

    def forward(self, ids, cache: Cache | None = None, slots: dict | None = None) -> np.ndarray:
        """Logits [n, v] of ids [n] after what `cache` holds; grows it, fills `slots`."""
        self.slots, cache = slots, Cache() if cache is None else cache
        ids = np.asarray(ids, dtype=np.int64)
        first = cache.rows()
        at = self.positions(first, len(ids))
        x = self.embed(ids, at)
        for layer in range(self.layers()):
            x = self.feed_forward(self.attention(x, layer, first, at, cache), layer)
        x = self.keep("final.norm", self.norm(x, "final.norm"))
        return self.keep("logits", self.head(x))
