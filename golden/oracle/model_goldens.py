"""What goes into a golden of a model: five kinds of question, two witnesses, one agreement.

Values are the float64 reference's. transformers answers the same text, and where the two differ by
more than AGREE there is no golden: `Disagree` says where. Slots are compared row by row, rms of the
difference over rms of the row; logits over the standard deviation of the row's logits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial

import numpy as np

import wrong_texts
from reference import Cache, Reference
from wire import Raw
from writing import Writer, Written
from wrong_models import WRONG, broken

AGREE = 1e-5
WHOLE = 8192  # a vocabulary up to this is stored whole, row by row
TOP = 64
BRANCHES = 12
STORED = {"f": "f32", "i": "i32", "u": "u8"}


class Disagree(Exception):
    """The two witnesses differ; the message says where and by how much."""


def rms(x: np.ndarray) -> np.ndarray:
    """Root of the mean square of each row."""
    return np.sqrt((x * x).mean(-1))


@dataclass
class Witnesses:
    """The reference, and transformers where it can read the model; how far apart they were; what
    gives the bytes of ids."""

    right: Reference
    other: object | None
    agree: float = 0.0
    said: Callable[[list[int]], bytes] = lambda ids: b""

    def differ(self, what: str, difference: np.ndarray, size: np.ndarray) -> None:
        """Holds one tensor's rows against AGREE."""
        with np.errstate(divide="ignore", invalid="ignore"):
            far = np.where(difference == 0, 0, difference / size)
        row = int(np.argmax(np.nan_to_num(far, nan=np.inf)))
        if not far[row] <= AGREE:
            raise Disagree(f"{what} at row {row}: the witnesses differ by {far[row]:.2e}")
        self.agree = max(self.agree, float(far[row]))

    def logits(self, ids, what: str = "logits", rows=None) -> np.ndarray:
        """Logits [n, v] of a text; `rows` of them are compared, all if it is None."""
        ours = self.right.forward(ids)
        self.compare(ids, ours, what, rows)
        return ours

    def compare(self, ids, ours: np.ndarray, what: str, rows=None) -> None:
        """Holds logits of the reference against those of transformers."""
        if self.other is not None:
            rows = slice(None) if rows is None else rows
            ours, theirs = ours[rows], self.other.forward(ids)[rows]
            self.differ(what, rms(ours - theirs), ours.std(-1))

    def slots(self, ids, globs: list[str]) -> dict[str, np.ndarray]:
        """The slots that some glob matches."""
        ours: dict[str, np.ndarray] = {}
        self.right.forward(ids, slots=ours)
        ours = with_cache(ours)
        ours = {k: v for k, v in ours.items() if any(fnmatchcase(k, g) for g in globs)}
        if self.other is not None:
            theirs: dict[str, np.ndarray] = {}
            self.other.forward(ids, slots=theirs)
            theirs = with_cache(theirs)
            for name, x in ours.items():
                size = x.std(-1) if name == "logits" else rms(x)
                self.differ(name, rms(x - theirs[name]), size)
        return ours


def with_cache(slots: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The slots and what the caches hold after them: keys as they are read, rotated or not."""
    caches = {}
    for name in slots:
        layer, of, _ = name.partition(".attn.v")
        if of:
            rotated = f"{layer}.attn.k_rope"
            caches[f"{layer}.kv.k"] = slots[rotated if rotated in slots else f"{layer}.attn.k"]
            caches[f"{layer}.kv.v"] = slots[name]
    return slots | caches


def raw(x) -> Raw:
    """Floats as F32, ids as I32, bytes as U8."""
    x = np.asarray(x)
    stored = STORED[x.dtype.kind]
    dtype = {"f32": np.float32, "i32": np.int32, "u8": np.uint8}[stored]
    return Raw(stored, x.shape, np.ascontiguousarray(x, dtype))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """log p of each row."""
    z = logits - logits.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def margin(logits: np.ndarray) -> np.ndarray:
    """First minus second logit of each row."""
    two = np.partition(logits, -2, -1)[..., -2:]
    return two[..., 1] - two[..., 0]


def stage(ask: dict, ids: np.ndarray, w: Witnesses) -> dict[str, np.ndarray]:
    """Every slot that the globs match, [n, width]."""
    out = w.slots(ids, ask["slots"])
    for name in ask.get("wrong", []):
        slots: dict[str, np.ndarray] = {}
        broken(w.right, name).forward(ids, slots=slots)
        slots = with_cache(slots)
        # a fault may leave a block out: its slots are then what nobody wrote
        out |= {f"wrong.{name}.{s}": slots.get(s, np.zeros_like(out[s])) for s in list(out)
                if not s.startswith("wrong.")}
    return out


def rows_of(ask: dict, n: int) -> np.ndarray:
    """The rows asked for, absolute, ascending, each once."""
    given = ask.get("rows", "all")
    rows = np.arange(n) if given == "all" else np.array(given, dtype=np.int64)
    if len(rows) == 0 or rows.min() < -n or rows.max() >= n:
        raise ValueError(f"rows {given} of a text of {n}")
    return np.unique(np.where(rows < 0, rows + n, rows))


def compact(logits: np.ndarray, following: np.ndarray) -> dict[str, np.ndarray]:
    """What is kept of rows of logits [r, v]; `following` [r] is the next id or -1."""
    logp = log_softmax(logits)
    order = np.argsort(-logits, -1, kind="stable")
    ids, rest = order[:, :TOP], order[:, TOP:]
    with np.errstate(divide="ignore"):
        tail = np.log(np.exp(np.take_along_axis(logp, rest, -1)).sum(-1))
    chosen = np.take_along_axis(logp, np.maximum(following, 0)[:, None], -1)[:, 0]
    return {
        "top_ids": ids,
        "top_logprobs": np.take_along_axis(logp, ids, -1),
        "tail": tail,
        "entropy": -(np.exp(logp) * logp).sum(-1),
        "next_logprob": np.where(following < 0, 0.0, chosen),
        "std": logits.std(-1),
        "margin": margin(logits),
    }


def logits(ask: dict, ids: np.ndarray, w: Witnesses) -> dict[str, np.ndarray]:
    """Logits of rows: whole where the vocabulary is small, three rows of them where it is not."""
    rows = rows_of(ask, len(ids))
    whole = w.right.config.vocabulary <= WHOLE
    full = rows if whole else np.unique(rows[[0, len(rows) // 2, -1]])
    found = w.logits(ids, rows=rows)
    out = {"rows": rows, "full_rows": full, "logits": found[full]}
    out |= compact(found[rows], np.append(ids, -1)[rows + 1])
    for name in ask.get("wrong", []):
        out[f"wrong.{name}.logits"] = broken(w.right, name).forward(ids)[full]
    return out


@dataclass
class Text:
    """A text that goes on by itself: its ids, the logits of each step, the cache behind it."""

    ids: list[int]
    logits: list[np.ndarray]
    cache: Cache

    def greedy(self, model: Reference, row: np.ndarray, tokens: int) -> "Text":
        """Goes on until there are so many tokens; `row` has the logits of the next."""
        while True:
            self.logits.append(row)
            self.ids.append(int(row.argmax()))
            if len(self.ids) == tokens:
                return self
            row = model.forward(self.ids[-1:], self.cache)[-1]

    def logprobs(self) -> np.ndarray:
        """log p of each token."""
        logp = log_softmax(np.array(self.logits))
        return logp[np.arange(len(self.ids)), self.ids]


def begun(model: Reference, ids, tokens: int) -> Text:
    """The greedy text after ids."""
    cache = Cache()
    row = model.forward(ids, cache)[-1]
    return Text([], [], cache).greedy(model, row, tokens)


def branch(model: Reference, prompt: int, text: Text, at: int) -> Text:
    """The text with the second choice at step `at`, greedy again behind it."""
    second = int(np.argsort(-text.logits[at], kind="stable")[1])
    ids, rows = [*text.ids[:at], second], text.logits[: at + 1]
    other = Text(ids, list(rows), text.cache.cut(prompt + at))
    if len(ids) == len(text.ids):
        return other
    return other.greedy(model, model.forward([second], other.cache)[-1], len(text.ids))


def compare_text(w: Witnesses, prompt: np.ndarray, text: Text, what: str) -> None:
    """Holds each step's logits against transformers on the whole text."""
    ids = [*prompt.tolist(), *text.ids[:-1]]
    ours = np.concatenate([np.zeros((len(prompt) - 1, len(text.logits[0]))), text.logits])
    w.compare(ids, ours, what, slice(len(prompt) - 1, None))


def told(name: str, text: Written) -> dict[str, np.ndarray]:
    """What of a text is handed out, under the names of a fault."""
    parts = {"ids": np.array(text.ids[: text.told], np.int64),
             "text": np.frombuffer(text.text, np.uint8),
             "stop": np.frombuffer(text.stop.encode(), np.uint8)}
    return {f"{name}.{part}": x for part, x in parts.items()}


def written(ask: dict, ids: np.ndarray, w: Witnesses) -> dict[str, np.ndarray]:
    """A text that is drawn, or that something ends: all that was chosen, how much of it is handed
    out, and why it ended."""
    text = Writer(ask, ids, w.said).write(w.right, margins=True)
    rows = np.array(text.rows)
    compare_text(w, ids, Text(text.ids, text.rows, Cache()), "the text's logits")
    out = {"chosen": np.array(text.ids), "margin": np.array(text.margins), "std": rows.std(-1),
           "logprob": log_softmax(rows)[np.arange(len(rows)), text.ids],
           "told": np.array([text.told]), "text": np.frombuffer(text.text, np.uint8),
           "stop": np.frombuffer(text.stop.encode(), np.uint8)}
    for name in ask.get("wrong", []):
        of_model = name in WRONG
        model = broken(w.right, name) if of_model else w.right
        writer = Writer if of_model else partial(wrong_texts.broken, name=name)
        out |= told(f"wrong.{name}", writer(ask, prompt=ids, said=w.said).write(model))
    return out


def generation(ask: dict, ids: np.ndarray, w: Witnesses) -> dict[str, np.ndarray]:
    """The greedy text, and texts that take the second choice where the first was near."""
    if any(key in ask for key in ("sampling", "stop", "stop_ids", "context")):
        return written(ask, ids, w)
    tokens = ask["max_tokens"]
    text = begun(w.right, ids, tokens)
    compare_text(w, ids, text, "the greedy text's logits")
    rows = np.array(text.logits)
    out = {"greedy": np.array(text.ids), "margin": margin(rows), "std": rows.std(-1),
           "logprob": text.logprobs()}
    nearest = np.argsort(out["margin"], kind="stable")[:BRANCHES]
    others = [branch(w.right, len(ids), text, int(at)) for at in nearest]
    for at, other in zip(nearest, others):
        compare_text(w, ids, other, f"logits of the branch at {at}")
    out["branch.at"] = nearest
    out["branch.ids"] = np.array([other.ids for other in others])
    out["branch.logprob"] = np.array([other.logprobs().mean() for other in others])
    for name in ask.get("wrong", []):
        out[f"wrong.{name}.greedy"] = np.array(begun(broken(w.right, name), ids, tokens).ids)
    return out


def windows(ids: np.ndarray, width: int) -> list[np.ndarray]:
    """Consecutive pieces of so many ids; the last may be shorter."""
    return [ids[at : at + width] for at in range(0, len(ids), width)]


def chosen(rows: np.ndarray, piece: np.ndarray) -> np.ndarray:
    """log p of each id of a window but its first, for which it is 0."""
    logp = log_softmax(rows[:-1])
    return np.append(0.0, logp[np.arange(len(piece) - 1), piece[1:]])


def perplexity(ask: dict, ids: np.ndarray, w: Witnesses) -> dict[str, np.ndarray]:
    """log p of every id given those before it in its window."""
    out: dict[str, list] = {"logprob": [], "std": [], "margin": []}
    pieces = windows(ids, ask["window"])
    for i, piece in enumerate(pieces):
        rows = w.logits(piece, f"logits of window {i}")
        out["logprob"].append(chosen(rows, piece))
        out["std"].append(np.append(0.0, rows[:-1].std(-1)))
        out["margin"].append(np.append(0.0, margin(rows[:-1])))
    for name in ask.get("wrong", []):
        model = broken(w.right, name)
        wrong = [chosen(model.forward(piece), piece) for piece in pieces]
        out[f"wrong.{name}.logprob"] = wrong
    return {name: np.concatenate(parts) for name, parts in out.items()}


def draws(ask: dict, ids: np.ndarray, w: Witnesses) -> dict[str, np.ndarray]:
    """The last row of logits of each context, and, for texts of two tokens, of each context with
    one of its `follow` most likely tokens behind it."""
    contexts = ids.reshape(ask["contexts"], ask["length"])
    row = lambda fed, what: w.logits(fed, what, rows=[-1])[-1]
    rows = [row(fed, f"logits of context {i}") for i, fed in enumerate(contexts)]
    # the first of equals, so that the golden does not depend on how a sort treats them
    following = np.argsort(-np.array(rows), -1, kind="stable")[:, : ask["follow"]]
    for i, (fed, after) in enumerate(zip(contexts, following)):
        rows += [row([*fed, t], f"logits of context {i} and token {t}") for t in after]
    found = np.array(rows)
    out = {"logits": found, "margin": margin(found), "std": found.std(-1)}
    # a tensor of no elements would say nothing
    return out | ({"next": following.ravel()} if ask["follow"] else {})


ANSWERS = {"stage": stage, "logits": logits, "generation": generation, "perplexity": perplexity,
           "draws": draws}
