"""Wrong rules of arithmetic for every op that adds or compares; speaks docs/wire.md as ops.py does.

A question names a `rule`, and is answered by the op's own formula on arrays whose sums or
comparisons go wrong by that rule: no formula is written twice. The harness plants these answers
(specs/README.md, Generated faults). Nothing here makes a golden, and ops.py does not import it.

| rule | what goes wrong |
|---|---|
| sum.f16, sum.bf16 | sums are accumulated in that type, by chunks of 32 terms |
| sum.last | sums leave out their last term |
| compare.strict | < is <=, > is >=, and the other way round |
"""

import packages

packages.need("requirements.txt", "numpy")

import numpy as np

import ops
from signature import Question, Refused
from stored import rounded
from wire import Raw, Wire

CHUNK = 32
RULES = ("sum.f16", "sum.bf16", "sum.last", "compare.strict")
OTHER = {
    np.less: np.less_equal,
    np.less_equal: np.less,
    np.greater: np.greater_equal,
    np.greater_equal: np.greater,
}


def total(terms: np.ndarray, axis: int, rule: str) -> np.ndarray:
    """The wrong sum of `terms` along `axis`."""
    terms = np.moveaxis(terms, axis, -1)
    if rule == "sum.last":
        # A sum of one term has no other one to be left with.
        return terms[..., :-1].sum(-1) if terms.shape[-1] > 1 else terms.sum(-1)
    stored = rule.removeprefix("sum.")
    sums = np.zeros(terms.shape[:-1])
    for at in range(0, terms.shape[-1], CHUNK):
        chunk = rounded(terms[..., at : at + CHUNK].sum(-1), stored)
        sums = rounded(sums + chunk, stored)
    return sums


def running(terms: np.ndarray, axis: int, rule: str) -> np.ndarray:
    """The wrong running sums of `terms` along `axis`."""
    terms = np.moveaxis(terms, axis, -1)
    if rule == "sum.last":
        sums = np.cumsum(terms, -1)
        if terms.shape[-1] > 1:
            sums[..., -1] = sums[..., -2]
    else:
        stored = rule.removeprefix("sum.")
        sums = np.empty(terms.shape)
        carried = np.zeros(terms.shape[:-1])
        for at in range(0, terms.shape[-1], CHUNK):
            part = np.cumsum(terms[..., at : at + CHUNK], -1)
            sums[..., at : at + CHUNK] = rounded(carried[..., None] + part, stored)
            carried = sums[..., min(at + CHUNK, terms.shape[-1]) - 1]
    return np.moveaxis(sums, -1, axis)


def product(a: np.ndarray, b: np.ndarray, rule: str) -> np.ndarray:
    """The wrong matrix product a [..., k] · b [k, o]."""
    k = a.shape[-1]
    if rule == "sum.last":
        return a[..., :-1] @ b[:-1] if k > 1 else a @ b
    stored = rule.removeprefix("sum.")
    sums = 0.0
    for at in range(0, k, CHUNK):
        chunk = rounded(a[..., at : at + CHUNK] @ b[at : at + CHUNK], stored)
        sums = rounded(sums + chunk, stored)
    return sums


def plain(value):
    """The array without its rule, also in a list of arrays."""
    if isinstance(value, (list, tuple)):
        return type(value)(plain(x) for x in value)
    return value.view(np.ndarray) if isinstance(value, Wrong) else value


class Wrong(np.ndarray):
    """An array whose sums or comparisons go wrong; what is computed from it is one too."""

    rule = ""

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **more):
        arrays = [plain(x) for x in inputs]
        if out is not None:
            more["out"] = tuple(plain(x) for x in out)
        result = self.apply(ufunc, method, arrays, more)
        is_array = isinstance(result, np.ndarray) and result.dtype.kind == "f"
        return result.view(Wrong) if is_array else result

    def apply(self, ufunc, method, arrays, more):
        """A ufunc, wrongly where the rule concerns it."""
        real = all(getattr(x, "dtype", np.dtype(float)).kind == "f" for x in arrays)
        sums = Wrong.rule.startswith("sum.") and real
        if sums and ufunc is np.add and method == "reduce":
            axis = more.get("axis", arrays[1] if len(arrays) > 1 else 0)
            terms = arrays[0] if axis is not None else arrays[0].reshape(-1)
            axis = -1 if axis is None else axis[0] if isinstance(axis, tuple) else axis
            result = total(terms, axis, Wrong.rule)
            return np.expand_dims(result, axis) if more.get("keepdims") else result
        if sums and ufunc is np.add and method == "accumulate":
            return running(arrays[0], more.get("axis", 0), Wrong.rule)
        if sums and ufunc is np.matmul and arrays[1].ndim == 2:
            return product(*arrays, Wrong.rule)
        if Wrong.rule == "compare.strict" and method == "__call__":
            ufunc = OTHER.get(ufunc, ufunc)
        return getattr(ufunc, method)(*arrays, **more)

    def __array_function__(self, function, types, arguments, more):
        if function is np.cumsum and Wrong.rule.startswith("sum."):
            terms, axis = plain(arguments[0]), more.get("axis", -1)
            return running(terms, axis, Wrong.rule).view(Wrong)
        if function is np.searchsorted and Wrong.rule == "compare.strict":
            other = {"left": "right", "right": "left"}
            more = {**more, "side": other[more.get("side", "left")]}
        arguments = [plain(x) for x in arguments]
        return function(*arguments, **{name: plain(x) for name, x in more.items()})


class WrongQuestion(Question):
    """A question whose floating operands are wrong arrays."""

    def __getitem__(self, name: str) -> np.ndarray:
        values = super().__getitem__(name)
        return values.view(Wrong) if values.dtype.kind == "f" else values


def respond(ask: dict, tensors: dict[str, Raw]) -> tuple[dict, dict[str, Raw]]:
    """The answer to one message."""
    if ask.get("call") != "op" or ask.get("rule") not in RULES:
        return ops.respond(ask, tensors)
    head = {"id": ask.get("id")}
    Wrong.rule = ask["rule"]
    try:
        with np.errstate(all="ignore"):
            answer = ops.ANSWERS[ask["op"]](WrongQuestion(ask, tensors))
            for result in answer.results.values():
                result.values = plain(result.values)
            return {**head, "ok": {}}, ops.plain(answer)
    except Refused as refused:
        details = {k: getattr(refused, k) for k in ("kind", "operand", "message")}
        return {**head, "refused": details}, {}


def main() -> None:
    """Answers until the other side closes the pipe."""
    wire = Wire()
    while (message := wire.read()) is not None:
        ask, tensors = message
        try:
            reply = respond(ask, tensors)
        except Exception as error:  # a fault of ours is an answer too, and the wire lives on
            failed = {"class": "internal", "sticky": False, "message": repr(error)}
            reply = {"id": ask.get("id"), "failed": failed}, {}
        wire.write(*reply)


if __name__ == "__main__":
    main()
