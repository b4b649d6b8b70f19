"""From logits to an id: argmax, the chain of filters, and a draw by Philox4x32-10."""

import math

import numpy as np

from answer import Answer, Result, one
from signature import Question, Refused
from stored import representable

NEAR = 1e-6
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF


def philox(key: int, counter: int) -> list[int]:
    """Four words of Philox4x32-10 (Salmon et al. 2011): key 64 bits, counter 128 bits."""
    k = [key & MASK, key >> 32 & MASK]
    c = [counter >> 32 * i & MASK for i in range(4)]
    for _ in range(10):
        first, second = MULTIPLIERS[0] * c[0], MULTIPLIERS[1] * c[2]
        c = [second >> 32 ^ c[1] ^ k[0], second & MASK, first >> 32 ^ c[3] ^ k[1], first & MASK]
        k = [(k[0] + WEYL[0]) & MASK, (k[1] + WEYL[1]) & MASK]
    return c


def refuse_nan(values: np.ndarray, name: str) -> None:
    """A choice among numbers needs numbers."""
    if np.isnan(values).any():
        raise Refused("NotANumber", name, "a choice among numbers found none")


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits [v]; -inf is 0. All -inf has none."""
    m = logits.max()
    if m == -math.inf:
        raise Refused("NotANumber", "logits", "every logit is -inf")
    e = np.exp(logits - m)
    return e / e.sum()


def falling(logits: np.ndarray) -> np.ndarray:
    """Ids by falling logit, equal ones by rising id."""
    return np.argsort(-logits, kind="stable")


def keep(logits: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Only `ids` keep their logits, the others are -inf."""
    out = np.full_like(logits, -np.inf)
    out[ids] = logits[ids]
    return out


def temperature(logits, value: float) -> np.ndarray:
    """logits/value; 0 keeps the first of the largest alone."""
    return keep(logits, falling(logits)[:1]) if value == 0 else logits / value


def repetition_penalty(logits, seen, value: float) -> np.ndarray:
    """Seen ids: positive logits divided, others multiplied."""
    changed = np.where(logits > 0, logits / value, logits * value)
    return np.where(seen, changed, logits)


def top_k(logits, value: int) -> np.ndarray:
    """The `value` largest; 0 is off."""
    return logits if value == 0 else keep(logits, falling(logits)[:value])


def top_p(logits, value: float) -> np.ndarray:
    """The smallest set by falling probability whose sum reaches `value`; 1 is off."""
    if value >= 1:
        return logits
    order = falling(logits)
    total = np.cumsum(softmax(logits)[order])
    count = 1 + int((total < value).sum()) if value > 0 else 1
    return keep(logits, order[:count])


def min_p(logits, value: float) -> np.ndarray:
    """Logits from max + ln(value) upward; 0 is off."""
    if value == 0:
        return logits
    return np.where(logits >= logits.max() + math.log(value), logits, -np.inf)


def bits(words: np.ndarray, count: int) -> np.ndarray:
    """Bit i mod 32 of word i div 32, for i below count: bool [count]."""
    i = np.arange(count)
    return (words.astype(np.int64)[i // 32] >> (i % 32) & 1).astype(bool)


def seen_bits(q: Question) -> np.ndarray:
    """`seen` I32 [ceil(v/32)]: bit i mod 32 of word i div 32."""
    v, words = q.axes["v"], q.axes["z"]
    if words != -(-v // 32):
        raise Refused("ShapeMismatch", "seen", f"has {words} words, {v} bits want {-(-v // 32)}")
    return bits(q["seen"], v)


def answer_chain(q: Question) -> Answer:
    """logits [v] → logits [v] f32, removed ones -inf."""
    refuse_nan(q["logits"], "logits")
    value = q.attr["value"]
    if q.op == "repetition_penalty":
        y = repetition_penalty(q["logits"], seen_bits(q), value)
    else:
        chain = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
        y = chain[q.op](q["logits"], value)
    return one("logits", y, "f32", exact=representable(y[np.isfinite(y)]))


def answer_argmax(q: Question) -> Answer:
    """x [n,v] → ids [n], the first of equals."""
    refuse_nan(q["x"], "x")
    ids = q["x"].argmax(-1).astype(np.int32)
    return Answer({"ids": Result(ids, "i32")}, True)


def draw(probabilities: np.ndarray, u: float) -> tuple[int, bool]:
    """The first id whose running sum exceeds u·total, and whether u is clear of a boundary."""
    running = np.cumsum(probabilities)
    target = u * running[-1]
    possible = np.flatnonzero(probabilities)
    index = min(int(np.searchsorted(running, target, side="right")), int(possible[-1]))
    inner = np.concatenate([[0.0], running[:-1], running[-1:]])
    inner = inner[1:-1] if len(running) > 1 else inner[:0]
    near = len(inner) and np.abs(inner - target).min() <= NEAR * running[-1]
    return index, not near


def number_below_one(seed: int, index: int) -> float:
    """The first word's upper 24 bits times 2^-24."""
    return (philox(seed, index)[0] >> 8) * 2.0**-24


def answer_sample(q: Question) -> Answer:
    """logits [v] → id [1], decided where u is farther than 1e-6 from a boundary."""
    refuse_nan(q["logits"], "logits")
    u = number_below_one(q.attr["seed"], q.attr["index"])
    index, decided = draw(softmax(q["logits"]), u)
    ids, clear = np.array([index], dtype=np.int32), np.array([decided])
    return Answer({"id": Result(ids, "i32", decided=clear)}, True)


def advanced(q: Question) -> dict[str, np.ndarray]:
    """token = id, position = length, length + 1, draws + 1, and bit id of seen set."""
    i = int(q["id"][0])
    seen = q["seen"].astype(np.uint32)
    seen[i // 32] |= np.uint32(1 << i % 32)
    length = np.array(q["length"])
    return {
        "token": np.array([i]),
        "position": length,
        "length": length + 1,
        "draws": np.array(q["draws"]) + 1,
        "seen": seen.view(np.int32),
    }


def answer_advance(q: Question) -> Answer:
    """id, token, position, length, draws [1], seen [words]: all but id in place."""
    limit = 32 * q.axes["words"]
    if not 0 <= q["id"][0] < limit:
        raise Refused("IdOutOfRange", "id", f"{q['id'][0]} outside 0..{limit - 1}")
    clear = {n: np.ones(len(y), dtype=bool) for n, y in advanced(q).items()}
    results = {
        n: Result(y.astype(np.int32), "i32", decided=clear[n]) for n, y in advanced(q).items()
    }
    return Answer(results, True)
