"""The commands that documents, docstrings and help texts show, and the programs and options that they name."""

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

REASONS = ("network", "Mac", "weights", "over 60 s")
DOCUMENTS = (
    *(
        "README.md",
        "CONTRIBUTING.md",
        "docs/*.md",
        "docs/protocol/*.md",
        "docs/evidence/README.md",
        "examples/*/README.md",
    ),
    *("scripts/demo/README.md", "src/qwen3_asr_mlx_runtime/demo*/README.md"),
)
_PROGRAMS = (
    r"(?:[A-Z]\w*=\S+ )*(?:\.?/?(?:scripts|examples|\.ci)/|(?:python3?|pytest|pip|uv|node|npm|swift|git|open|sh) )"
)
_STARTS = re.compile(_PROGRAMS)
_MARK = re.compile(r"<!-- not run: (.+) -->")
_SYNOPSIS = re.compile(r"[\[\]…]|\.\.\.|\b[A-Z]{3,}\b(?!=)")  # what stands for something else, as FILE


@dataclass(frozen=True)
class Block:
    """Lines of a shell. `reason`: why they are not run, or None."""

    place: str
    text: str
    reason: str | None = None


def in_markdown(root: Path) -> dict[str, list[Block]]:
    """By document: blocks that are fenced as `sh` and paragraphs that are indented, with the mark before each."""
    files = sorted(file for pattern in DOCUMENTS for file in root.glob(pattern))
    found = {str(file.relative_to(root)): file.read_text(encoding="utf-8") for file in files}
    return {name: [*_blocks(name, text)] for name, text in found.items()}


def _blocks(name: str, text: str) -> Iterator[Block]:
    reason: str | None = None
    for part in _parts(text):
        if mark := _MARK.fullmatch(part.strip()):
            reason = mark[1]
            continue
        fence = re.fullmatch(r"```(\w*)[^\n]*\n(.*)```", part, re.DOTALL)
        if fence:
            if fence[1] == "sh":
                yield Block(name, fence[2], reason)
            elif fence[1] == "" and any(map(_STARTS.match, fence[2].splitlines())):
                raise AssertionError(f"{name}: commands in a block that is not marked as `sh`:\n{part}")
        elif _is_indented(part) and _STARTS.match(part.strip()):
            yield Block(name, "\n".join(line[4:] for line in part.splitlines()) + "\n", reason)
        reason = None


def _parts(text: str) -> Iterator[str]:
    """Fences and paragraphs; a mark is one of its own."""
    for part in re.split(r"(^```.*?^```$|^<!-- not run: [^\n]+ -->$)", text, flags=re.DOTALL | re.MULTILINE):
        yield from [part] if part.startswith(("```", "<!--")) else filter(str.strip, re.split(r"\n\s*\n", part))


def _is_indented(part: str) -> bool:
    return all(line.startswith("    ") for line in part.strip("\n").splitlines())


def in_source(root: Path) -> list[Block]:
    """Lines of the docstrings of programs and of the comments at the head of scripts."""
    return [block for file in _sources(root) for block in _lines_of(root, file)]


def _sources(root: Path) -> Iterator[Path]:
    for pattern in ("scripts/*", "examples/shell/*", "examples/*/*.py", "scripts/lib/**/*.py", "scripts/demo/*.py"):
        yield from (file for file in sorted(root.glob(pattern)) if file.is_file() and file.suffix != ".md")


def _lines_of(root: Path, file: Path) -> Iterator[Block]:
    text = file.read_text(encoding="utf-8")
    lines = ast.get_docstring(ast.parse(text)) or "" if file.suffix == ".py" else head(file)
    for line in lines.splitlines():
        shown = re.sub(r"^qwen3-asr-mlx-", "scripts/qwen3-asr-mlx-", line.strip())
        if _STARTS.match(shown):
            place = str(file.relative_to(root))
            measures = place.startswith("scripts/") and place != "scripts/python"  # those that users start have --help
            reason = "placeholder" if _SYNOPSIS.search(shown) else "over 60 s" if measures else None
            yield Block(place, f"{shown}\n", reason)


def head(file: Path) -> str:
    """The comment at the head of a script."""
    lines = file.read_text(encoding="utf-8").splitlines()[1:]
    return "\n".join(
        line.lstrip("#").strip() for line in lines[: next(i for i, one in enumerate(lines) if one[:1] != "#")]
    )


def in_help(name: str, text: str) -> list[Block]:
    """The examples of a help text; those of the models that are released, of public sets, or of FILES are not run."""
    _, _, examples = text.partition("example")
    lines = [line.removeprefix("s:").removeprefix(":").strip() for line in examples.splitlines()]
    lines = [
        line if line.startswith("scripts/") else f"scripts/{line}" for line in lines if "qwen3-asr-mlx-" in line[:24]
    ]
    return [Block(f"{name} --help", f"{line}\n", _reason(line)) for line in lines]


def _reason(line: str) -> str | None:
    if "--recipe" in line or "qwen3-asr-mlx-install" in line:
        return "network"
    if "Qwen/" in line:
        return "weights"
    return "placeholder" if _SYNOPSIS.search(line) else None


def commands(block: Block) -> list[str]:
    """What is run in one go: each line, or all where they depend on each other in one shell."""
    text = re.sub(r"\s+#.*$", "", block.text.replace("\\\n", " "), flags=re.MULTILINE)
    if re.search(r"^(\w+=|while |for )", text, re.MULTILINE):
        return [text]
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


@dataclass(frozen=True)
class Call:
    """A program of this repository and the long options that it is given."""

    program: str
    options: list[str] = field(default_factory=list)


def calls(root: Path, text: str) -> Iterator[Call]:
    """Of the lines of a shell. A program that is not of this repository is nobody's business here."""
    variables: dict[str, str] = {}
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(re.sub(r"\$\{?(\w+)\}?", lambda name: variables.get(name[1], name[0]), line), comments=True)
        while words and re.fullmatch(r"\w+=.*", words[0]):
            name, _, value = words.pop(0).partition("=")
            variables[name] = value
        at = next((place for place, word in enumerate(words) if _own(root, word)), None)
        if at is None:
            continue
        program = _own(root, words[at]) or ""
        if program == "scripts/python":
            at = next(place for place, word in enumerate(words) if word.endswith(".py"))
            program = words[at]
        options = [re.match(r"\[?(--[a-z][a-z0-9-]+)", word) for word in words[at + 1 :]]
        yield Call(program, [option[1] for option in options if option])


def _own(root: Path, word: str) -> str | None:
    """The program in this repository that a word names, also by the path of a submodule or from a folder of it."""
    found = re.search(r"(?:^|/)((?:scripts|examples|\.ci)/[\w./-]+)$", word)
    return found[1] if found and (root / found[1]).is_file() else None


@cache
def inline(root: Path) -> tuple[tuple[str, str], ...]:
    """(document, command), of what stands between backquotes and begins as a command."""
    found = []
    for name in in_markdown(root):
        prose = re.sub(r"^```.*?^```$", "", (root / name).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for span in re.findall(r"`([^`\n]+)`", prose):
            if _STARTS.match(span) and " --" in span:
                found.append((name, span.replace("…", "")))
    return tuple(found)
