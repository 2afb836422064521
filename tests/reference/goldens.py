"""Writes the goldens in tests/golden. Only the reference implementations take part: the runtime is never imported.

scripts/reference --goldens
"""

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from reference import alignments
from reference.activations import Activations, load, load_versions
from reference.alignments import CASES, Alignment
from reference.clips import EXTRA_SAMPLES, FRAME_COUNTS, HOP_LENGTH, SEEDS, clip
from reference.corpus import TIMES, TRANSCRIPTS
from reference.differences import HEADER, Differences, differences, relative
from reference.digest import digest, save_digests
from reference.oracles import LONG, SHORT, TESTS, Oracles
from reference.random_checkpoint import SEED, write_random_checkpoint

GOLDEN = TESTS / "golden"
DEMO = TESTS.parent / "src" / "qwen3_asr_mlx_runtime" / "demo"
COMMAND = "scripts/reference --goldens"


def write_goldens(oracles: Oracles, folder: Path, work: Path, tokenizers: dict[str, Path]) -> dict[int, Activations]:
    """Write tiny.npz, tiny.json, rules.json, alignment.json and prompts-{name}.json for each of `tokenizers`.

    Returns the whole activations behind tiny.npz: of 100 frames and more by transformers, of fewer by qwen-asr.
    `work` is filled with the checkpoints and everything the oracles wrote.
    """
    folder.mkdir(parents=True, exist_ok=True)
    released = write_random_checkpoint(work / "released", layout="released")
    native = write_random_checkpoint(work / "native", layout="native")
    by_transformers, by_qwen_asr = work / "transformers.npz", work / "qwen-asr.npz"
    oracles.run_transformers(native, by_transformers, LONG)
    oracles.run_qwen_asr(released, by_qwen_asr, FRAME_COUNTS)
    other = load(by_qwen_asr)
    found = load(by_transformers) | {frames: other[frames] for frames in SHORT}
    save_digests(folder / "tiny.npz", {frames: digest(found[frames]) for frames in FRAME_COUNTS})
    agreement = {frames: differences(other[frames], found[frames]) for frames in LONG}
    versions = {"transformers": load_versions(by_transformers), "qwen-asr": load_versions(by_qwen_asr)}
    _write_json(folder / "tiny.json", _metadata(versions, agreement, released, native))
    oracles.run_rules(folder / "rules.json")
    _write_json(work / "given.json", {"times": TIMES, "texts": TRANSCRIPTS})
    oracles.run_alignment(work / "given.json", folder / "alignment.json")
    for name, tokenizer in tokenizers.items():
        oracles.run_prompts(tokenizer, folder / f"prompts-{name}.json")
    return found


def write_aligner_goldens(
    oracles: Oracles, folder: Path, work: Path, tokenizers: dict[str, Path]
) -> dict[str, Alignment]:
    """Write aligner.npz, aligner.json, and alignments-{name}.json for each of `tokenizers`.

    Returns the whole alignments behind aligner.npz: of 100 frames and more by transformers, of fewer by qwen-asr. The
    checkpoints have the tokenizer of the demonstration checkpoint.
    """
    for name, tokenizer in tokenizers.items():
        of_aligner = aligner_tokenizer(tokenizer, work / f"{name}-tokenizer")
        oracles.run_alignments(of_aligner, folder / f"alignments-{name}.json")
    native, released = (
        write_random_checkpoint(work / f"aligner-{layout}", size="tiny-aligner", layout=layout, tokenizer=DEMO)
        for layout in ("native", "released")
    )
    by_transformers, by_qwen_asr = work / "aligner-transformers.npz", work / "aligner-qwen-asr.npz"
    oracles.align_by_transformers(native, by_transformers)
    oracles.align_by_qwen_asr(released, by_qwen_asr, CASES)
    other = alignments.load(by_qwen_asr)
    found = {name: other[name] for name in alignments.SHORT} | alignments.load(by_transformers)
    alignments.save_digests(folder / "aligner.npz", {name: alignments.digest(found[name]) for name in CASES})
    metadata = {
        "command": COMMAND,
        "oracles": {
            "transformers": {"versions": load_versions(by_transformers), "cases": alignments.LONG},
            "qwen-asr": {"versions": load_versions(by_qwen_asr), "cases": alignments.SHORT},
        },
        "checkpoint": {"seed": SEED, "sha256": {one.name: _sha256_of_weights(one) for one in (native, released)}},
        "smallest gap": min(float(alignments.gaps(one.logits).min()) for one in found.values()),
        "qwen-asr against transformers": {
            "ids": all(other[name].ids.tolist() == found[name].ids.tolist() for name in CASES),
            "logits, relative": max(relative(other[name].logits, found[name].logits) for name in CASES),
        },
    }
    _write_json(folder / "aligner.json", metadata)
    return found


def aligner_tokenizer(tokenizer: Path, target: Path) -> Path:
    """The published aligner has the recogniser's files, except for the one that names `<timestamp>`: a copy of both in
    `target`. A tokenizer that has the token is a copy of itself."""
    shutil.copytree(tokenizer, target)
    own = tokenizer.parent / "Qwen3-ForcedAligner-0.6B" / "tokenizer_config.json"
    if own.exists():
        shutil.copyfile(own, target / own.name)
    return target


def _metadata(
    versions: dict[str, dict[str, str]], agreement: dict[int, Differences], *checkpoints: Path
) -> dict[str, object]:
    return {
        "command": COMMAND,
        "oracles": {
            "transformers": {"versions": versions["transformers"], "frames": LONG},
            "qwen-asr": {"versions": versions["qwen-asr"], "frames": SHORT},
        },
        "checkpoint": {"seed": SEED, "sha256": {folder.name: _sha256_of_weights(folder) for folder in checkpoints}},
        "clips": {frames: _clip_metadata(frames) for frames in FRAME_COUNTS},
        "qwen-asr against transformers": {
            "mel, max abs": max(found.mel for found in agreement.values()),
            "tower, relative": max(found.embeddings for found in agreement.values()),
            "prefill logits, relative": max(found.logits for found in agreement.values()),
            "equal tokens": min(found.equal_tokens for found in agreement.values()),
            "log-probability, max abs": max(found.logprobs for found in agreement.values()),
        },
    }


def _clip_metadata(frames: int) -> dict[str, object]:
    samples = frames * HOP_LENGTH + EXTRA_SAMPLES[frames]
    return {"samples": samples, "seed": SEEDS[frames], "sha256": sha256_of_clip(frames)}


def sha256_of_clip(frames: int) -> str:
    return hashlib.sha256(clip(frames).tobytes()).hexdigest()


def _sha256_of_weights(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _named(folders: Iterable[str]) -> dict[str, Path]:
    return {name: Path(folder) for name, _, folder in (item.partition("=") for item in folders)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=GOLDEN)
    parser.add_argument("--tokenizer", action="append", default=[], metavar="NAME=FOLDER")
    options = parser.parse_args()
    oracles = Oracles.from_environment()
    if oracles is None:
        parser.error("the reference environments are not named: run scripts/reference")
    with tempfile.TemporaryDirectory() as work:
        found = write_goldens(oracles, options.out, Path(work), _named(options.tokenizer))
        write_aligner_goldens(oracles, options.out, Path(work), _named(options.tokenizer))
        other = load(Path(work) / "qwen-asr.npz")
    rows = [differences(other[frames], found[frames]).row(frames) for frames in LONG]
    sys.stdout.write("\n".join(["qwen-asr against transformers", "", HEADER, *rows]) + "\n")


if __name__ == "__main__":
    main()
