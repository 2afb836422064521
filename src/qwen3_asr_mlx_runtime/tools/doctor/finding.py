"""A result of the doctor, and its advice."""

from typing import Literal, NamedTuple

Level = Literal["ok", "warning", "failure"]


class Finding(NamedTuple):
    """`advice` is empty if there is nothing to do."""

    level: Level
    what: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.level:8} {self.what}" + (f"\n         {self.advice}" if self.advice else "")


def ok(what: str) -> Finding:
    return Finding("ok", what)


def warning(what: str, advice: str) -> Finding:
    return Finding("warning", what, advice)


def failure(what: str, advice: str) -> Finding:
    return Finding("failure", what, advice)
