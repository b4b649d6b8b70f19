"""Holds docs/adapters/goldwire.py to docs/wire.md: what the harness has exchanged before is read
and written again, and a subject is asked what a harness would never ask. Ends with 0 if all holds."""
import json
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[4]
sys.path.insert(0, str(ROOT / "docs/adapters"))

from goldwire import Stored, bf16, build, floats, parse, strict


def frame(text: str, header: bytes | None = None) -> bytes:
    """A frame whose JSON is this text, or whose whole header is."""
    header = header or json.dumps({"__metadata__": {"goldgate": text}}).encode()
    buffer = struct.pack("<Q", len(header)) + header
    return struct.pack("<Q", len(buffer)) + buffer


def frames(data: bytes):
    """Each message of a stream, and its tensors."""
    while data:
        size = struct.unpack("<Q", data[:8])[0]
        metadata, tensors = parse(data[8:8 + size])
        yield strict(metadata["goldgate"]), tensors
        data = data[8 + size:]


def same(x, y) -> bool:
    if isinstance(x, Stored):
        return (x.type, x.shape) == (y.type, y.shape) and same(x.bits, y.bits)
    return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()


def recorded() -> None:
    """Every frame that was recorded means the same once it has been written again."""
    count = 0
    for path in sorted((ROOT / "harness/wire/tests/frames").glob("*.bin")):
        for message, tensors in frames(path.read_bytes()):
            metadata, again = parse(build({"goldgate": json.dumps(message)}, tensors))
            assert strict(metadata["goldgate"]) == message, message
            assert tensors.keys() == again.keys(), message
            assert all(same(tensors[name], again[name]) for name in tensors), message
            count += 1
    assert count > 100, count


def rounded() -> None:
    """bf16 rounds to nearest, ties to even, and keeps infinities, signs and NaN."""
    given = np.array([1.00390625, 1.01171875, -0.0, np.inf, -np.inf, np.nan, 1e-40], np.float32)
    bits = bf16(given).bits
    assert bits[:5].tolist() == [0x3F80, 0x3F82, 0x8000, 0x7F80, 0xFF80], bits
    assert np.isnan(floats(bf16(given))[5]) and bits[6] == 1, bits


def ask(questions: list[bytes]):
    """Exit status and answers of the subject in numpy."""
    script = ROOT / "docs/adapters/my_engine.py"
    run = subprocess.run([sys.executable, script], input=b"".join(questions), capture_output=True)
    return run.returncode, list(frames(run.stdout))


def conversation(scratch: str) -> None:
    """Malformed frames cost one question each, and half a frame is the end."""
    for name, rows in (("question", 2), ("large", 200_000)):
        x, gamma = np.ones((rows, 3), np.float32), np.ones(3, np.float32)
        operands = build({}, {"x": x, "gamma": gamma, "beta": 0 * gamma})
        Path(scratch, f"{name}.safetensors").write_bytes(operands)
    hello = {"id": 0, "call": "hello", "wire": [1], "scratch": scratch, "max_frame": 2 << 20}
    op = {"call": "op", "op": "layernorm", "dtype": "f32", "attr": {"eps": 1e-5}, "unknown": 1}
    asked = [
        (frame(json.dumps(hello)), "ok"),
        (frame('{"id": 1, "call": "ping", "unknown": 1}'), "ok"),
        (frame('{"id": 2, "call": "ping", "x": NaN}'), "bad_request"),
        (frame('{"id": 3, "id": 3, "call": "ping"}'), "bad_request"),
        (frame("", header=b"{"), "bad_request"),
        (struct.pack("<Q", 3 << 20) + bytes(3 << 20), "bad_request"),
        (frame(json.dumps({"id": 6, **op, "attach": "question.safetensors"})), "ok"),
        (frame(json.dumps({"id": 7, **op, "attach": "../question.safetensors"})), "bad_request"),
        (frame(json.dumps({"id": 8, **op})), "OperandMissing"),
        (frame(json.dumps({"id": 9, **op, "dtype": 3})), "bad_request"),
        (frame(json.dumps({"id": 10, "call": "no_such_call"})), "unsupported"),
        (frame(json.dumps({"id": 11, **op, "attach": "large.safetensors"})), "ok"),
        (b"\5\0\0", None),
    ]
    status, answers = ask([question for question, _ in asked])
    assert status == 0 and len(answers) == len(asked) - 1, (status, answers)
    for i, ((answer, _), (_, expected)) in enumerate(zip(answers, asked)):
        body = {k: v for k, v in answer.items() if k not in ("id", "attach")}
        (key, value), = body.items()
        word = value.get("class") or value.get("kind") or key
        assert (answer["id"], word) == (i, expected), answer
    assert answers[6][1]["y"].shape == (2, 3), answers[6]
    # Questions that came by file are gone; the answer that needs one has left its own.
    assert os.listdir(scratch) == [answers[11][0]["attach"]], answers[11]
    large = parse(Path(scratch, answers[11][0]["attach"]).read_bytes())[1]
    assert large["y"].shape == (200_000, 3), large


recorded()
rounded()
with tempfile.TemporaryDirectory() as folder:
    conversation(folder)
status, answers = ask([frame('{"id": 0, "call": "hello", "wire": [2]}')])
assert status != 0 and answers[0][0]["failed"]["class"] == "bad_request", answers
