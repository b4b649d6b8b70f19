"""Wrong texts: a wrong choice of the next token, or a wrong end, by name.

As in wrong_models.py each fault names the methods that it replaces, here of a `Choice` or of the
`Writer`: `change(right, self, *arguments)`, `right` bound to the text's own choice or writer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from choices import Choice
from sampling import draw, falling, keep, number_below_one, softmax
from writing import Writer


def sampled(ask: dict) -> bool:
    """Whether tokens are drawn."""
    return ask.get("sampling", {}).get("temperature", 0) != 0


def has(name: str) -> Callable[[dict], bool]:
    """Whether a setting of the chain is there."""
    return lambda ask: name in ask.get("sampling", {})


def ends(name: str) -> Callable[[dict], bool]:
    """Whether something of that name can end the text."""
    return lambda ask: bool(ask.get(name))


@dataclass
class Fault:
    """A mistake: its ids, what it does, why it is planted, what it replaces, who can have it."""

    ids: str
    what: str
    why: str
    choice: dict[str, Callable] = field(default_factory=dict)
    writer: dict[str, Callable] = field(default_factory=dict)
    needs: Callable[[dict], bool] = field(default=sampled)


def numbered(seed=lambda c: c.setting("seed"), index=lambda c: len(c.ids)) -> dict[str, Callable]:
    """Another seed or another number of the draw."""
    return {"number": lambda right, c: number_below_one(seed(c), index(c))}


def setting(name: str, change: Callable) -> dict[str, Callable]:
    """A setting that is read wrongly."""
    return {"setting": lambda right, c, of: change(right(of)) if of == name else right(of)}


def without(name: str, off: float) -> dict[str, Callable]:
    """A setting that is not read."""
    return setting(name, lambda value: off)


def filters_first(right, c, row):
    """The temperature behind the filters."""
    return c.cooled(c.kept(c.penalised(row)))


def penalty_last(right, c, row):
    """The penalty behind all else."""
    return c.penalised(c.kept(c.cooled(row)))


def by_falling(right, c, row):
    """A running sum by falling probability."""
    order = falling(row)
    return int(order[draw(softmax(row)[order], c.number())[0]])


def crossing_left_out(right, c, row):
    """top_p without the id that crosses."""
    row = right(row)
    order = falling(row)
    kept = int(np.isfinite(row).sum())
    return keep(row, order[: max(1, kept - 1)])


def late(right, w, ids):
    """The token before the last ends it."""
    return len(ids) > 1 and ids[-2] in w.stop_ids


def whole(right, w, ids, reason):
    """Everything goes out."""
    return len(ids), w.said(ids)


def ids_whole(right, w, ids, reason):
    """The text is cut, the ids are not."""
    return len(ids), right(ids, reason)[1]


def inside_tokens(right, w, ids):
    """Each token's own text is looked at."""
    return any(stop in w.said([i]) for i in ids for stop in w.stop)


def at_the_end(right, w, ids):
    """Only the end of the text is looked at."""
    return any(w.said(ids).endswith(stop) for stop in w.stop)


def behind(right, w, text):
    """The cut is behind the stop text."""
    return right(text) + min(len(stop) for stop in w.stop if stop in text)


def said_as(right, w, ids):
    """length for whatever ended it."""
    return "length" if right(ids) else ""


WRONG = {
    # the draw
    "seed_ignored": Fault("M-125", "every seed is 0", "a default", numbered(seed=lambda c: 0)),
    "seed_plus_1": Fault(
        "M-125", "another seed", "seed and its successor are two texts",
        numbered(seed=lambda c: c.setting("seed") + 1)),
    "draws_shared": Fault(
        "M-125", "every draw is the first", "a counter that nobody advances",
        numbered(index=lambda c: 0)),
    "draw_one_late": Fault(
        "M-125", "the counter begins at 1", "advanced before, not after",
        numbered(index=lambda c: len(c.ids) + 1)),
    "draw_by_position": Fault(
        "M-125", "the counter counts the prompt, too", "position for draw",
        numbered(index=lambda c: len(c.counted()))),
    "number_half": Fault(
        "M-125", "the number is 0.5 each time", "a generator that is not there",
        {"number": lambda right, c: 0.5}),
    "one_minus_number": Fault(
        "M-125", "one less the number", "a running sum from the other end",
        {"number": lambda right, c: 1 - 2.0**-24 - right()}),
    "by_falling_probability": Fault(
        "M-125", "the running sum falls by probability", "a sorted list at hand",
        {"pick": by_falling}),
    "first_for_draw": Fault(
        "M-125", "the first of the largest", "greedy whatever is asked",
        {"pick": lambda right, c, row: int(row.argmax())}),
    # the chain
    "temperature_ignored": Fault(
        "M-121", "the temperature is 1", "a setting that is not passed", without("temperature", 1),
        needs=has("temperature")),
    "temperature_multiplied": Fault(
        "M-121", "times the temperature", "the wrong way round",
        setting("temperature", lambda t: 1 / t), needs=has("temperature")),
    "temperature_after_filters": Fault(
        "M-121", "filters before the temperature", "another engine's order",
        {"filtered": filters_first}),
    "penalty_ignored": Fault(
        "M-124", "nothing is penalised", "a setting that is not passed",
        without("repetition_penalty", 1), needs=has("repetition_penalty")),
    "penalty_prompt_forgotten": Fault(
        "M-124", "ids of the prompt are not penalised", "bits that prefill does not set",
        {"counted": lambda right, c: c.ids}, needs=has("repetition_penalty")),
    "penalty_text_forgotten": Fault(
        "M-124", "ids of the text are not penalised", "bits that decode does not set",
        {"counted": lambda right, c: c.prompt}, needs=has("repetition_penalty")),
    "penalty_last": Fault(
        "M-124", "the penalty behind the filters", "another order", {"filtered": penalty_last},
        needs=has("repetition_penalty")),
    "top_k_ignored": Fault(
        "M-120", "top_k keeps all", "a setting that is not passed", without("top_k", 0),
        needs=has("top_k")),
    "top_k_one_more": Fault(
        "M-120", "top_k keeps one more", "<= for <", setting("top_k", lambda k: k + 1),
        needs=has("top_k")),
    "top_k_one_less": Fault(
        "M-120", "top_k keeps one less", "the same from the other side",
        setting("top_k", lambda k: k - 1), needs=has("top_k")),
    "top_p_ignored": Fault(
        "M-120", "top_p keeps all", "a setting that is not passed", without("top_p", 1),
        needs=has("top_p")),
    "top_p_crossing_left_out": Fault(
        "M-120", "the last one that is kept is left out", "< for <= of the sum before",
        {"kept": crossing_left_out}, needs=has("top_p")),
    "min_p_ignored": Fault(
        "M-120", "min_p keeps all", "a setting that is not passed", without("min_p", 0),
        needs=has("min_p")),
    # the end
    "stop_id_handed_out": Fault(
        "M-126", "the token that ends the text goes out", "told before it is looked at",
        writer={"handed_out": whole}, needs=ends("stop_ids")),
    "stop_id_one_late": Fault(
        "M-126", "one token more behind the one that ends", "looked at a step later",
        writer={"ending": late}, needs=ends("stop_ids")),
    "stop_id_ignored": Fault(
        "M-126", "no token ends the text", "a list that is not passed",
        writer={"ending": lambda right, w, ids: False}, needs=ends("stop_ids")),
    "stop_text_not_cut": Fault(
        "M-126", "the stop text goes out", "what was told cannot be taken back",
        writer={"handed_out": whole}, needs=ends("stop")),
    "stop_text_ids_not_cut": Fault(
        "M-126", "the ids of the stop text go out", "the text alone is cut",
        writer={"handed_out": ids_whole}, needs=ends("stop")),
    "stop_text_cut_behind": Fault(
        "M-126", "the cut is behind the stop text", "the place where it was found",
        writer={"cut": behind}, needs=ends("stop")),
    "stop_text_inside_tokens": Fault(
        "M-126", "a stop text across two tokens is not seen", "each token's text by itself",
        writer={"found": inside_tokens}, needs=ends("stop")),
    "stop_text_at_the_end": Fault(
        "M-126", "a stop text inside a token is not seen", "only the end is looked at",
        writer={"found": at_the_end}, needs=ends("stop")),
    "one_token_more": Fault(
        "M-126", "one token more than asked for", "<= for <",
        writer={"most": lambda right, w: right() + 1}, needs=lambda ask: True),
    "one_token_less": Fault(
        "M-126", "one token less than asked for", "the prompt's own token is counted",
        writer={"most": lambda right, w: right() - 1}, needs=lambda ask: True),
    "room_one_less": Fault(
        "M-126", "the last place of the context stays empty", "< for <=",
        writer={"room": lambda right, w: right() - 1}, needs=ends("context")),
    "room_one_more": Fault(
        "M-126", "one token beyond the context", "it is never fed, so nothing breaks",
        writer={"room": lambda right, w: right() + 1}, needs=ends("context")),
    "reason_length": Fault(
        "M-126", "length for whatever ended it", "one reason for all",
        writer={"reason": said_as}, needs=lambda ask: True),
}


def exists(name: str, ask: dict) -> bool:
    """Whether a question can have the fault."""
    return name in WRONG and WRONG[name].needs(ask)


def method(kind: type, change: Callable, name: str) -> Callable:
    """`change` as a method: it is handed the right one, bound."""
    return lambda self, *given: change(getattr(kind, name).__get__(self), self, *given)


def changed(kind: type, changes: dict[str, Callable]) -> type:
    """The class with some of its methods replaced."""
    return type(f"Wrong{kind.__name__}", (kind,),
                {name: method(kind, change, name) for name, change in changes.items()})


def broken(ask: dict, prompt: np.ndarray, said: Callable, name: str) -> Writer:
    """The writer of a question with the fault of that name."""
    fault = WRONG[name]
    writer = changed(Writer, fault.writer)(ask, prompt, said)
    writer.choice.__class__ = changed(Choice, fault.choice)
    return writer
