"""A whole subject. Run it with: goldgate run layernorm --on 'mine=python3 my_engine.py'"""
import json
import os
import struct
import sys

import numpy as np

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I32": "<i4", "U8": "u1"}
FLOATS = {"f32": np.float32, "f16": np.float16}
source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # from here on a print() goes to stderr, never into the wire


class Refused(Exception):
    pass


def read():
    head = source.read(8)
    if len(head) < 8:
        sys.exit(0)  # the harness closed the pipe
    b = source.read(struct.unpack("<Q", head)[0])
    n = struct.unpack("<Q", b[:8])[0]
    header, data = json.loads(b[8:8 + n]), b[8 + n:]
    ask = json.loads(header.pop("__metadata__")["goldgate"])
    tensors = {}
    for name, t in header.items():
        flat = np.frombuffer(data[slice(*t["data_offsets"])], TYPES[t["dtype"]])
        tensors[name] = flat.reshape(t["shape"])
    return ask, tensors


def write(reply, tensors={}):
    header, data = {"__metadata__": {"goldgate": json.dumps(reply)}}, b""
    for name, v in tensors.items():
        dtype = next(t for t, n in TYPES.items() if np.dtype(n) == v.dtype)
        ends = [len(data), len(data) + v.nbytes]
        header[name] = {"dtype": dtype, "shape": list(v.shape), "data_offsets": ends}
        data += v.tobytes()
    j = json.dumps(header).encode()
    j += b" " * (-len(j) % 8)
    sink.write(struct.pack("<QQ", 8 + len(j) + len(data), len(j)) + j + data)
    sink.flush()


def layernorm(t, attr, dtype):
    for name, rank, kinds in (("x", 2, (dtype, np.float32)), ("gamma", 1, (np.float32,)),
                              ("beta", 1, (np.float32,))):
        v = t[name]
        if v.dtype not in kinds:
            raise Refused("DtypeMismatch", name, f"is {v.dtype}")
        if v.ndim != rank:
            raise Refused("RankMismatch", name, f"has {v.ndim} axes, wants {rank}")
        if 0 in v.shape:
            raise Refused("EmptyAxis", name, f"an axis of {v.shape} is empty")
        if v.shape[-1] != t["x"].shape[-1]:
            raise Refused("ShapeMismatch", name, f"is {v.shape}, x is {t['x'].shape}")
    for name in attr:
        if name not in ("eps", "to"):
            raise Refused("AttributeUnknown", name, "layernorm knows eps, to")
    if "eps" not in attr:
        raise Refused("AttributeMissing", "eps", "is required")
    if not attr["eps"] > 0:
        raise Refused("AttributeOutOfRange", "eps", f"is {attr['eps']}, wants more than 0")
    x = t["x"].astype(np.float32)
    m = x.mean(-1, keepdims=True)
    v = ((x - m) ** 2).mean(-1, keepdims=True)
    y = (x - m) / np.sqrt(v + np.float32(attr["eps"])) * t["gamma"] + t["beta"]
    return {"y": y.astype(np.float32 if attr.get("to") == "f32" else dtype)}


OPS = {"layernorm": layernorm}
HELLO = {"wire": 1, "subject": {"name": "mine", "version": "0.1"}, "device": {"kind": "cpu"},
         "calls": ["op"], "ops": {o: {"dtypes": list(FLOATS)} for o in OPS}}
while True:
    ask, tensors = read()
    call, op, dtype = (ask.get(k) for k in ("call", "op", "dtype"))
    try:
        if call == "hello":
            write({"id": ask["id"], "ok": HELLO})
        elif call == "op" and op in OPS and dtype in FLOATS:
            write({"id": ask["id"], "ok": {}}, OPS[op](tensors, ask["attr"], FLOATS[dtype]))
        else:
            write({"id": ask["id"], "unsupported": {"what": f"{call} {op} {dtype}"}})
    except Refused as e:
        write({"id": ask["id"], "refused": dict(zip(("kind", "operand", "message"), e.args))})
    except Exception as e:
        failed = {"class": "internal", "sticky": False, "message": repr(e)}
        write({"id": ask["id"], "failed": failed})
