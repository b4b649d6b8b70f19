"""The calls about models, sessions and texts, for an engine that gives logits and draws tokens.

An adapter says how its engine does five things (Model) and how its tokenizer does three (Words);
`serve(subject, load, words)` answers the calls of docs/wire.md, section 7, with them: what they
refuse, which rows they return, where a text ends.
"""
import codecs
import fnmatch
import itertools
import time

import numpy as np

from goldwire import Failed, Refused, Subject, Unsupported

TOP = 64  # ids that a compact row names


class Words:
    """A tokenizer. Text is bytes; bytes that are no UTF-8 are text too."""

    def encode(self, text: bytes, add_special: bool, parse_special: bool) -> list[int]:
        raise Unsupported("encoding")

    def decode(self, ids: list[int], skip_special: bool) -> bytes:
        raise Unsupported("decoding")

    def stream(self, skip_special: bool):
        """A new decoder with `push(id) -> bytes` that can be handed out, and `rest() -> bytes`."""
        raise Unsupported("decoding as a stream")


class Pieces:
    """A stream of an engine that has the bytes of each token: half a character is held back."""

    def __init__(self, piece):
        self.piece, self.decoder = piece, codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def push(self, token: int) -> bytes:
        return self.decoder.decode(self.piece(token)).encode(errors="surrogateescape")

    def rest(self) -> bytes:
        return self.decoder.decode(b"", final=True).encode(errors="surrogateescape")


class Model:
    """A loaded model. `facts` are fields of the answer to `load`; `ends` its own end tokens;
    `slots` the names that it can trace; `words` its tokenizer or None."""
    facts: dict = {}
    context = vocabulary = 0
    ends: set[int] = set()
    slots: list[str] = []
    words: Words | None = None

    def open(self):
        """A new session: whatever `feed` needs, without tokens."""
        raise Unsupported("sessions")

    def feed(self, session, ids: np.ndarray, rows: list[int], slots: list[str]):
        """Appends ids; returns logits F32 [len(rows), vocabulary] and of each slot, by name, its
        rows F32 [n, width] with the type that they had (`f16`, …)."""
        raise Unsupported("sessions")

    def fork(self, session, keep: int):
        """A new session with the first `keep` tokens of this one, which stays as it is."""
        raise Unsupported("fork")

    def draw(self, ids: np.ndarray, count: int, sampling: dict, take) -> None:
        """Draws at most `count` tokens after `ids` and calls take(id) for each, until that returns
        False. `sampling` has all of RANGES, `top_k` and `seed`."""
        raise Unsupported("generate")


# What a setting is where it is absent, and what it may be.
RANGES = {"temperature": (0.0, 0.0, 2.0), "top_p": (1.0, 0.0, 1.0), "min_p": (0.0, 0.0, 1.0),
          "repetition_penalty": (1.0, 1e-30, 2.0)}


def compact(logits: np.ndarray, rows: list[int], ids: np.ndarray) -> dict:
    """Logits [rows, vocabulary] as the most likely ids, the mass of the rest, and the
    log-probability of the token that follows (NaN after the last)."""
    x = logits.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    x -= np.log(np.exp(x).sum(-1, keepdims=True))
    order = np.argsort(-x, axis=-1, kind="stable")
    top, rest = order[:, :TOP], order[:, TOP:]
    p = np.exp(x)
    following = [x[i, ids[r + 1]] if r + 1 < len(ids) else np.nan for i, r in enumerate(rows)]
    with np.errstate(divide="ignore"):
        tail = np.log(np.take_along_axis(p, rest, -1).sum(-1))
    return {"top_ids": top.astype(np.int32),
            "top_logprobs": np.take_along_axis(x, top, -1).astype(np.float32),
            "tail": tail.astype(np.float32),
            "entropy": -np.where(p > 0, p * x, 0).sum(-1).astype(np.float32),
            "next_logprob": np.array(following, np.float32)}


class Text:
    """A text as it grows, cut before the first of its stop texts."""

    def __init__(self, words: Words | None, stops: list[str]):
        if stops and words is None:
            raise Unsupported("stop texts without a tokenizer")
        self.stream = words.stream(skip_special=True) if words else None
        self.stops, self.ids, self.begins = [s.encode() for s in stops], [], []
        self.bytes, self.cut = b"", None

    def push(self, token: int) -> bool:
        """Adds a token; False once a stop text is whole."""
        self.ids.append(token)
        self.begins.append(len(self.bytes))
        if self.stream:
            self.bytes += self.stream.push(token)
            found = [at for s in self.stops if (at := self.bytes.find(s)) >= 0]
            self.cut = min(found, default=None)
        return self.cut is None

    def finish(self) -> tuple[np.ndarray, bytes]:
        """The ids that are handed out and their text."""
        if self.cut is None:
            text = self.bytes + (self.stream.rest() if self.stream else b"")
            return np.array(self.ids, np.int32), text
        # A token that the cut goes through is the last; one that begins behind it is left out.
        kept = [i for i, begin in zip(self.ids, self.begins) if begin < self.cut]
        return np.array(kept, np.int32), self.bytes[:self.cut]


def settings(given: dict) -> dict:
    """The settings of a draw, each within its range."""
    chosen = {}
    for name in ("top_k", "seed"):
        chosen[name] = given.get(name) or 0
        if type(chosen[name]) is not int or chosen[name] < 0:
            raise Failed("bad_request", f"{name} is {given[name]!r}, wants a whole number from 0")
    for name, (usual, low, high) in RANGES.items():
        value = usual if given.get(name) is None else given[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Failed("bad_request", f"{name} is {value!r}, wants a number")
        if not low <= value <= high:
            raise Refused("AttributeOutOfRange", name, f"is {value}, wants {low} to {high}")
        chosen[name] = value
    return chosen


def without(ask: dict, *names: str) -> None:
    """Answers `unsupported` where `load` asks for what the engine does not do. An adapter that did
    it in its place would say nothing of the engine."""
    for name in names:
        if ask.get(name) is not None:
            raise Unsupported(name)


def in_vocabulary(ids: np.ndarray, vocabulary: int) -> np.ndarray:
    """The ids, if each is one."""
    outside = ids[(ids < 0) | (ids >= vocabulary)]
    if len(outside):
        raise Refused("IdOutOfRange", "ids", f"{outside[0]}, the vocabulary has {vocabulary}")
    return ids


def serve(subject: Subject, load, words) -> None:
    """Registers the calls. `load(path, **fields)` returns a Model; `words(path)` the Words of a
    file. Both raise Refused or Unsupported where they must."""
    models: dict[int, Model] = {}
    sessions: dict[int, list] = {}  # handle → model handle, model, its session, length in tokens
    handles = itertools.count(1)

    def held(table: dict, handle: int, what: str):
        if handle not in table:
            raise Failed("bad_request", f"there is no such {what}")
        return table[handle]

    def vocabulary(path: str | None, model: int | None) -> Words:
        if path is not None:
            return words(path)
        found = held(models, model, "model").words
        if found is None:
            raise Unsupported("a tokenizer: the model has none")
        return found

    def keep(handle: int, model: Model, session, length: int) -> dict:
        new = next(handles)
        sessions[new] = [handle, model, session, length]
        return {"session": new}

    @subject.call("load")
    def _load(ask: dict, path: str, context: int | None = None, trace: list | None = None):
        begin = time.monotonic()
        if context is not None and context < 1:
            raise Failed("bad_request", f"context is {context}, wants a whole number above 0")
        model = load(ask, path, context, trace or [])
        handle = next(handles)
        models[handle] = model
        return {"model": handle, "context": model.context, **model.facts,
                "load_ms": (time.monotonic() - begin) * 1e3}

    @subject.call("unload")
    def _unload(model: int):
        held(models, model, "model")
        # Sessions use the model's memory, so they end with it.
        for handle in [h for h, s in sessions.items() if s[0] == model]:
            del sessions[handle]
        del models[model]

    @subject.call("open")
    def _open(model: int):
        found = held(models, model, "model")
        return keep(model, found, found.open(), 0)

    @subject.call("extend")
    def _extend(session: int, ids: np.ndarray, want: dict | None = None):
        kept, want = held(sessions, session, "session"), want or {}
        _, model, state, length = kept
        if not len(ids):
            raise Refused("EmptyAxis", "ids", "no tokens")
        in_vocabulary(ids, model.vocabulary)
        if length + len(ids) > model.context:
            message = f"{length} + {len(ids)} tokens, context {model.context}"
            raise Refused("CapacityExceeded", "ids", message)
        how = want.get("logits", "none")
        if how not in ("none", "last", "all", "compact"):
            raise Failed("bad_request", f"logits is {how}")
        rows = {"none": [], "last": [len(ids) - 1]}.get(how)
        if rows is None:
            rows = want.get("rows") if want.get("rows") is not None else list(range(len(ids)))
        for row in rows:
            if not 0 <= row < len(ids):
                raise Refused("IdOutOfRange", "rows", f"row {row} of {len(ids)} tokens")
        slots = [s for s in model.slots
                 if any(fnmatch.fnmatchcase(s, g) for g in want.get("trace", []))]
        logits, traced = model.feed(state, ids, rows, slots)
        kept[3] = length + len(ids)
        results, types = {}, {}
        for name, (values, stored) in traced.items():
            results[name], types[name] = values, stored
        if how != "none" and rows:
            results |= compact(logits, rows, ids) if how == "compact" else {"logits": logits}
        return {"length": kept[3], "types": types}, results

    @subject.call("fork")
    def _fork(ask: dict, session: int):
        handle, model, state, length = held(sessions, session, "session")
        tokens = ask.get("keep")
        if not isinstance(tokens, int) or not 0 <= tokens <= length:
            raise Refused("PositionOutOfRange", "keep", f"{tokens} of {length} tokens")
        return keep(handle, model, model.fork(state, tokens), tokens)

    @subject.call("close")
    def _close(session: int):
        held(sessions, session, "session")
        del sessions[session]

    @subject.call("generate")
    def _generate(ask: dict, model: int, ids: np.ndarray, max_tokens: int = 128,
                  stop_ids: list = [], stop: list = [], ignore_eos: bool = False,
                  lengths: np.ndarray | None = None):
        found = held(models, model, "model")
        if lengths is not None:
            raise Unsupported("several sequences")
        if not 0 < len(ids) <= found.context:
            message = f"{len(ids)} tokens, wants 1 to {found.context}"
            raise Refused("CapacityExceeded", "ids", message)
        if "" in stop:
            raise Failed("bad_request", "stop has an empty text")
        in_vocabulary(ids, found.vocabulary)
        sampling, text = settings(ask), Text(found.words, stop)
        enders, begin = set(stop_ids) | (set() if ignore_eos else found.ends), time.monotonic()
        # `first` is the time of the first token, `why` the reason of the end.
        state = {"why": "length" if max_tokens == 0 else "context", "first": None}

        def take(token: int) -> bool:
            ms = (time.monotonic() - begin) * 1e3
            state["first"] = state["first"] or ms
            if token in enders:
                state["why"] = "eos"
                return False
            subject.event("token", index=len(text.ids), token=token, ms=ms)
            if not text.push(token):
                state["why"] = "stop"
            elif len(text.ids) == max_tokens:
                state["why"] = "length"
            else:
                return len(ids) + len(text.ids) < found.context
            return False

        count = min(max_tokens, found.context - len(ids))
        if count:
            found.draw(ids, count, sampling, take)
        handed, written = text.finish()
        results = {"ids": handed}
        if found.words:
            results["text"] = np.frombuffer(written, np.uint8)
        return {"stop": state["why"], "first_token_ms": state["first"],
                "total_ms": (time.monotonic() - begin) * 1e3}, results

    @subject.call("tokenize")
    def _tokenize(text: np.ndarray, path: str | None = None, model: int | None = None,
                  add_special: bool = False, parse_special: bool = False):
        ids = vocabulary(path, model).encode(text.tobytes(), add_special, parse_special)
        return {}, {"ids": np.array(ids, np.int32)}

    @subject.call("detokenize")
    def _detokenize(ids: np.ndarray, path: str | None = None, model: int | None = None,
                    skip_special: bool = False, stream: bool = False):
        found = vocabulary(path, model)
        if not stream:
            return {}, {"text": np.frombuffer(found.decode(ids.tolist(), skip_special), np.uint8)}
        pieces, text, ends = found.stream(skip_special), b"", []
        for token in ids.tolist():
            text += pieces.push(token)
            ends.append(len(text))
        text += pieces.rest()
        return {}, {"text": np.frombuffer(text, np.uint8), "ends": np.array(ends, np.int32)}
