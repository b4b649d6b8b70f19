"""The oracle for models: speaks docs/wire.md on stdin and stdout; float64 and transformers.

The one question is `golden`: a `kind` (stage, logits, generation, perplexity, draws), the `path` of
a folder or a GGUF file, the `hf` folder of the same model, a `text` or the tensor `ids`, what the
kind needs, and the names of faults (`wrong`). Answered are tensors of the float64 reference
(reference.py), once transformers (hooks.py) has said the same to 1e-5.

    python3 golden/oracle/models.py --hello
"""

import hashlib
import json
import sys
from functools import lru_cache, partial
from pathlib import Path

import packages

packages.need("requirements.txt", "numpy", "gguf")

import numpy as np

import checkpoint
import wrong_models
import wrong_texts
from model_goldens import ANSWERS, Disagree, Witnesses, raw
from reference import Reference
from wire import Raw, Wire

VERSION = "0.1.0"
FILES = ("activations.py", "checkpoint.py", "choices.py", "hooks.py", "model_goldens.py",
         "models.py", "reference.py", "sampling.py", "stored.py", "to_gguf.py", "wire.py",
         "writing.py", "wrong_models.py", "wrong_steps.py", "wrong_texts.py")


class Unsupported(Exception):
    """A fair question that this oracle does not offer."""


def script_hash() -> str:
    """SHA-256 over every script that a golden of a model rests on, in the order of their names."""
    digest = hashlib.sha256()
    for name in FILES:
        digest.update(name.encode() + b"\n" + Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()


SCRIPT = script_hash()


def hello() -> dict:
    """What the oracle offers: kinds of questions and, for each, its faults."""
    return {
        "wire": 1,
        "subject": {"name": "goldgate-oracle", "version": VERSION, "build": SCRIPT[:16]},
        "device": {"kind": "cpu"},
        "calls": ["golden", "ping"],
        "kinds": list(ANSWERS),
        "models": list(checkpoint.KINDS),
        "max_frame": 1 << 30,
        "wrong": {kind: wrong_models.offered(kind) for kind in ANSWERS},
        "wrong_texts": sorted(wrong_texts.WRONG),
    }


@lru_cache(maxsize=4)
def reference(path: Path) -> Reference:
    """The reference on a model's weights."""
    return Reference(checkpoint.open_model(path))


@lru_cache(maxsize=2)
def transformers(path: Path, hf: Path | None):
    """The second witness."""
    # A machine without torch can still say hello.
    names = ("torch", "transformers", "tokenizers", "safetensors")
    if line := packages.missing("requirements-models.txt", *names):
        raise Unsupported(line)
    import hooks

    return hooks.Transformers(path, hf)


@lru_cache(maxsize=4)
def tokenizer(folder: Path | None):
    """The tokenizer.json of an HF folder, or None. A GGUF file's vocabulary is not asked:
    transformers splits a text by GPT-2's pattern whatever the file names."""
    file = folder / "tokenizer.json" if folder else None
    if file is None or not file.exists():
        return None
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(file))


def byte_of() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for (GPT-2's table)."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printed]
    return {chr(b): b for b in printed} | {chr(256 + i): b for i, b in enumerate(rest)}


def decoded(words, ids: list[int]) -> bytes:
    """The bytes that ids stand for: byte-level tokens by the table, added ones as they read."""
    table, out = byte_of(), b""
    added = words.get_added_tokens_decoder()
    for i in ids:
        token = words.id_to_token(i)
        if i in added or token is None or any(c not in table for c in token):
            out += (token or "").encode()
        else:
            out += bytes(table[c] for c in token)
    return out


def ids_of(ask: dict, tensors: dict[str, Raw], words) -> np.ndarray:
    """The tokens that are fed: as given, or the text's without special ones."""
    if "ids" in tensors:
        ids = tensors["ids"].bits.astype(np.int64)
    elif words is None:
        raise Unsupported("a text for a model that has no tokenizer")
    else:
        ids = np.array(words.encode(ask["text"], add_special_tokens=False).ids, dtype=np.int64)
    if ask["kind"] == "perplexity":
        return ids[: ask["tokens"]]
    if ask["kind"] == "draws":
        fed = ask["contexts"] * ask["length"]
        if len(ids) < fed:
            raise ValueError(f"a text of {len(ids)} tokens, contexts of {fed}")
        return ids[:fed]
    return ids


def check(ask: dict, ids: np.ndarray, config: checkpoint.Config) -> None:
    """Refuses faults that the model cannot have and ids or lengths beyond it."""
    kind = ask["kind"]
    absent = [n for n in ask.get("wrong", []) if not wrong_models.exists(n, kind, config)
              and not (kind == "generation" and wrong_texts.exists(n, ask))]
    if absent:
        raise Unsupported(f"{kind} of {config.kind} has no fault {', '.join(absent)}")
    if len(ids) == 0 or ids.min() < 0 or ids.max() >= config.vocabulary:
        raise ValueError(f"{len(ids)} ids for a vocabulary of {config.vocabulary}")
    longest = {"generation": len(ids) + ask.get("max_tokens", 0), "perplexity": ask.get("window"),
               "draws": ask.get("length", 0) + 2}
    if longest.get(kind, len(ids)) > config.context:
        raise ValueError(f"{longest.get(kind, len(ids))} tokens, a context of {config.context}")


def golden(ask: dict, tensors: dict[str, Raw]) -> tuple[dict, dict[str, Raw]]:
    """The golden's `ok` object and tensors."""
    path, hf = Path(ask["path"]), Path(ask["hf"]) if ask.get("hf") else None
    right = reference(path)
    words = tokenizer(path if path.is_dir() else hf)
    ids = ids_of(ask, tensors, words)
    check(ask, ids, right.config)
    if words is None and ask.get("stop"):
        raise Unsupported("a stop text for a model that has no tokenizer")
    said = partial(decoded, words) if words is not None else lambda ids: b""
    witnesses = Witnesses(right, transformers(path, hf), said=said)
    out = {"ids": ids, **ANSWERS[ask["kind"]](ask, ids, witnesses)}
    if ask["kind"] == "generation" and words is not None and "text" not in out:
        text = decoded(words, out["greedy"].tolist())
        out["text"] = np.frombuffer(text, np.uint8)
    said = [
        {"name": "float64", "version": f"numpy {np.__version__}", "script": SCRIPT},
        {"name": "transformers", "version": witnesses.other.version, "script": SCRIPT},
    ]
    ok = {"witnesses": said, "agree": witnesses.agree}
    return ok, {name: raw(x) for name, x in out.items()}


def respond(ask: dict, tensors: dict[str, Raw]) -> tuple[dict, dict[str, Raw]]:
    """The answer to one message."""
    head = {"id": ask.get("id")}
    call = ask.get("call")
    if call == "hello":
        return {**head, "ok": hello()}, {}
    if call == "ping":
        return {**head, "ok": {}}, {}
    if call != "golden" or ask.get("kind") not in ANSWERS:
        return {**head, "unsupported": {"what": f"{call} {ask.get('kind', '')}".strip()}}, {}
    try:
        ok, out = golden(ask, tensors)
    except (Unsupported, checkpoint.Unreadable) as what:
        return {**head, "unsupported": {"what": str(what)}}, {}
    except Disagree as where:
        failed = {"class": "internal", "sticky": False, "message": str(where)}
        return {**head, "failed": failed}, {}
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
