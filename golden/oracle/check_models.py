"""The test of the oracle of models: part of check.py, or alone. numpy and gguf only.

The reference against what transformers once answered (golden/models/*/transformers.safetensors),
against itself in pieces, and in closed form; each fault against the right pass; the five kinds.
"""

import json
import struct
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np

import blocks
import checkpoint
import model_goldens
import wrong_models
import wrong_texts
from choices import Choice
from model_goldens import Disagree, Witnesses, rms
from models import byte_of, check, hello, respond
from reference import Cache, Reference
from wire import Raw, build, parse
from writing import Writer
from wrong_models import broken, exists

MODELS = Path(__file__).resolve().parent.parent / "models"
TINY = ("gpt2-tiny", "llama-tiny", "qwen2-tiny")
AWKWARD = ("gpt2-awkward", "llama-awkward", "qwen2-awkward")
IDS = np.array([(i * 37 + 11) % 131 for i in range(24)])


def opened(name: str, form: str = "hf") -> Reference:
    """The reference on one of golden's models."""
    return Reference(checkpoint.open_model(MODELS / name / form))


def stored_ids(path: Path) -> np.ndarray:
    """The tensor `ids` of a safetensors file."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    begin, end = json.loads(data[8 : 8 + length])["ids"]["data_offsets"]
    return np.frombuffer(data[8 + length + begin : 8 + length + end], "<i4")


def check_against_transformers() -> None:
    """The last rows of a text, in every form: what transformers gave when the file was made."""
    for name in TINY:
        file = MODELS / name / "transformers.safetensors"
        ids, theirs = stored_ids(file), checkpoint.read_safetensors(file)
        for form, of in (("hf", "f16"), ("f16.gguf", "f16"), ("q8_0.gguf", "q8_0"),
                         ("q4_k_m.gguf", "q4_k_m")):
            want = theirs[of].astype(np.float64)
            ours = opened(name, form).forward(ids)[-len(want) :]
            far = (rms(ours - want) / ours.std(-1)).max()
            assert far < 1e-5, (name, form, far)


def check_pieces() -> None:
    """In pieces as in one; a later token changes no earlier row; the cache is cut exactly."""
    for name in (*TINY, *AWKWARD):
        model = opened(name)
        whole = model.forward(IDS)
        cache = Cache()
        parts = [model.forward(IDS[a:b], cache) for a, b in ((0, 7), (7, 8), (8, 24))]
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=1e-11)
        again = model.forward(IDS[9:], cache.cut(9))
        np.testing.assert_allclose(again, whole[9:], rtol=0, atol=1e-11)
        other = IDS.copy()
        other[15] = (other[15] + 1) % 131
        changed = np.abs(model.forward(other) - whole).max(-1) > 1e-9
        assert not changed[:15].any() and changed[15:].all(), name


def check_types() -> None:
    """Each weight type stands in attention, feed-forward and as a table; gguf-py reads its blocks
    as the decoders of the ops' oracle do."""
    rooms: dict[str, set[str]] = {"attn": set(), "ffn": set(), "table": set()}
    for path in sorted(MODELS.glob("*-types/*.gguf")):
        for t in gguf.GGUFReader(str(path)).tensors:
            kind, part = t.tensor_type.name.lower(), t.name.removeprefix("blk.0.").split("_")[0]
            if len(t.shape) == 2 and part != "position":
                rooms[part if part in rooms else "table"].add(kind)
            if kind in blocks.SIZES:
                read = gguf.quants.dequantize(t.data, t.tensor_type)
                ours = sum(blocks.parts(t.data, kind, read.shape))
                np.testing.assert_allclose(read, ours, rtol=2e-6, atol=2e-7)
    every = {"f32", "f16", "bf16", *blocks.SIZES}
    assert len(every) == 10 and all(room == every for room in rooms.values()), rooms


def check_rotation() -> None:
    """Position 0 turns nothing; the others by complex numbers; Llama 3's three zones."""
    model = opened("llama-tiny")
    x = np.random.default_rng(3).normal(size=(3, 2, 80))
    at = np.array([0, 5, 300])
    y, inv = model.rotate(x, at), model.frequencies()
    assert np.array_equal(y[0], x[0])
    turned = (x[..., :40] + 1j * x[..., 40:]) * np.exp(1j * at[:, None] * inv)[:, None]
    np.testing.assert_allclose(y[..., :40] + 1j * y[..., 40:], turned, atol=1e-12)
    plain = 500000.0 ** (-np.arange(0, 80, 2) / 80)
    assert inv[0] == 1 and np.isclose(inv[-1], plain[-1] / 8, rtol=1e-15)
    divided = opened("llama-tiny", "f16.gguf").frequencies()
    np.testing.assert_allclose(divided, inv, rtol=1e-7)
    assert ((inv < plain * 0.999) & (inv > plain / 7.999)).any()


def check_attention() -> None:
    """With keys of nothing a sink takes exp(sink) of n + exp(sink); a window is that wide."""
    model = opened("llama-awkward")
    model.weights = dict(model.weights) | {"layer.0.attn.sinks": np.array([0.5, 0.0, 3.0])}
    n, width = 6, 4
    nothing, ones = np.zeros((n, 3, 24)), np.ones((n, 1, 24))
    y = model.attend(nothing, nothing[:, :1], ones, model.seen(0, n, width), 0)[:, :, 0]
    keys = np.minimum(np.arange(1, n + 1), width)[:, None]
    np.testing.assert_allclose(y, keys / (keys + np.exp([0.5, 0.0, 3.0])), atol=1e-15)


def check_keys() -> None:
    """Both key styles of config.json mean the same; what is not known is refused."""
    new = json.loads((MODELS / "llama-tiny" / "hf" / "config.json").read_text())
    old = dict(new)
    rope = dict(old.pop("rope_parameters"))
    old |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    old["rope_scaling"]["type"] = rope.pop("rope_type")
    a, b = (Reference(checkpoint.Model(checkpoint.hf_config(c), {})) for c in (new, old))
    assert np.array_equal(a.frequencies(), b.frequencies()) and a.theta() == 500000
    strange = {"model_type": "mamba"}, {**new, "hidden_act": "gelu"}
    for c in (*strange, {**new, "rope_parameters": {"rope_type": "yarn"}}):
        try:
            checkpoint.hf_config(c)
        except checkpoint.Unreadable:
            continue
        raise AssertionError(c["model_type"])


def check_faults() -> None:
    """Each fault, on some model, changes the logits, or the slots where only a stage shows it."""
    shown = set()
    for name in (*TINY, *AWKWARD):
        model, right = opened(name), {}
        model.forward(IDS, slots=right)
        for fault in wrong_models.WRONG:
            kinds = [k for k in wrong_models.KINDS if exists(fault, k, model.config)]
            if not kinds:
                continue
            wrong: dict[str, np.ndarray] = {}
            broken(model, fault).forward(IDS, slots=wrong)
            apart = [np.abs(wrong[s] - right[s]).max() for s in wrong]
            if kinds == ["stage"]:
                assert np.abs(wrong["logits"] - right["logits"]).max() < 1e-9, (name, fault)
            elif max(apart) > 1e-6:
                assert np.abs(wrong["logits"] - right["logits"]).max() > 1e-6, (name, fault)
            if max(apart) > 1e-6:
                shown.add(fault)
    # these need a longer text, or one that goes on
    decode = {"decode_alone", "decode_not_cached", "decode_position_zero"}
    assert set(wrong_models.WRONG) - shown == {"positions_bf16", *decode}
    model = opened("llama-tiny")
    long = np.resize(IDS, 260)
    far = np.abs(broken(model, "positions_bf16").forward(long) - model.forward(long)).max(-1)
    assert (far[:257] < 1e-9).all() and (far[257:] > 1e-6).all()
    right = model_goldens.begun(model, IDS, 9).ids
    for fault in decode:
        wrong = model_goldens.begun(broken(model, fault), IDS, 9).ids
        assert right[0] == wrong[0] and right != wrong, fault
    faults = {"stage": ["gelu_exact"], "logits": ["position_plus_1"]}
    for kind, names in faults.items():
        try:
            check({"kind": kind, "wrong": names}, IDS, model.config)
        except Exception as what:
            assert names[0] in str(what), what
        else:
            raise AssertionError(f"{kind} with {names}")


class Off:
    """A second witness that is off by a share of the standard deviation."""

    def __init__(self, model: Reference, by: float):
        self.model, self.by = model, by

    def forward(self, ids, slots=None) -> np.ndarray:
        """The reference's answer, moved."""
        y = self.model.forward(ids, slots=slots)
        return y + self.by * y.std(-1, keepdims=True)


def check_kinds() -> None:
    """What each kind answers: shapes, sums, and no golden where witnesses differ."""
    for name in AWKWARD:
        model = opened(name)
        w = Witnesses(model, Off(model, 5e-6))
        rows = model_goldens.logits({"rows": [-1, 2, 0], "wrong": ["tail_dropped"]}, IDS, w)
        assert rows["rows"].tolist() == rows["full_rows"].tolist() == [0, 2, 23]
        assert rows["logits"].shape == rows["wrong.tail_dropped.logits"].shape == (3, 131)
        mass = np.exp(rows["top_logprobs"]).sum(-1) + np.exp(rows["tail"])
        np.testing.assert_allclose(mass, 1, atol=1e-12)
        assert 4e-6 < w.agree < 6e-6 and rows["next_logprob"][-1] == 0
        assert (rows["logits"].argmax(-1) == rows["top_ids"][:, 0]).all()
        stage = model_goldens.stage({"slots": ["embed", "layer.0.attn.*"]}, IDS, w)
        assert stage["layer.0.attn.q"].shape == (24, model.config.heads * model.config.head_size)
        assert "layer.0.out" not in stage and "embed" in stage
        text = model_goldens.generation({"max_tokens": 9}, IDS[:5], w)
        assert text["branch.ids"].shape == (9, 9)
        assert (np.diff(text["margin"][text["branch.at"]]) >= 0).all()
        for at, ids in zip(text["branch.at"], text["branch.ids"]):
            same = ids == text["greedy"]
            assert same[:at].all() and not same[at]
        scored = model_goldens.perplexity({"window": 10}, IDS, w)
        assert (np.flatnonzero(scored["std"] == 0) == [0, 10, 20]).all()
        np.testing.assert_allclose(scored["logprob"][1:3], model_goldens.logits(
            {"rows": [0, 1]}, IDS[:10], w)["next_logprob"], atol=1e-12)
        drawn = model_goldens.draws({"contexts": 3, "length": 4, "follow": 2}, IDS[:12], w)
        assert drawn["logits"].shape == (3 + 6, 131) and drawn["next"].shape == (6,)
        np.testing.assert_allclose(drawn["logits"][1], model.forward(IDS[4:8])[-1], atol=1e-12)
        assert drawn["next"][2] == drawn["logits"][1].argmax()
        fed = [*IDS[4:8], drawn["next"][3]]
        np.testing.assert_allclose(drawn["logits"][3 + 3], model.forward(fed)[-1], atol=1e-12)
        try:
            model_goldens.logits({}, IDS, Witnesses(model, Off(model, 2e-5)))
        except Disagree:
            continue
        raise AssertionError("witnesses that differ made a golden")


CHAINS = (
    {},
    {"repetition_penalty": 1.3},
    {"temperature": 0.8, "top_k": 9, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.1},
    {"temperature": 1.5, "top_k": 3},
    {"temperature": 1.2, "top_p": 0.5},
    {"temperature": 1.2, "top_p": 0.0},
    {"temperature": 2.0, "min_p": 0.2},
    {"temperature": 1.0},
)


def check_margins() -> None:
    """Nothing within a margin changes a choice, corners least of all; a greedy one is exact."""
    rng = np.random.default_rng(5)
    firm = 0
    for n in range(160):
        choice = Choice(CHAINS[n % len(CHAINS)] | {"seed": n}, rng.integers(0, 40, 6))
        choice.ids = rng.integers(0, 40, n % 3).tolist()
        row = rng.normal(0, 3, 40)
        chosen = choice.next(row)
        margin = choice.margin(row, chosen)
        firm += margin > 0.06
        if n % len(CHAINS) == 0:
            second, first = np.sort(row)[-2:]
            np.testing.assert_allclose(margin, first - second, rtol=1e-9)
        d = margin / 2 * (1 - 1e-9)
        up = np.where(np.arange(40) == chosen, -1, 1)
        moves = [up, -up, np.where(np.arange(40) < chosen, 1, -1)]
        moves += [-moves[2], *rng.choice([-1, 1], (40, 40)), *rng.uniform(-1, 1, (20, 40))]
        for move in moves:
            assert choice.next(row + d * move) == chosen, (n, margin)
    assert firm > 100, firm


def spelled(ids) -> bytes:
    """A vocabulary of pairs of letters."""
    return b"".join(bytes([97 + i % 26, 97 + i // 26]) for i in ids)


def check_ends() -> None:
    """What ends a text, on the same text each time: ids, bytes and reason."""
    model = opened("gpt2-awkward")
    ask = {"max_tokens": 5, "sampling": {"temperature": 2.0, "seed": 3}}
    whole = Writer(ask, IDS, spelled).write(model)
    assert (whole.told, whole.stop, whole.text) == (5, "length", spelled(whole.ids))
    assert len(set(whole.ids)) == 5
    text, ids = whole.text.decode(), whole.ids
    for more, told, cut, stop in (
        ({"stop_ids": [ids[2]]}, 2, 4, "eos"),
        ({"stop_ids": [ids[0]]}, 0, 0, "eos"),
        ({"stop": [text[2:4]]}, 1, 2, "stop"),
        ({"stop": [text[3:6]]}, 2, 3, "stop"),
        ({"stop": [text[1:2]]}, 1, 1, "stop"),
        ({"stop": [text[8:10], "~"]}, 4, 8, "stop"),
        ({"stop": [text[8:10]], "stop_ids": [ids[4]]}, 4, 8, "eos"),
        ({"stop": ["~"], "context": len(IDS) + 3}, 3, 6, "context"),
        ({"context": len(IDS) + 5}, 5, 10, "length"),
    ):
        out = Writer(ask | more, IDS, spelled).write(model)
        found = out.told, out.text, out.stop
        assert found == (told, text[:cut].encode(), stop), (more, found)


def check_wrong_texts() -> None:
    """Each fault of a text changes what some question hands out; the right one is as it was."""
    model = opened("llama-awkward")
    greedy = Writer({"max_tokens": 5}, IDS, spelled).write(model)
    stop = {"stop_ids": [greedy.ids[2]]}, {"stop": [spelled(greedy.ids).decode()[3:6]]}
    inside = {"stop": [spelled(greedy.ids).decode()[2:3]]}
    chains = [{"sampling": c | {"seed": 9}, "max_tokens": 16} for c in CHAINS[2:]]
    chains.append({"sampling": CHAINS[2] | {"seed": 9, "repetition_penalty": 2.0, "top_p": 0.5},
                   "max_tokens": 16})
    asks = [*({"max_tokens": 5} | more for more in (*stop, inside)), *chains,
            {"max_tokens": 5, "context": len(IDS) + 3}]
    shown = set()
    for ask in asks:
        right = Writer(ask, IDS, spelled).write(model)
        for name in wrong_texts.WRONG:
            if wrong_texts.exists(name, ask):
                out = wrong_texts.broken(ask, IDS, spelled, name).write(model)
                if (out.told, out.text, out.stop) != (right.told, right.text, right.stop):
                    shown.add(name)
        again = Writer(ask, IDS, spelled).write(model)
        assert again.ids == right.ids
    assert set(wrong_texts.WRONG) == shown, set(wrong_texts.WRONG) - shown


def check_models_wire() -> None:
    """hello names every fault; questions beyond it are answered as such; bytes of a vocabulary."""
    said = hello()
    assert said["calls"] == ["golden", "ping"]
    assert set().union(*said["wrong"].values()) == set(wrong_models.WRONG)
    assert said["wrong_texts"] == sorted(wrong_texts.WRONG)
    assert not set(wrong_texts.WRONG) & set(wrong_models.WRONG)
    json.dumps(said, allow_nan=False)
    ask = {"id": 4, "call": "golden", "kind": "logits", "path": "nowhere", "text": "a"}
    assert "unsupported" in respond(ask, {})[0] and "unsupported" in respond({"call": "op"}, {})[0]
    assert sorted(byte_of().values()) == list(range(256))
    frame = build({"id": 5, "call": "ping"}, {"ids": Raw("i32", (2,), np.arange(2))})
    program = str(Path(__file__).with_name("models.py"))
    stream = struct.pack("<Q", len(frame)) + frame
    out = subprocess.run([sys.executable, program], input=stream, capture_output=True, check=True)
    assert parse(out.stdout[8:])[0] == {"id": 5, "ok": {}}


def main() -> None:
    """Runs every check of this file, in order."""
    for name, one in list(globals().items()):
        if name.startswith("check_"):
            one()
            print(f"ok {name[6:]}")


if __name__ == "__main__":
    main()
