"""What an op answers: results with slack, kept roundings, and which elements are decided."""

from dataclasses import dataclass, field

import numpy as np

from declared import Declared


@dataclass
class Result:
    """A result: values float64 or ids, its stored type, and what is allowed (specs/README.md)."""

    values: np.ndarray
    stored: str
    slack: np.ndarray | None = None
    keeps: dict[str, np.ndarray] = field(default_factory=dict)
    decided: np.ndarray | None = None
    declared: Declared | None = None
    shaky: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class Answer:
    """Results by name, and whether every product and partial sum is exact."""

    results: dict[str, Result]
    exact: bool


def one(name: str, values, stored: str, slack=0.0, exact: bool = False, **more) -> Answer:
    """An answer with a single floating result."""
    slack = np.broadcast_to(np.asarray(slack, dtype=np.float64), np.shape(values))
    return Answer({name: Result(values, stored, slack, **more)}, exact)
