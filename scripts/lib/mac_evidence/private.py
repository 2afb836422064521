"""Takes names of people, machines and folders out of what commands say."""

import getpass
import platform
import re
from collections.abc import Iterable
from pathlib import Path

_REST = r"[^\s'\"`,;:()<>|]"
_PATH = re.compile(rf"(?<![\w./])(?:~|\.\.)?/{_REST}+")
_SHORTEST_NAME = 3  # of a person or a machine; shorter ones would be found within other words of a report


class Private:
    """`root`: of the checkout, which becomes `.`. `home`: a folder that may have spaces. `names`: of people and
    machines."""

    def __init__(self, root: Path, home: Path, names: Iterable[str]) -> None:
        self._root = re.compile(rf"{re.escape(str(root))}(?!\w)")
        self._home = re.compile(rf"{re.escape(str(home))}(?!\w){_REST}*") if len(home.parts) > 1 else None
        words = sorted({re.escape(name) for name in names if len(name) >= _SHORTEST_NAME}, key=len, reverse=True)
        self._names = re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)", re.IGNORECASE) if words else None

    @classmethod
    def of_this_machine(cls, root: Path) -> "Private":
        home, host = Path.home(), platform.node()
        return cls(root, home, [_user(), home.name, host, host.partition(".")[0]])

    def clean(self, text: str) -> str:
        """The text with every path outside of the checkout as PATH, and every name as NAME."""
        text = self._root.sub(".", text)
        text = self._home.sub("PATH", text) if self._home else text
        text = _PATH.sub("PATH", text)
        return self._names.sub("NAME", text) if self._names else text


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run as nobody who is known
        return ""
