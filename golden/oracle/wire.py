"""Frames of the wire: a length, then one safetensors buffer whose metadata carries the JSON.

The header is read here, not by the safetensors package, because that package drops
`__metadata__` and does not know BF16.
"""

import json
import os
import struct
from typing import BinaryIO

import numpy as np

NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I32": "<i4", "U8": "u1"}
STORED = {"F64": "f64", "F32": "f32", "F16": "f16", "BF16": "bf16", "I32": "i32", "U8": "u8"}


class Raw:
    """A tensor as it came: stored type (`bf16`, `q4_k` ...), logical shape, array of the bits."""

    def __init__(self, stored: str, shape: tuple[int, ...], bits: np.ndarray):
        self.stored, self.shape, self.bits = stored, tuple(shape), bits


def parse(frame: bytes) -> tuple[dict, dict[str, Raw]]:
    """The question or answer in `frame`, and its tensors by name."""
    length = struct.unpack("<Q", frame[:8])[0]
    header = json.loads(frame[8 : 8 + length])
    data = frame[8 + length :]
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        bits = np.frombuffer(data[begin:end], NUMPY[entry["dtype"]]).reshape(entry["shape"])
        stored = metadata.get(f"{name}.type", STORED[entry["dtype"]])
        shape = json.loads(metadata.get(f"{name}.shape", json.dumps(entry["shape"])))
        tensors[name] = Raw(stored, shape, bits)
    return json.loads(metadata["goldgate"]), tensors


def build(message: dict, tensors: dict[str, Raw]) -> bytes:
    """The frame without its length: header padded to 8 bytes, then the data."""
    metadata = {"goldgate": json.dumps(message)}
    header: dict = {"__metadata__": metadata}
    parts, offset = [], 0
    dense = {stored: dtype for dtype, stored in STORED.items()}
    for name, tensor in tensors.items():
        bits = np.asarray(tensor.bits, order="C")
        if tensor.stored not in dense:
            metadata[f"{name}.type"] = tensor.stored
            metadata[f"{name}.shape"] = json.dumps(list(tensor.shape))
        dtype = dense.get(tensor.stored, "U8")
        data = bits.astype(NUMPY[dtype], copy=False).tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(bits.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        parts.append(data)
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


class Wire:
    """Frames on two streams. Whatever prints goes to stderr, never into the wire."""

    def __init__(self) -> None:
        self.source: BinaryIO = os.fdopen(os.dup(0), "rb")
        self.sink: BinaryIO = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)

    def read(self) -> tuple[dict, dict[str, Raw]] | None:
        """The next message, or None at the end of the stream."""
        head = self.source.read(8)
        if len(head) < 8:
            return None
        return parse(self.source.read(struct.unpack("<Q", head)[0]))

    def write(self, message: dict, tensors: dict[str, Raw] | None = None) -> None:
        """Sends one message."""
        frame = build(message, tensors or {})
        self.sink.write(struct.pack("<Q", len(frame)) + frame)
        self.sink.flush()
