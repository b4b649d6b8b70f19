"""A text that goes on: what is chosen, what ends it, and what of it is handed out (docs/wire.md).

- A token of `stop_ids` ends the text and is not handed out: `eos`.
- A text of `stop` ends it with the token that makes it whole: `stop`. What is handed out is cut
  before the first of them, and the ids are those whose bytes begin before the cut.
- As many tokens as were asked for: `length`.
- The context is full of prompt and text: `context`.

Where several hold, the first of this list is the reason.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from choices import Choice
from reference import Cache, Reference


@dataclass
class Written:
    """A text: every id that was chosen, with the logits that it was chosen from and its margin;
    how many of the ids are handed out, as what bytes, and why it ended."""

    ids: list[int] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    told: int = 0
    text: bytes = b""
    stop: str = ""


class Writer:
    """Writes one text. `ask` is a question of kind generation, `prompt` its ids, `said` gives the
    bytes of ids; a fault of wrong_texts.py replaces a method."""

    def __init__(self, ask: dict, prompt: np.ndarray, said: Callable[[list[int]], bytes]):
        self.choice = Choice(ask.get("sampling", {}), prompt)
        self.prompt, self.said = prompt, said
        self.stop = [text.encode() for text in ask.get("stop", [])]
        self.stop_ids = ask.get("stop_ids", [])
        self.context = ask.get("context")
        self.tokens = ask["max_tokens"]

    def most(self) -> int:
        """The most tokens that are asked for."""
        return self.tokens

    def room(self) -> float:
        """The most tokens that the context holds behind the prompt."""
        return np.inf if self.context is None else self.context - len(self.prompt)

    def ending(self, ids: list[int]) -> bool:
        """Whether the last id is one that ends the text."""
        return ids[-1] in self.stop_ids

    def found(self, ids: list[int]) -> bool:
        """Whether the text holds a stop text."""
        text = self.said(ids) if self.stop else b""
        return any(stop in text for stop in self.stop)

    def reason(self, ids: list[int]) -> str:
        """Why a text ends here; empty where it goes on."""
        if self.ending(ids):
            return "eos"
        if self.found(ids):
            return "stop"
        if len(ids) == self.most():
            return "length"
        return "context" if len(ids) == self.room() else ""

    def cut(self, text: bytes) -> int:
        """The place of the first stop text."""
        return min(at for stop in self.stop if (at := text.find(stop)) >= 0)

    def handed_out(self, ids: list[int], reason: str) -> tuple[int, bytes]:
        """How many ids go out, and the text."""
        if reason == "eos":
            return len(ids) - 1, self.said(ids[:-1])
        text = self.said(ids)
        if reason != "stop":
            return len(ids), text
        cut = self.cut(text)
        begins = [len(self.said(ids[:i])) for i in range(len(ids))]
        return sum(begin < cut for begin in begins), text[:cut]

    def write(self, model: Reference, margins: bool = False) -> Written:
        """The text after the prompt."""
        out, cache = Written(), Cache()
        row = model.forward(self.prompt, cache)[-1]
        while not out.stop:
            chosen = self.choice.next(row)
            out.rows.append(row)
            out.margins.append(self.choice.margin(row, chosen) if margins else 0.0)
            out.ids.append(chosen)
            self.choice.ids = out.ids
            out.stop = self.reason(out.ids)
            if not out.stop:
                row = model.forward([chosen], cache)[-1]
        out.told, out.text = self.handed_out(out.ids, out.stop)
        return out
