"""Train the demonstration checkpoint on one GPU.

    python scripts/demo/train.py CLIPS.npz TEXTDIR OUT.pt [--minutes 9.55] [--budget 1200]

CLIPS.npz is prepare.py's, TEXTDIR is make_tokenizer.py's. Needs torch, numpy, soxr, tokenizers.
"""

import argparse
import json
import math
import multiprocessing
import os
import time
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import numpy as np
import prepare
import soxr
import torch
import torch.nn.functional as F  # noqa: N812
from compose import FRAME_CLASSES, IGNORE, ORDINAL_CLASSES, SPEEDS, Bank, Batch, Composer, Prompts
from model import AUDIO, TEXT, Thinker
from synth import Synthesizer
from torch import Tensor, nn

WORKERS = max(1, (os.cpu_count() or 2) - 3)


def respeed(job: tuple[np.ndarray, int]) -> list[np.ndarray]:
    """One recording at every speed, 16 kHz, float32."""
    samples, rate = job
    sound = samples.astype(np.float32) / 32768
    return [np.asarray(soxr.resample(sound, rate * speed, 16000), np.float32) for speed in SPEEDS]


def load_bank(path: Path) -> tuple[Bank, Tensor]:
    """The bank's index and its samples, speed after speed."""
    data = dict(np.load(path))
    samples = np.split(prepare.unpack(data["packed"]), np.cumsum(data["lengths"])[:-1])
    with Pool(WORKERS) as pool:
        clips = pool.map(respeed, zip(samples, data["rates"].tolist(), strict=True), 64)
    ordered = [clip[speed] for speed in range(len(SPEEDS)) for clip in clips]
    length = np.array([len(sound) for sound in ordered])
    start = np.cumsum(length) - length
    shape = (len(SPEEDS), len(samples))
    names = ("labels", "arabic", "voice", "held_out")
    voice = [prepare.voiced(sound, rate) for sound, rate in zip(samples, data["rates"].tolist(), strict=True)]
    shares = np.array(voice) / data["lengths"][:, None]
    index = Bank(start.reshape(shape), length.reshape(shape), *(data[name] for name in names), shares)
    return index, torch.from_numpy(np.concatenate(ordered))


def longest(progress: float) -> float:
    """The curriculum: seconds of the longest clips, by the share of the time that has passed."""
    return 4.0 if progress < 0.06 else 10.0 if progress < 0.15 else 30.0


def produce(kind: type[Composer], bank: Bank, args: argparse.Namespace, seed: int, shared: Any, queue: Any) -> None:
    composer = kind(bank, Prompts(args.text), seed)
    while True:
        queue.put(composer.batch(longest(1.0 if args.start else shared.value), args.budget, 320))


def start_producers(kind: type[Composer], bank: Bank, args: argparse.Namespace) -> tuple[Any, Any]:
    """The share of the time that has passed, for the curriculum, and the queue of batches that processes fill."""
    context = multiprocessing.get_context("fork")
    shared, queue = context.Value("d", 0.0), context.Queue(48)
    for worker in range(WORKERS):
        arguments = (kind, bank, args, args.seed * 1000 + worker, shared, queue)
        context.Process(target=produce, args=arguments, daemon=True).start()
    return shared, queue


class Heads(nn.Module):
    """Two auxiliary readings that show the tower what is spoken when, and the decoder how far the count is."""

    def __init__(self) -> None:
        super().__init__()
        self.frame = nn.Linear(AUDIO["output_dim"], FRAME_CLASSES)
        self.ordinal = nn.Linear(TEXT["hidden_size"], ORDINAL_CLASSES)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORE)


class Trainer:
    def __init__(self, bank: Tensor, vocabulary: int, device: str, args: argparse.Namespace) -> None:
        self.device, self.args = device, args
        self.synth = Synthesizer(bank.to(device))
        self.thinker, self.heads = (module.to(device) for module in self.model(vocabulary))
        if args.start:
            self.thinker.load_state_dict(torch.load(args.start, map_location=device, weights_only=True)["averaged"])
        self.averaged = {name: value.clone() for name, value in self.thinker.state_dict().items()}
        weights = [*self.thinker.parameters(), *self.heads.parameters()]
        groups = [
            {"params": [p for p in weights if p.ndim > 1], "weight_decay": 0.03},
            {"params": [p for p in weights if p.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), fused=device == "cuda")
        self.step_count = 0

    def model(self, vocabulary: int) -> tuple[Thinker, nn.Module]:
        """The network, and the auxiliary heads that are dropped at export."""
        return Thinker(vocabulary, self.args.dropout), Heads()

    def tensors(self, batch: Batch) -> list[Tensor]:
        names = ("tokens", "labels", "starts", "frames", "ordinals")
        return [torch.from_numpy(getattr(batch, name)).to(self.device, non_blocking=True) for name in names]

    def mask(self, mel: Tensor) -> Tensor:
        """Hide a band of each clip's mel bins, or none."""
        B, M, _ = mel.shape
        width = torch.rand(B, 1, 1, device=mel.device) * 24 * (torch.rand(B, 1, 1, device=mel.device) < 0.4)
        first = torch.rand(B, 1, 1, device=mel.device) * (M - width)
        bins = torch.arange(M, device=mel.device)[None, :, None]
        return torch.where((bins >= first) & (bins < first + width), mel.amin((1, 2), keepdim=True), mel)

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, Tensor]:
        tokens, labels, starts, frames, ordinals = self.tensors(batch)
        with torch.no_grad():
            mel = self.mask(self.synth.features(self.synth.samples(batch, min(1.0, 0.3 + 3 * progress))))
        with torch.autocast(self.device, torch.bfloat16):
            hidden, audio = self.thinker.hidden(mel, tokens, starts)
            rows, places = (labels != IGNORE).nonzero(as_tuple=True)
            text = F.cross_entropy(self.thinker.logits(hidden[rows, places]).float(), labels[rows, places])
            at = starts[:, None] + torch.arange(audio.shape[1], device=self.device)
            digit_states = hidden.gather(1, at[..., None].expand(-1, -1, hidden.shape[-1]))
            frame = cross_entropy(self.heads.frame(audio), frames)
            ordinal = cross_entropy(self.heads.ordinal(digit_states), ordinals)
        help_weight = max(0.0, 1 - progress / 0.7)
        return text + help_weight * (0.3 * frame + 0.1 * ordinal.nan_to_num()), torch.stack(
            [text, frame, ordinal]
        ).detach()

    def step(self, batch: Batch, progress: float) -> Tensor:
        warm = min(1.0, (self.step_count + 1) / 300)
        for group in self.optimizer.param_groups:
            group["lr"] = self.args.lr * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        total, parts = self.loss(batch, progress)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.thinker.parameters(), 1.0)
        self.optimizer.step()
        self.step_count += 1
        keep = min(0.9985, self.step_count / (self.step_count + 20))
        live = list(self.thinker.state_dict().values())
        torch._foreach_lerp_(list(self.averaged.values()), live, 1 - keep)
        return parts

    @torch.no_grad()
    def check(self, batches: list[Batch]) -> dict[str, float]:
        """The figures of `wrong` of the averaged weights, rounded to bf16."""
        live = {name: value.clone() for name, value in self.thinker.state_dict().items()}
        self.thinker.load_state_dict({name: value.bfloat16().float() for name, value in self.averaged.items()})
        self.thinker.eval()
        out = {name: value for batch in batches for name, value in self.wrong(batch).items()}
        self.thinker.load_state_dict(live)
        self.thinker.train()
        return out

    def wrong(self, batch: Batch) -> dict[str, float]:
        """Share of wrong tokens, each predicted from the true ones before it."""
        tokens, labels, starts, _, _ = self.tensors(batch)
        with torch.autocast(self.device, torch.bfloat16):
            hidden, _ = self.thinker.hidden(self.synth.features(self.synth.samples(batch, 0.0)), tokens, starts)
            wrong = (self.thinker.logits(hidden).argmax(-1) != labels) & (labels != IGNORE)
        name = f"{batch.samples / 16000:g}s"
        return {
            name: round(100 * (wrong.sum() / (labels != IGNORE).sum()).item(), 2),
            f"{name} rows": round(100 * wrong.any(1).float().mean().item(), 2),
        }

    def save(self, path: Path) -> None:
        """Write the averaged weights, float32."""
        torch.save({"averaged": self.averaged}, path)


def run(
    args: argparse.Namespace,
    began: float,
    kind: type[Trainer] = Trainer,
    composer: type[Composer] = Composer,
) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.manual_seed(args.seed)
    index, bank = load_bank(args.clips)
    print(
        f"{len(index.voice)} clips, {len(bank) / 16000 / len(SPEEDS):.0f} s, ready after {time.time() - began:.0f} s",
        flush=True,
    )
    shared, queue = start_producers(composer, index, args)
    vocabulary = len(json.loads((args.text / "vocab.json").read_text())) + 8
    held_out = composer(index, Prompts(args.text), 7, held_out=True)
    checks = [held_out.batch(30, 600, 200, seconds) for seconds in (0.6, 2.5, 6.0, 14.0, 25.0)]
    trainer = kind(bank, vocabulary, device, args)
    end, start, printed, sums = began + 60 * args.minutes, time.time(), time.time(), []
    while (now := time.time()) < end:
        progress = (now - start) / (end - start)
        shared.value = progress
        sums.append(trainer.step(queue.get(), progress))
        if now - printed > args.every:
            mean = torch.stack(sums).nanmean(0).tolist()
            rate = (now - printed) / len(sums)
            report = trainer.check(checks)
            print(
                f"{progress:.3f} step {trainer.step_count} {rate:.4f} s queue {queue.qsize()} "
                f"losses {' '.join(f'{loss:.4f}' for loss in mean)} {report}",
                flush=True,
            )
            trainer.save(args.out)
            printed, sums = time.time(), []
    trainer.save(args.out)
    print("done", trainer.step_count, trainer.check(checks), flush=True)


def arguments(minutes: float) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    for name in ("clips", "text", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--minutes", type=float, default=minutes, help="of everything, loading included")
    parser.add_argument("--start", type=Path, help="go on from these weights, at once with clips of every length")
    parser.add_argument("--every", type=float, default=30.0, help="seconds between reports")
    parser.add_argument("--budget", type=float, default=1200.0, help="seconds of sound in a batch")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    return parser


if __name__ == "__main__":
    run(arguments(minutes=9.55).parse_args(), time.time())
