"""Trains the tiny models of golden/models on two books in the public domain.

    python3 golden/oracle/train_tiny.py OUT [--only NAME] [--steps N] [--device cuda]

Writes OUT/<name>/hf: config.json, tokenizer.json, model.safetensors (every tensor rounded once to
f16: the one source of all other forms). Chapter XII of the first book is held out. A GPU takes a
minute a model; the bits depend on the device, which is why the result is kept and not remade.
"""

import argparse
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GPT2LMHeadModel, LlamaForCausalLM, Qwen2ForCausalLM

import tiny

CLASSES = {
    "gpt2-tiny": GPT2LMHeadModel,
    "llama-tiny": LlamaForCausalLM,
    "qwen2-tiny": Qwen2ForCausalLM,
}

# Enough for sentences, not so many that the books are known by heart.
STEPS = {"gpt2-tiny": 1200, "llama-tiny": 450, "qwen2-tiny": 600}


def book(tokenizer, path: Path) -> torch.Tensor:
    text = path.read_text()
    return torch.tensor(tokenizer.encode(text, add_special_tokens=False).ids)


def batch(ids: torch.Tensor, rows: int, length: int, random: torch.Generator) -> torch.Tensor:
    at = torch.randint(len(ids) - length, (rows,), generator=random)
    return torch.stack([ids[i : i + length] for i in at.tolist()])


def held_out(model, ids: torch.Tensor, length: int, device: str) -> float:
    model.eval()
    losses = []
    with torch.no_grad():
        for at in range(0, len(ids) - length, length):
            x = ids[at : at + length][None].to(device)
            losses.append(model(x, labels=x).loss.item())
    model.train()
    return sum(losses) / len(losses)


def train(name: str, out: Path, steps: int, device: str) -> None:
    torch.manual_seed(7)
    random = torch.Generator().manual_seed(11)
    tokenizer, config = tiny.TINY[name]()
    model = CLASSES[name](config).to(device).train()
    ids = torch.cat([book(tokenizer, tiny.book(name)) for name in tiny.BOOKS])
    last = book(tokenizer, tiny.MODELS / "text" / "chapter-12.txt")
    length = min(256, config.max_position_embeddings)
    rate = 2e-3
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.1, betas=(0.9, 0.95))
    for step in range(steps):
        warm = min(1.0, (step + 1) / 100)
        decay = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.param_groups[0]["lr"] = rate * warm * decay
        x = batch(ids, 32, length, random).to(device)
        loss = model(x, labels=x).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 200 == 199 or step + 1 == steps:
            away = held_out(model, last, length, device)
            print(f"{name} {step + 1}: loss {loss.item():.3f}, held out {away:.3f}", flush=True)
    folder = out / name / "hf"
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu().half().contiguous() for k, v in model.state_dict().items()}
    if config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    config.dtype = "float16"
    config.architectures = [CLASSES[name].__name__]
    save_file(state, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "config.json").write_text(config.to_json_string(use_diff=False))
    tiny.tidy_json(folder / "config.json")
    tokenizer.save(str(folder / "tokenizer.json"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", choices=list(CLASSES))
    given = parser.parse_args()
    for name in [given.only] if given.only else CLASSES:
        train(name, given.out, given.steps or STEPS[name], given.device)


if __name__ == "__main__":
    main()
