"""How the next token of a text is chosen, and how firmly.

The chain is that of the vocabulary's ops (sampling.py): repetition_penalty over the ids of the
prompt and of the text so far, temperature, top_k, top_p, min_p, and a draw by Philox with the
seed as key and the number of the draw as counter. Temperature 0 takes the first of the largest.

The *margin* of a choice is twice the largest d for which no logits that are each within d of the
reference's lead to another id. Of a greedy choice that is the first logit less the second. Of a
draw it is found by halving an interval: `Bounds` follows the lowest and the highest value of every
logit through the chain, which ids are kept for certain and which perhaps, and at last how far the
edges of the chosen id's share of [0, 1) can move.
"""

import math
from dataclasses import dataclass

import numpy as np

from sampling import (
    draw,
    min_p,
    number_below_one,
    repetition_penalty,
    softmax,
    temperature,
    top_k,
    top_p,
)

USUAL = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0,
         "seed": 0}
HALVINGS = 40


def before(x: np.ndarray, weights: np.ndarray, edges: np.ndarray, side: str) -> np.ndarray:
    """For each edge the sum of weights of those x that lie above it; with `right` not those at
    it."""
    order = np.argsort(x, kind="stable")
    total = np.concatenate([[0.0], np.cumsum(weights[order])])
    return total[-1] - total[np.searchsorted(x[order], edges, side=side)]


def largest_other(x: np.ndarray, among: np.ndarray) -> np.ndarray:
    """For each place the largest x among the others; -inf where there is none."""
    x = np.where(among, x, -np.inf)
    first = int(x.argmax())
    rest = np.delete(x, first)
    out = np.full(len(x), x[first])
    out[first] = rest.max() if len(rest) else -np.inf
    return out


@dataclass
class Bounds:
    """The lowest and highest value of every logit, and who is kept certainly or perhaps."""

    low: np.ndarray
    high: np.ndarray
    sure: np.ndarray
    maybe: np.ndarray

    def top_k(self, k: int) -> None:
        """Sure: fewer than k others can be ahead; out: k others are."""
        one = np.ones(len(self.low))
        can = before(self.high, one, self.low, "left") - 1
        must = before(self.low, one, self.high, "right")
        self.sure &= can < k
        self.maybe &= must < k

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and the most that each id weighs; not kept is 0."""
        most = self.high[self.maybe].max()
        low, high = np.exp(self.low - most), np.exp(self.high - most)
        return np.where(self.sure, low, 0.0), np.where(self.maybe, high, 0.0)

    def top_p(self, p: float) -> None:
        """Sure: the mass ahead is below p at its most; out: it is not even at its least."""
        least, most = self.weights()
        own_least = np.exp(self.low - self.high[self.maybe].max())
        own_most = np.exp(self.high - self.high[self.maybe].max())
        # whoever may be ahead weighs the most, who cannot be the least, and the other way round
        can = before(self.high, most, self.low, "left") - most
        behind = least.sum() - before(self.high, least, self.low, "left")
        must = before(self.low, least, self.high, "right")
        after = most.sum() - before(self.low, most, self.high, "right") - most
        can = np.maximum(can, 0.0)
        at_most = can / (can + own_least + np.maximum(behind, 0.0))
        at_least = must / (must + own_most + np.maximum(after, 0.0))
        self.sure &= (at_most < p) | (can <= 0)
        self.maybe &= (at_least < p) | (must <= 0)

    def min_p(self, share: float) -> None:
        """Sure: above the edge however high the largest is; out: below it however low."""
        edge = math.log(share)
        self.sure, self.maybe = (
            self.sure & (self.low >= largest_other(self.high, self.maybe) + edge),
            self.maybe & (self.high >= largest_other(self.low, self.sure) + edge),
        )

    def draws(self, chosen: int, u: float) -> bool:
        """Whether u falls to `chosen` wherever the edges of its share lie."""
        if not self.sure[chosen]:
            return False
        least, most = self.weights()
        under = most[:chosen].sum()
        over = most[chosen + 1 :].sum()
        lower = under / (under + least[chosen:].sum())
        held = least[: chosen + 1].sum()
        return bool(lower <= u < held / (held + over))


class Choice:
    """The choices of one text: what a seed, a prompt and the settings say. `sampling` has the
    names of `generate`; `ids` are the text so far."""

    def __init__(self, sampling: dict, prompt: np.ndarray):
        self.settings = USUAL | sampling
        self.prompt = [int(i) for i in prompt]
        self.ids: list[int] = []

    def setting(self, name: str) -> float:
        """A setting, or what it is where nobody says."""
        return self.settings[name]

    def counted(self) -> list[int]:
        """The ids that are penalised."""
        return [*self.prompt, *self.ids]

    def penalised(self, row: np.ndarray) -> np.ndarray:
        """Logits after the penalty."""
        value = self.setting("repetition_penalty")
        seen = np.zeros(len(row), dtype=bool)
        seen[self.counted()] = True
        return row if value == 1 else repetition_penalty(row, seen, value)

    def cooled(self, row: np.ndarray) -> np.ndarray:
        """Logits over the temperature, which is not 0."""
        return temperature(row, self.setting("temperature"))

    def kept(self, row: np.ndarray) -> np.ndarray:
        """Logits of those that the filters keep; the others are -inf."""
        row = top_p(top_k(row, self.setting("top_k")), self.setting("top_p"))
        return min_p(row, self.setting("min_p"))

    def filtered(self, row: np.ndarray) -> np.ndarray:
        """Logits as the draw has them."""
        return self.kept(self.cooled(self.penalised(row)))

    def number(self) -> float:
        """The number below one of the draw that comes."""
        return number_below_one(self.setting("seed"), len(self.ids))

    def pick(self, row: np.ndarray) -> int:
        """The id that a draw among filtered logits gives."""
        return draw(softmax(row), self.number())[0]

    def next(self, row: np.ndarray) -> int:
        """The id that follows; `row` [v] has the model's logits."""
        greedy = self.setting("temperature") == 0
        return int(self.penalised(row).argmax()) if greedy else self.pick(self.filtered(row))

    def firm(self, row: np.ndarray, chosen: int, d: float) -> bool:
        """Whether `chosen` comes of all logits within d of `row`."""
        low, high = self.penalised(row - d), self.penalised(row + d)
        if self.setting("temperature") == 0:
            return bool(low[chosen] > np.delete(high, chosen).max())
        heat, every = self.setting("temperature"), np.ones(len(row), dtype=bool)
        bounds = Bounds(low / heat, high / heat, every, every.copy())
        if self.setting("top_k"):
            bounds.top_k(self.setting("top_k"))
        if self.setting("top_p") < 1:
            bounds.top_p(self.setting("top_p"))
        if self.setting("min_p"):
            bounds.min_p(self.setting("min_p"))
        return bounds.draws(chosen, self.number())

    def margin(self, row: np.ndarray, chosen: int) -> float:
        """Twice the largest move of every logit that changes nothing."""
        least, most = 0.0, float(np.ptp(row)) + 1.0
        for _ in range(HALVINGS):
            half = (least + most) / 2
            least, most = (half, most) if self.firm(row, chosen, half) else (least, half)
        return 2 * least
