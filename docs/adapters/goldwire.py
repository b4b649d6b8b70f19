"""The wire (docs/wire.md) for subjects in Python: frames, hello, the four answers, events.

    from goldwire import Subject, Unsupported

    subject = Subject("mine", "0.1")

    @subject.call("tokenize")
    def tokenize(text: np.ndarray, path: str | None = None, add_special: bool = False):
        return {}, {"ids": np.array(engine.encode(bytes(text)), np.int32)}

    subject.run()

A function takes the fields and tensors of its question by name; those that it does not name are
dropped, as the wire wants. It returns `ok` fields, or a pair of fields and tensors, or raises
Refused, Unsupported or Failed. Whatever else it raises is reported as `failed`.
"""
import inspect
import json
import os
import struct
import sys
import traceback
from types import NoneType, UnionType
from typing import Any, Callable, NamedTuple, get_args, get_origin, get_type_hints

import numpy as np

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I32": "<i4", "U8": "u1"}
FIRST_FRAME, MAX_FRAME = 64 << 20, 1 << 30  # bytes: before hello is answered, and afterwards
MAX_JSON = 1 << 20  # bytes of the JSON of one message


class Stored(NamedTuple):
    """A tensor of a type that numpy lacks: its name on the wire (`bf16`, `q4_k`, …), its logical
    shape, and its bits (uint16 of that shape for bf16, uint8 [rows, bytes per row] for blocks)."""
    type: str
    shape: tuple
    bits: np.ndarray


class Refused(Exception):
    """The question is malformed. `place` holds `code file offset field found expected`, for
    files, and `observed`."""

    def __init__(self, kind: str, operand: str, message: str, **place):
        super().__init__(message)
        self.body = {"kind": kind, "operand": operand, "message": message, **place}


class Unsupported(Exception):
    """A fair question that this engine does not offer. The text says what it would need."""


class Failed(Exception):
    """It tried and could not: `oom device io cancelled bad_request internal`. `sticky` asks the
    harness for another process, where this one can do no more."""

    def __init__(self, kind: str, message: str, sticky: bool = False):
        super().__init__(message)
        self.body = {"class": kind, "sticky": sticky, "message": message}


def floats(x) -> np.ndarray:
    """A float tensor as float32, or float64 where it is that; bf16 is widened exactly."""
    if isinstance(x, Stored):
        if x.type != "bf16":
            raise Unsupported(f"operands in {x.type}")
        return (x.bits.astype(np.uint32) << 16).view(np.float32)
    return x if x.dtype == np.float64 else x.astype(np.float32)


def bf16(x: np.ndarray) -> Stored:
    """Float32 numbers rounded to bf16, to nearest and ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    # Rounding up the bits of a NaN could carry into the sign and make a zero of it.
    rounded = np.where(np.isnan(x), bits >> 16 | 0x40, rounded)
    return Stored("bf16", np.shape(x), rounded.astype(np.uint16))


def strict(text: bytes | str) -> Any:
    """JSON without keys that occur twice and without NaN: either would be read in two ways."""
    def once(pairs: list) -> dict:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a JSON key occurs twice")
        return dict(pairs)

    def reject(word: str):
        raise ValueError(f"{word} in JSON")

    return json.loads(text, object_pairs_hook=once, parse_constant=reject)


def parse(buffer) -> tuple[dict, dict]:
    """Metadata and tensors of a safetensors buffer. The header is read here because
    `safetensors.numpy.load` drops `__metadata__` and does not know BF16."""
    size = struct.unpack("<Q", buffer[:8])[0]
    header, data = strict(bytes(buffer[8:8 + size])), memoryview(buffer)[8 + size:]
    metadata, tensors = header.pop("__metadata__", {}), {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        bits = np.frombuffer(data[begin:end], TYPES[entry["dtype"]]).reshape(entry["shape"])
        block = metadata.get(f"{name}.type")
        if block and entry["dtype"] == "U8":
            tensors[name] = Stored(block, tuple(strict(metadata[f"{name}.shape"])), bits)
        elif entry["dtype"] == "BF16":
            tensors[name] = Stored("bf16", bits.shape, bits)
        else:
            tensors[name] = bits
    return metadata, tensors


def build(metadata: dict, tensors: dict) -> bytes:
    """A safetensors buffer: length of the header, header padded to eight bytes, data."""
    header, parts, at = {"__metadata__": metadata}, [], 0
    for name, x in tensors.items():
        block = isinstance(x, Stored) and x.type != "bf16"
        bits = x.bits if isinstance(x, Stored) else np.asarray(x)
        if block:
            metadata |= {f"{name}.type": x.type, f"{name}.shape": json.dumps(list(x.shape))}
        dtype = "BF16" if isinstance(x, Stored) and not block else next(
            (t for t, n in TYPES.items() if np.dtype(n) == bits.dtype and t != "BF16"), None)
        if dtype is None:
            raise TypeError(f"{name} is {bits.dtype}, which is no type of the wire")
        header[name] = {"dtype": dtype, "shape": list(bits.shape),
                        "data_offsets": [at, at + bits.nbytes]}
        parts.append(bits.tobytes())
        at += bits.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


class Wire:
    """Frames on the two pipes. Created before any library may print or read: from then on
    descriptor 1 is stderr and descriptor 0 is empty, so neither can disturb a frame."""

    def __init__(self, source: int = 0, sink: int = 1):
        self.source, self.sink = os.fdopen(os.dup(source), "rb"), os.fdopen(os.dup(sink), "wb")
        if (source, sink) == (0, 1):
            os.dup2(2, 1)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        self.limit, self.scratch = FIRST_FRAME, None

    def read(self) -> tuple[dict, dict] | None:
        """The next message, or None at the end. What is no message has been read whole when
        ValueError is raised, so that the next one can be."""
        head = self.source.read(8)
        if len(head) < 8:
            return None
        size = struct.unpack("<Q", head)[0]
        if size > self.limit:
            rest = size
            while rest and (part := self.source.read(min(rest, 1 << 20))):
                rest -= len(part)
            raise ValueError(f"a frame of {size} bytes, at most {self.limit}")
        buffer = self.source.read(size)
        if len(buffer) < size:
            return None
        try:
            metadata, tensors = parse(buffer)
            ask = strict(metadata["goldgate"])
            if "attach" in ask:
                tensors = self.attached(ask.pop("attach"))
        except (ValueError, KeyError, TypeError, AttributeError, struct.error, OSError) as e:
            raise ValueError(f"no message: {e!r}") from e
        return ask, tensors

    def attached(self, name: str) -> dict:
        """Tensors of a file in the scratch folder. Who reads the file deletes it."""
        path = os.path.join(self.scratch or "", name)
        # Only a plain file inside the folder: a pipe would hang, a link could lead anywhere.
        if not self.scratch or "/" in name or os.path.islink(path) or not os.path.isfile(path):
            raise ValueError(f"attach names {name!r}")
        try:
            with open(path, "rb") as file:
                return parse(file.read())[1]
        finally:
            os.remove(path)

    def write(self, reply: dict, tensors: dict | None = None) -> None:
        """Writes one message, as a whole or not at all; tensors that do not fit go by file."""
        text = json.dumps(reply, allow_nan=False)
        if len(text.encode()) > MAX_JSON:
            raise Failed("internal", f"an answer with {len(text)} bytes of JSON")
        frame = build({"goldgate": text}, tensors or {})
        if len(frame) > self.limit:
            if not self.scratch:
                raise Failed("io", f"an answer beyond {self.limit} bytes, and no scratch folder")
            name = f"answer-{os.getpid()}-{reply['id']}.safetensors"
            with open(os.path.join(self.scratch, name), "wb") as file:
                file.write(build({}, tensors))
            frame = build({"goldgate": json.dumps({**reply, "attach": name})}, {})
        self.sink.write(struct.pack("<Q", len(frame)) + frame)
        self.sink.flush()


class Subject:
    """An engine on trial. Made before the engine is imported, it keeps what that prints out of the
    wire. `hello` takes further fields of hello (`activations`, `trace`, …), and is a dict that may
    be added to later. `finish` is called before each answer, for devices that work on after a
    call has returned."""

    def __init__(self, name: str, version: str = "unknown", device: dict | None = None,
                 finish: Callable[[], None] | None = None, **hello):
        self.calls: dict[str, Callable] = {}
        self.ops: dict[str, Callable] = {}
        self.attributes: dict[str, tuple] = {}
        self.hello = {"wire": 1, "subject": {"name": name, "version": version},
                      "device": device or {"kind": "cpu"}, "max_frame": MAX_FRAME, "attach": True,
                      **hello}
        self.finish, self.wire, self.id = finish or (lambda: None), Wire(), -1

    def call(self, name: str) -> Callable:
        """Registers the function that answers a call."""
        return lambda function: self.calls.setdefault(name, function)

    def op(self, name: str, dtypes: list[str], weights: list[str] | None = None,
           attributes: tuple = ()) -> Callable:
        """Registers the function that answers an op in these types. Its parameters are `attr`,
        `dtype` and the op's operands; optional operands have a default. It returns results.
        `attributes` are all that the op has; other names are refused, as other operands are."""
        lists = {"dtypes": dtypes} | ({"weights": weights} if weights else {})
        self.hello.setdefault("ops", {})[name] = lists
        self.calls["op"], self.attributes[name] = self.answer_op, attributes
        return lambda function: self.ops.setdefault(name, function)

    def answer_op(self, op: str, dtype: str, attr: dict, tensors: dict):
        if op not in self.ops or dtype not in self.hello["ops"][op]["dtypes"]:
            raise Unsupported(f"{op} in {dtype}")
        known = inspect.signature(self.ops[op]).parameters
        for name in tensors:
            if name not in known or name in ("attr", "dtype"):
                raise Refused("OperandUnknown", name, f"{op} has no such operand")
        for name, p in known.items():
            if name not in ("attr", "dtype", *tensors) and p.default is p.empty:
                raise Refused("OperandMissing", name, f"{op} needs it")
        for name in attr:
            if name not in self.attributes[op]:
                raise Refused("AttributeUnknown", name, f"{op} has no such attribute")
        own = {n: v for n, v in (("attr", attr), ("dtype", dtype)) if n in known}
        return {}, self.ops[op](**own, **tensors)

    def event(self, word: str, **fields) -> None:
        """Sends an event of the question that is being answered: `token`, `alive`, `progress`."""
        self.wire.write({"id": self.id, "event": word, **fields})

    def run(self) -> None:
        """Answers questions until the harness closes the pipe, and ends the process: taking down a
        large library can take longer than the two seconds that a subject has."""
        try:
            while True:
                try:
                    message = self.wire.read()
                    if message is None:
                        break
                    ask, tensors = message
                    self.id = ask["id"]
                except (ValueError, KeyError, TypeError) as e:
                    # Ids count up, so the question that cannot be read can still be answered.
                    self.id += 1
                    self.wire.write({"id": self.id, "failed": Failed("bad_request", str(e)).body})
                    continue
                self.answer(ask, tensors)
        except BrokenPipeError:
            pass  # nobody reads any more
        sys.stderr.flush()
        os._exit(0)

    def answer(self, ask: dict, tensors: dict) -> None:
        try:
            reply, results = {"ok": {}}, None
            if ask.get("call") == "hello":
                reply["ok"] = self.greet(ask)
            elif ask.get("call") != "ping":
                fields = self.answered(ask, tensors)
                fields, results = fields if isinstance(fields, tuple) else (fields, None)
                reply["ok"] = fields or {}
            self.finish()
            self.wire.write({"id": self.id, **reply}, results)
            return
        except BrokenPipeError:
            raise
        except Refused as e:
            reply = {"refused": e.body}
        except Unsupported as e:
            reply = {"unsupported": {"what": str(e)}}
        except Failed as e:
            reply = {"failed": e.body}
        except Exception as e:
            traceback.print_exc()
            oom, io = isinstance(e, MemoryError), isinstance(e, OSError)
            kind = "oom" if oom else "io" if io else "internal"
            reply = {"failed": Failed(kind, repr(e)).body}
        self.finish()
        self.wire.write({"id": self.id, **reply})
        if ask.get("call") == "hello":
            sys.exit(1)  # a harness that speaks no version of this wire

    def greet(self, ask: dict) -> dict:
        if 1 not in ask.get("wire", []):
            raise Failed("bad_request", f"wire {ask.get('wire')}, this subject speaks 1")
        self.wire.scratch = ask.get("scratch")
        self.wire.limit = min(ask.get("max_frame", MAX_FRAME), self.hello["max_frame"])
        return {**self.hello, "calls": list(self.calls)}

    def answered(self, ask: dict, tensors: dict):
        """Calls the function of a question with the fields and tensors that it names."""
        function = self.calls.get(ask.get("call"))
        if function is None:
            raise Unsupported(f"call {ask.get('call')}")
        hints, given = get_type_hints(function), {**tensors, **ask, "tensors": tensors, "ask": ask}
        chosen = {}
        for name, p in inspect.signature(function).parameters.items():
            value = given.get(name)
            if value is None:
                # null and absent are the same, as for the harness.
                if p.default is p.empty:
                    raise Failed("bad_request", f"{ask['call']} without {name}")
                continue
            hint = hints.get(name, object)
            wanted = get_args(hint) if isinstance(hint, UnionType) else (get_origin(hint) or hint,)
            # A truth value is an int to Python, and a whole number a legal real one.
            truth, allowed = isinstance(value, bool), wanted + ((int,) if float in wanted else ())
            if truth and not {bool, object} & set(wanted) or not isinstance(value, allowed):
                wants = " or ".join(t.__name__ for t in wanted if t is not NoneType)
                raise Failed("bad_request", f"{name} is {value!r:.60}, wants {wants}")
            chosen[name] = value
        return function(**chosen)
