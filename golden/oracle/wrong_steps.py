"""The replaced steps of wrong forward passes: what wrong_models.py lists by name.

Each takes the right method, bound, then the model and the method's own arguments.
"""

from collections.abc import Callable

import numpy as np

from checkpoint import Config
from reference import Cache
from stored import rounded


def gives(value) -> Callable:
    """A method that gives `value(right, model)` whatever its arguments are."""
    return lambda right, model, *given: value(right, model)


def after(then: Callable) -> Callable:
    """A method whose right result goes through `then`."""
    return lambda right, model, *given: then(right(*given))


# --- positions


def learned_at(step: int) -> Callable:
    """Learned positions that many rows further, held inside the table."""

    def learned(right, model, at):
        return right(np.clip(at + step, 0, len(model.weights["positions.weight"]) - 1))

    return learned


def moved(change: Callable) -> dict[str, Callable]:
    """Both the learned and the rotary position changed by `change`."""
    return {"positions": after(change)}


def decoded_at_zero(right, model, first, n):
    """The prompt is right; every token of a later call is at position 0."""
    return right(0, n) if first == 0 else np.zeros(n, dtype=np.int64)


def interleaved(right, model, x):
    """Neighbours for halves."""
    r = model.rotary()
    return x[..., 0:r:2], x[..., 1:r:2]


def half_of_it(right, model):
    """Half of what should be rotated, a whole number of pairs."""
    return right() // 4 * 2


def unscaled(right, model):
    """The frequencies before their scaling."""
    return model.theta() ** -model.exponents()


def in_order(order: Callable[[int], np.ndarray]) -> Callable:
    """A product whose heads have their rows in another order."""

    def wrong(right, model, x, name):
        size = model.config.head_size
        y = right(x, name)
        return y.reshape(len(y), -1, size)[..., order(size)].reshape(y.shape)

    return wrong


def as_pairs(size: int) -> np.ndarray:
    """Halves to neighbouring pairs: rows as a llama GGUF has them."""
    return np.arange(size).reshape(2, -1).T.ravel()


def as_halves(size: int) -> np.ndarray:
    """Neighbouring pairs to halves, of rows that are halves already."""
    return np.arange(size).reshape(-1, 2).T.ravel()


# --- attention and its cache


def one_early(right, model, first, n, window):
    """The row itself is not seen yet, but for the first, which has no other."""
    seen = right(first, n, window)
    for i in range(n):
        if first + i > 0:
            seen[i, first + i] = 0
    return seen


def only_itself(right, model, first, n, window):
    """Each row alone."""
    return np.eye(n, first + n, first)


def one_too_far(right, model, first, n, window):
    """Each row sees the next one, too, where there is one."""
    ahead = np.eye(n, first + n, first + 1)
    return right(first, n, window) + ahead


def all_rows(right, model, first, n, window):
    """No mask: a row of a prompt sees the rest of it."""
    return np.ones((n, first + n))


def decoded_alone(right, model, first, n, window):
    """The prompt is right; a generated token sees itself only."""
    return right(first, n, window) if first == 0 else np.eye(n, first + n, first)


def not_cached(right, model, first, n, window):
    """A generated token sees the prompt and itself: those before it were never written."""
    seen = right(first, n, window)
    if first == 0:
        model.prompt = n
    else:
        seen[:, model.prompt : first] = 0
    return seen


def overwritten(right, model, first, n, window):
    """The newest row stands in the slot before its own, too: it counts twice, that one never."""
    seen = right(first, n, window)
    for i in range(n):
        at = first + i
        if at > 0 and seen[i, at - 1]:
            seen[i, at - 1 : at + 1] = 0, 2
    return seen


def with_row(q, k, v, counts, more_k, more_v):
    """Arguments of attend with one more row that everybody sees."""
    seen = np.concatenate([np.ones((len(counts), 1)), counts], 1)
    return q, np.concatenate([more_k[None], k]), np.concatenate([more_v[None], v]), seen


def one_late(right, model, q, k, v, counts, layer):
    """Rows are written one slot further: slot 0, all zeros, is seen, the newest row is not."""
    late = counts.copy()
    first = counts.shape[1] - len(counts)
    for i in range(len(late)):
        late[i, first + i] = 0
    nothing = np.zeros_like(k[0])
    return right(*with_row(q, k, v, late, nothing, nothing), layer)


def stale_row(right, model, q, k, v, counts, layer):
    """The last row of another text, the ids 1, 2, 3, is still there and seen."""
    if not hasattr(model, "stale"):
        model.stale = Cache()
        model.right.forward(np.arange(1, 4) % model.config.vocabulary, model.stale)
    old_k, old_v = model.stale.k[layer][-1], model.stale.v[layer][-1]
    return right(*with_row(q, k, v, counts, old_k, old_v), layer)


def rotated_again(right, model, q, k, v, counts, layer):
    """Keys are rotated when they are read, as if they had not been when they were written."""
    return right(q, model.rotate(k, model.positions(0, len(k))), v, counts, layer)


def norm_as_qkv(right, model, x, name):
    """The norm's result three times."""
    rows = x.reshape(len(x), -1, model.config.head_size)
    for part in "qkv":
        model.keep(f"{name}.{part}", x)
    return [rows, rows, rows]


def transposed_heads(right, model, y):
    """Element by element over the heads, not head by head."""
    return right(y.transpose(0, 2, 1))


# --- products, norms, blocks


def named(part: Callable[[str], bool], change: Callable) -> Callable:
    """A method (…, name) changed only where its name is one that `part` picks."""

    def wrong(right, model, *given):
        return change(right, model, *given) if part(given[-1]) else right(*given)

    return wrong


def of(*ends: str) -> Callable[[str], bool]:
    """Names that end so."""
    return lambda name: name.endswith(ends)


QKV = of("attn.q", "attn.k", "attn.v")


def without_last(right, model, x, name):
    """The last element of every sum is left out."""
    return x[..., :-1] @ model.weight(f"{name}.weight")[:, :-1].T


def square(c: Config) -> bool:
    """Whether some product of a block goes from a width to the same."""
    return c.hidden in (c.heads * c.head_size, c.kv_heads * c.head_size, c.ffn)


def transposed(right, model, x, name):
    """x·w for x·wᵀ wherever the shapes let it."""
    w = model.weight(f"{name}.weight")
    return x @ w if w.shape[0] == w.shape[1] else right(x, name)


def f16_sums(right, model, x, name):
    """An f16 accumulator: rounded after every 16 terms, as a tensor instruction does it."""
    w = model.weight(f"{name}.weight").T
    total = np.zeros((len(x), w.shape[1]))
    for at in range(0, len(w), 16):
        total = rounded(total + x[:, at : at + 16] @ w[at : at + 16], "f16")
    return total


def ten_bits(x: np.ndarray) -> np.ndarray:
    """Nearest numbers with 10 bits behind the point, ties to even: TF32's mantissa."""
    fraction, exponent = np.frexp(x)
    return np.ldexp(np.rint(np.ldexp(fraction, 11)), exponent - 11)


def tf32(right, model, x, name):
    """Both factors rounded to TF32."""
    return ten_bits(x) @ ten_bits(model.weight(f"{name}.weight")).T


def uncentred(right, model, x, name):
    """The norm of what still has its mean."""
    y = x / np.sqrt(model.variance(x) + model.eps()) * model.weight(f"{name}.weight")
    return y + model.bias(name)


def next_norm(right, model, x, name):
    """A block's norm with the weights of the next block's; the last takes the first's."""
    parts = name.split(".")
    if parts[0] == "layer":
        parts[1] = str((int(parts[1]) + 1) % model.config.layers)
    return right(x, ".".join(parts))


def lone_head(right, model, x):
    """A head as an initialisation leaves it, N(0, 0.02), where the embedding should stand."""
    shape = model.weights["head.weight"].shape
    return x @ np.random.default_rng(1).normal(0, 0.02, shape).T


def row_before(right, model, x):
    """Each row's logits from the row before; the first of a call has its own."""
    return right(np.concatenate([x[:1], x[:-1]]))


def unmeaned(right, model, x):
    """n - 1 for n in the variance."""
    return right(x) * x.shape[-1] / (x.shape[-1] - 1)


def skipped(right, model, x, name):
    """What comes in."""
    return x
