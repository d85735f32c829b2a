"""Trains the character model: ``python -m challenger.sim.gpt.train [--minutes M] [--out FOLDER]``.

The text is the reference that ``help()`` shows, ``pydoc_data.topics``, which comes with Python. The learning rate
follows the time spent, so that a training ends when it was asked to on any machine; a slower one gets through fewer
steps and reaches a higher loss. The files in this folder are therefore the record, not the script's output elsewhere.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  its usual name
from torch.optim import AdamW, Muon, Optimizer

from challenger.sim.gpt.network import Config, Gpt

SEED = 20
THREADS = 2
#: Newline, then printable ASCII: each has an id, whether the text has it or not, so that any plain prompt is legal.
VOCABULARY = "\n" + "".join(map(chr, range(32, 127)))
PLAIN = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "--", "…": "..."})
#: Characters in a block of the text; of HELD blocks in a row the last is kept for validation.
BLOCK, HELD = 4096, 20
BATCH = 6
DROPOUT = 0.1
DECAY = 0.1  # of weights, but not of biases and norms
ADAMW, MUON = 2e-3, 1.5e-2  # highest learning rates
WARM_UP, FLOOR = 50, 0.03  # steps; the least share of the learning rate after them
LOOK = 250  # steps between two looks at the validation loss


def corpus(documents: Iterable[str]) -> str:
    """All paragraphs in the vocabulary's characters, each once: topics repeat each other, and a paragraph that was
    trained on must not be validated on."""
    paragraphs: dict[str, None] = {}
    for document in documents:
        text = document.translate(PLAIN)
        plain = "".join(character for character in text if character in VOCABULARY)
        paragraphs.update(dict.fromkeys(p.rstrip() for p in plain.split("\n\n") if p.strip()))
    return "\n\n".join(p.strip("\n") for p in paragraphs)


def split(text: str) -> tuple[str, str]:
    """(text to train on, text held out)"""
    blocks = [text[i : i + BLOCK] for i in range(0, len(text), BLOCK)]
    held = range(HELD - 1, len(blocks), HELD)
    return "".join(b for i, b in enumerate(blocks) if i not in held), "".join(blocks[i] for i in held)


def ids_of(text: str) -> Tensor:
    return torch.tensor([VOCABULARY.index(character) for character in text])


def loss_of(model: Gpt, ids: Tensor) -> float:
    """Mean loss in nats a character of ids [n], in windows that do not overlap; the rest is left out."""
    length = model.config.n_positions
    windows = [ids[i : i + length + 1] for i in range(0, len(ids) - length, length)]
    rows = torch.stack(windows)  # [windows, length + 1]
    was = model.training
    model.eval()
    with torch.inference_mode():
        losses = [
            F.cross_entropy(model(part[:, :-1]).flatten(0, 1), part[:, 1:].flatten()) * len(part)
            for part in torch.split(rows, BATCH)
        ]
    model.train(was)
    return float(sum(losses)) / len(rows)


def sample(model: Gpt, prompt: str, characters: int, temperature: float, seed: int = SEED) -> str:
    """``prompt`` and what the model writes after it."""
    generator = torch.Generator().manual_seed(seed)
    ids = ids_of(prompt)
    model.eval()
    with torch.inference_mode():
        for _ in range(characters):
            logits = model(ids[None, -model.config.n_positions :])[0, -1]
            chosen = torch.multinomial(torch.softmax(logits / temperature, 0), 1, generator=generator)
            ids = torch.cat([ids, chosen])
    return "".join(VOCABULARY[i] for i in ids.tolist())


def rate(step: int, done: float) -> float:
    """The share of the learning rate at a step, ``done`` being the share of the time that is over."""
    return (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * done)) / 2) * min(1.0, (step + 1) / WARM_UP)


def optimisers(model: Gpt) -> list[Optimizer]:
    """AdamW, but Muon for the layers' matrices: in short trials of equal time, 230 to 290 steps, the held-out loss ended
    at 1.95 nats a character with it, and at 2.22 with AdamW throughout."""
    layers = [p for p in model.h.parameters() if p.dim() == 2]
    tables = [model.wte.weight, model.wpe.weight]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": tables, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return [
        AdamW(groups, lr=ADAMW, betas=(0.9, 0.98), fused=True),
        Muon(layers, lr=MUON, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"),
    ]


def improve(model: Gpt, ids: Tensor, steppers: list[Optimizer], share: float) -> float:
    """One step on ids [batch, positions + 1] at a share of the learning rates. The loss before it."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids[:, :-1])
    loss = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
    model.zero_grad()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for stepper in steppers:
        for group in stepper.param_groups:
            group["lr"] = share * group["initial_lr"]
        stepper.step()
    return float(loss.detach())


def canonical(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"


def write(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)


def keep(model: Gpt, folder: Path) -> None:
    """The model's three files. Tensors stand in the order of their names; there is no metadata."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in sorted(model.state_dict().items())}
    write(folder / "model.safetensors", save(tensors))
    write(folder / "config.json", canonical(model.config.document()))
    write(folder / "tokenizer.json", canonical({"type": "characters", "vocabulary": VOCABULARY}))


def train(minutes: float, folder: Path) -> float:
    """Writes the model with the least validation loss to ``folder`` and returns that loss, in nats a character."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(SEED)
    training, held = map(ids_of, split(corpus(topics.values())))
    model = Gpt(Config(vocab_size=len(VOCABULARY)), DROPOUT)
    steppers = optimisers(model)
    for group in (group for stepper in steppers for group in stepper.param_groups):
        group["initial_lr"] = group["lr"]
    print(f"{len(training)} characters to train on, {len(held)} held out")
    window = torch.arange(model.config.n_positions + 1)
    best, step, done, began = math.inf, 0, 0.0, time.monotonic()
    while done < 1:
        starts = torch.randint(len(training) - len(window) + 1, (BATCH, 1))
        loss = improve(model, training[starts + window], steppers, rate(step, done))
        step += 1
        done = (time.monotonic() - began) / (60 * minutes)
        if step % LOOK == 0 or done >= 1:
            value = loss_of(model, held)
            print(f"step {step}, {done:.1%}: loss {loss:.3f}, held out {value:.3f}", flush=True)
            if value < best:
                best = value
                keep(model, folder)
    return best


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m challenger.sim.gpt.train", description="train the character model")
    parser.add_argument("--minutes", type=float, default=20, help="time to spend, in minutes (default 20)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder for the model's three files")
    options = parser.parse_args(arguments)
    if not (math.isfinite(options.minutes) and options.minutes > 0):
        parser.error("--minutes must be above 0")
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"held-out loss {train(options.minutes, options.out):.3f} nats a character")
    return 0


if __name__ == "__main__":
    sys.exit(main())
