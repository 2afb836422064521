"""A Python that may be copied to any place, as the builds are that apps ship, made of the one that runs."""

import shutil
import sys
from pathlib import Path

_NOT_NEEDED = ("test", "site-packages", "__pycache__", "idlelib", "tkinter")


def make_relocatable(folder: Path) -> Path | None:
    """Its files in `folder`, with an executable that looks for libpython beside itself; None where that cannot be
    made: on another system than Linux, and of a distribution's Python, which is spread over the system."""
    base, name = Path(sys.base_prefix), f"python{sys.version_info.major}.{sys.version_info.minor}"
    if sys.platform != "linux" or base == Path("/usr"):
        return None
    shutil.copytree(base / "lib" / name, folder / "lib" / name, ignore=shutil.ignore_patterns(*_NOT_NEEDED))
    for library in base.glob("lib/libpython3*"):
        shutil.copy2(library, folder / "lib", follow_symlinks=False)
    place, beside = f"{base}/lib".encode() + b"\0", b"$ORIGIN/../lib"
    executable = folder / "bin" / name
    executable.parent.mkdir()
    executable.write_bytes((base / "bin" / name).read_bytes().replace(place, beside.ljust(len(place), b"\0")))
    executable.chmod(0o755)
    (folder / "bin" / "python3").symlink_to(name)
    return folder
