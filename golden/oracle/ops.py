"""The oracle for ops: speaks docs/wire.md on stdin and stdout; numpy, float64.

A question with the key `golden` is answered by the unrounded golden (F64), its slack, the terms
of kept roundings and the answers of wrong formulas. Without it the oracle is a plain subject:
results rounded once to their stored types.
"""

import hashlib
import json
import sys
from pathlib import Path

import packages

packages.need("requirements.txt", "numpy")

import numpy as np

import activations
import attention
import declared
import experts
import norms
import positions
import products
import sampling
import witness
import wrong_activations
import wrong_attention
import wrong_experts
import wrong_norms
import wrong_positions
import wrong_products
import wrong_sampling
from answer import Answer
from signature import SIGNATURES, WEIGHTS, Question, Refused
from slack import UNIT
from stored import FLOATS, narrow
from wire import Raw, Wire

ANSWERS = {
    "advance": sampling.answer_advance,
    "argmax": sampling.answer_argmax,
    "attention_decode": attention.answer_attention_decode,
    "attention_prefill": attention.answer_attention_prefill,
    "dequantize": products.answer_dequantize,
    "embedding": products.answer_embedding,
    "ffn_gelu": products.answer_ffn_gelu,
    "ffn_swiglu": products.answer_ffn_swiglu,
    "gelu": activations.answer_gelu,
    "kv_append": attention.answer_kv_append,
    "layernorm": norms.answer_layernorm,
    "layernorm_residual": norms.answer_layernorm_residual,
    "linear": products.answer_linear,
    "min_p": sampling.answer_chain,
    "moe_ffn": experts.answer_moe_ffn,
    "moe_router": experts.answer_moe_router,
    "positional": positions.answer_positional,
    "positional_extract": positions.answer_positional_extract,
    "repetition_penalty": sampling.answer_chain,
    "residual": activations.answer_residual,
    "rmsnorm": norms.answer_rmsnorm,
    "rmsnorm_residual": norms.answer_rmsnorm_residual,
    "rope": positions.answer_rope,
    "rows": products.answer_rows,
    "sample": sampling.answer_sample,
    "softmax": norms.answer_softmax,
    "swiglu": activations.answer_swiglu,
    "swiglu_clamped": activations.answer_swiglu_clamped,
    "temperature": sampling.answer_chain,
    "top_k": sampling.answer_chain,
    "top_p": sampling.answer_chain,
}
WRONG = {
    **wrong_activations.WRONG,
    **wrong_attention.WRONG,
    **wrong_experts.WRONG,
    **wrong_norms.WRONG,
    **wrong_positions.WRONG,
    **wrong_products.WRONG,
    **wrong_sampling.WRONG,
}
VERSION = "0.1.0"


def script_hash() -> str:
    """SHA-256 over every script of the oracle that ops need, in the order of their names."""
    here = Path(__file__).resolve().parent
    files = (getattr(m, "__file__", None) for m in list(sys.modules.values()))
    needed = {p for p in (Path(f).resolve() for f in files if f) if p.parent == here}
    digest = hashlib.sha256()
    for path in sorted(needed | {here / "ops.py", here / "witness.py"}):
        digest.update(path.name.encode() + b"\n" + path.read_bytes())
    return digest.hexdigest()


SCRIPT = script_hash()


def hello() -> dict:
    """What the oracle offers: every op, every dtype, every weight type, its wrong formulas."""
    ops = {}
    for op in ANSWERS:
        ops[op] = {"dtypes": list(FLOATS)}
        if " W " in SIGNATURES[op][0]:
            ops[op]["weights"] = list(WEIGHTS)
    return {
        "wire": 1,
        "subject": {"name": "goldgate-oracle", "version": VERSION, "build": SCRIPT[:16]},
        "device": {"kind": "cpu"},
        "calls": ["op", "ping"],
        "ops": ops,
        "max_frame": 1 << 30,
        "wrong": {op: sorted(WRONG.get(op, {})) for op in ANSWERS},
    }


def evaluate(ask: dict, tensors: dict[str, Raw]) -> tuple[Question, Answer]:
    """The checked question and its answer."""
    question = Question(ask, tensors)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return question, ANSWERS[question.op](question)


def finite_f32(values: np.ndarray) -> np.ndarray:
    """Slack as F32; where the golden is no number nothing is allowed."""
    with np.errstate(over="ignore"):
        f = np.asarray(values, dtype=np.float64).astype(np.float32)
    return np.nan_to_num(f, nan=0.0, posinf=np.float32(3.4e38))


def golden(question: Question, answer: Answer) -> tuple[dict, dict[str, Raw]]:
    """The golden's `ok` object and tensors."""
    out: dict[str, Raw] = {}

    def put(name: str, stored: str, array) -> None:
        array = np.ascontiguousarray(array)
        out[name] = Raw(stored, array.shape, array)

    for name, result in answer.results.items():
        ids = result.stored == "i32"
        put(name, "i32" if ids else "f64", result.values)
        if result.decided is not None:
            put(f"{name}.decided", "u8", result.decided.astype(np.uint8))
        for place, ratio in result.shaky.items():
            put(f"{name}.shaky.{place}", "f32", finite_f32(UNIT * ratio))
        if ids:
            continue
        put(f"{name}.slack", "f32", finite_f32(result.slack))
        for kept in question.keeps:
            if kept in result.keeps:
                put(f"{name}.keeps.{kept}", "f32", finite_f32(UNIT * 4 * result.keeps[kept]))
        if result.declared is None:
            continue
        for place, term in result.declared.terms.items():
            put(f"{name}.declared.{place}", "f32", finite_f32(UNIT * term.bound()))
            put(f"{name}.gain.{place}", "f64", np.array([declared.root(term.gain)]))
    for mistake in question.wrong:
        with np.errstate(all="ignore"):
            wrong = WRONG[question.op][mistake](question)
        for name, values in wrong.items():
            ids = answer.results[name].stored == "i32"
            put(f"wrong.{mistake}.{name}", "i32" if ids else "f64", values)
    witnesses = [{"name": "formula", "version": f"numpy {np.__version__}", "script": SCRIPT}]
    witnesses += witness.second(question, answer)
    return {"exact": bool(answer.exact), "witnesses": witnesses}, out


def plain(answer: Answer) -> dict[str, Raw]:
    """The results of a subject: each rounded once to its stored type."""
    out = {}
    for name, result in answer.results.items():
        values = np.asarray(result.values)
        bits = values.astype(np.int32) if result.stored == "i32" else narrow(values, result.stored)
        out[name] = Raw(result.stored, bits.shape, bits)
    return out


def respond(ask: dict, tensors: dict[str, Raw]) -> tuple[dict, dict[str, Raw]]:
    """The answer to one message."""
    head = {"id": ask.get("id")}
    call = ask.get("call")
    if call == "hello":
        return {**head, "ok": hello()}, {}
    if call == "ping":
        return {**head, "ok": {}}, {}
    if call != "op" or ask.get("op") not in ANSWERS or ask.get("dtype") not in FLOATS:
        what = " ".join(str(ask.get(k, "")) for k in ("call", "op", "dtype"))
        return {**head, "unsupported": {"what": what}}, {}
    unknown = set((ask.get("golden") or {}).get("wrong", [])) - set(WRONG.get(ask["op"], {}))
    if unknown:
        return {**head, "unsupported": {"what": f"wrong formulas {sorted(unknown)}"}}, {}
    try:
        question, answer = evaluate(ask, tensors)
    except Refused as refused:
        details = {k: getattr(refused, k) for k in ("kind", "operand", "message")}
        return {**head, "refused": details}, {}
    if "golden" not in ask:
        return {**head, "ok": {}}, plain(answer)
    ok, out = golden(question, answer)
    return {**head, "ok": ok}, out


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
    if sys.argv[1:] == ["--hello"]:
        print(json.dumps(hello(), indent=1))
    else:
        main()
