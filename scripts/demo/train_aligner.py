"""Train the demonstration aligner on one GPU, from the demonstration recogniser's audio tower.

    python scripts/demo/train_aligner.py CLIPS.npz DEMO OUT.pt [--minutes 9.0] [--budget 1200]

CLIPS.npz is prepare.py's, DEMO is the recogniser's folder. Needs torch, numpy, soxr, tokenizers, safetensors.
"""

import time
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
import train
from align import AlignerComposer
from compose import FRAME_CLASSES, IGNORE, ORDINAL_CLASSES, Batch
from model import ALIGNER_AUDIO, ALIGNER_TEXT, CLASSES, Thinker
from safetensors.torch import load_file
from torch import Tensor, nn

SECONDS, PARTS = 32, 13


def split(classes: Tensor) -> tuple[Tensor, Tensor]:
    """The second of each class, and its place in the second, 0 to 12."""
    seconds = 2 * classes // 25
    return seconds, (2 * classes - 25 * seconds) // 2


class Heads(nn.Module):
    """Auxiliary readings. Of the tower: what is spoken, and the place in the second. Of the decoder's first layer: the
    second. Of its middle: how many words have begun, and the second and the place of the latest one's start and end."""

    def __init__(self) -> None:
        super().__init__()
        audio, text = ALIGNER_AUDIO["output_dim"], ALIGNER_TEXT["hidden_size"]
        self.frame, self.part = nn.Linear(audio, FRAME_CLASSES), nn.Linear(audio, PARTS)
        self.second, self.ordinal = nn.Linear(text, SECONDS), nn.Linear(text, ORDINAL_CLASSES)
        self.seconds, self.parts = nn.Linear(text, 2 * SECONDS), nn.Linear(text, 2 * PARTS)


def initial(thinker: Thinker, demo: Path) -> dict[str, Tensor]:
    """The aligner's state with all that fits of the recogniser's: the tower's first layers, without the weakest part
    of their feed-forward. The head's rows begin as the sum of a second and of a place in it."""
    state, found = thinker.state_dict(), load_file(demo / "model.safetensors")
    for index in range(ALIGNER_AUDIO["encoder_layers"]):
        layer = f"thinker.audio_tower.layers.{index}."
        strength = found[layer + "fc1.weight"].float().norm(dim=1) * found[layer + "fc2.weight"].float().norm(dim=0)
        kept = strength.topk(ALIGNER_AUDIO["encoder_ffn_dim"]).indices
        for name in ("fc1.weight", "fc1.bias"):
            found[layer + name] = found[layer + name][kept]
        found[layer + "fc2.weight"] = found[layer + "fc2.weight"][:, kept]
    for name, value in state.items():
        other = found.get("thinker." + name)
        if other is not None and other.shape == value.shape and name.startswith("audio_tower."):
            state[name] = other.float()
    seconds, parts = split(torch.arange(CLASSES))
    width = ALIGNER_TEXT["hidden_size"]
    state["lm_head.weight"] = 0.05 * (torch.randn(CLASSES, width)[seconds] + torch.randn(PARTS, width)[parts])
    return state


class AlignerTrainer(train.Trainer):
    def model(self, vocabulary: int) -> tuple[Thinker, nn.Module]:
        thinker = Thinker(vocabulary, self.args.dropout, ALIGNER_AUDIO, ALIGNER_TEXT, CLASSES)
        thinker.load_state_dict(initial(thinker, self.args.text))
        self.outputs: dict[int, Tensor] = {}
        for index, layer in enumerate(thinker.model.layers):
            layer.register_forward_hook(lambda _layer, _inputs, output, index=index: self.keep(index, output))
        return thinker, Heads()

    def keep(self, index: int, output: Tensor) -> None:
        self.outputs[index] = output

    def loss(self, batch: Batch, progress: float) -> tuple[Tensor, Tensor]:
        tokens, labels, starts, frames, ordinals = self.tensors(batch)
        with torch.no_grad():
            mel = self.mask(self.synth.features(self.synth.samples(batch, min(1.0, 0.3 + 3 * progress))))
        rows, places = (labels != IGNORE).nonzero(as_tuple=True)
        told = labels[rows, places]
        mark = (labels != IGNORE).cumsum(1)[rows, places] - 1
        words = torch.full((len(tokens), ORDINAL_CLASSES, 2), -1, device=self.device)
        words[rows, 1 + mark // 2, mark % 2] = told
        latest = words.gather(1, ordinals[..., None].expand(-1, -1, 2))
        seconds, parts = (torch.where(latest < 0, IGNORE, part) for part in split(latest))
        at = torch.arange(ordinals.shape[1], device=self.device).expand_as(ordinals)
        with torch.autocast(self.device, torch.bfloat16):
            hidden, audio = self.thinker.hidden(mel, tokens, starts)
            times = F.cross_entropy(self.thinker.logits(hidden[rows, places]).float(), told)
            first, middle = self.outputs[0], self.outputs[1]
            heard, heads = middle[:, 1 : 1 + audio.shape[1]], self.heads
            count = torch.cat([heads.ordinal(heard).flatten(0, 1), heads.ordinal(middle[rows, places])])
            helps = [
                train.cross_entropy(heads.frame(audio), frames),
                train.cross_entropy(heads.part(audio), at % PARTS),
                train.cross_entropy(heads.second(first[:, 1 : 1 + audio.shape[1]]), at // PARTS),
                F.cross_entropy(count.float(), torch.cat([ordinals.flatten(), 1 + mark // 2])),
                train.cross_entropy(heads.seconds(heard).unflatten(-1, (2, SECONDS)).flatten(1, 2), seconds.flatten(1)),
                train.cross_entropy(heads.parts(heard).unflatten(-1, (2, PARTS)).flatten(1, 2), parts.flatten(1)),
            ]
        total = times + max(0.2, 1 - progress / 0.8) * 0.2 * sum(helps)
        return total, torch.stack([times, *helps]).detach()

    def wrong(self, batch: Batch) -> dict[str, float]:
        """Mean distance in classes of the likeliest, and how many marks in a hundred are more than two away."""
        tokens, labels, starts, _, _ = self.tensors(batch)
        with torch.autocast(self.device, torch.bfloat16):
            hidden, _ = self.thinker.hidden(self.synth.features(self.synth.samples(batch, 0.0)), tokens, starts)
            rows, places = (labels != IGNORE).nonzero(as_tuple=True)
            found = self.thinker.logits(hidden[rows, places]).argmax(-1)
        distance = (found - labels[rows, places]).abs().float()
        name = f"{batch.samples / 16000:g}s"
        return {
            name: round(distance.mean().item(), 3),
            f"{name} far": round(100 * (distance > 2).float().mean().item(), 2),
        }


if __name__ == "__main__":
    train.run(train.arguments(minutes=9.0).parse_args(), time.time(), AlignerTrainer, AlignerComposer)
