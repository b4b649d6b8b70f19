"""A whole subject: LayerNorm in numpy. From the root of the repository:

    goldgate run layernorm:: --on 'mine=python3 docs/adapters/my_engine.py'
"""
import numpy as np

from goldwire import Refused, Subject

FLOATS = {"f32": np.float32, "f16": np.float16}
subject = Subject("mine", "0.1")


def check(x, gamma, beta, attr: dict, dtype) -> None:
    """Refuses what is malformed, by the kinds of docs/wire.md, section 8."""
    for name, v, rank, kinds in (("x", x, 2, (dtype, np.float32)),
                                 ("gamma", gamma, 1, (np.float32,)),
                                 ("beta", beta, 1, (np.float32,))):
        if getattr(v, "dtype", None) not in kinds:
            raise Refused("DtypeMismatch", name, f"is {getattr(v, 'dtype', v)}")
        if v.ndim != rank:
            raise Refused("RankMismatch", name, f"has {v.ndim} axes, wants {rank}")
        if 0 in v.shape:
            raise Refused("EmptyAxis", name, f"an axis of {v.shape} is empty")
        if v.shape[-1] != x.shape[-1]:
            raise Refused("ShapeMismatch", name, f"is {v.shape}, x is {x.shape}")
    if "eps" not in attr:
        raise Refused("AttributeMissing", "eps", "is required")
    if not attr["eps"] > 0:
        raise Refused("AttributeOutOfRange", "eps", f"is {attr['eps']}, wants more than 0")


@subject.op("layernorm", dtypes=list(FLOATS), attributes=("eps", "to"))
def layernorm(attr, dtype, x, gamma, beta):
    """y = (x - mean) / sqrt(variance + eps) * gamma + beta, over rows of x [rows, hidden]."""
    check(x, gamma, beta, attr, FLOATS[dtype])
    x = x.astype(np.float32)
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    y = (x - mean) / np.sqrt(variance + np.float32(attr["eps"])) * gamma + beta
    return {"y": y.astype(np.float32 if attr.get("to") == "f32" else FLOATS[dtype])}


if __name__ == "__main__":
    subject.run()
