"""Code that tests run in the bridge and in its worker before these begin."""


def planted(program: str, code: str) -> str:
    """The program of a worker that runs `code` first."""
    escaped = repr(code).replace("{", "{{").replace("}", "}}")
    return program.replace("from qwen3", f"exec({escaped}); from qwen3", 1)


def in_both(code: str) -> str:
    """Code for the bridge that runs `code` in it, and has its workers run it first too."""
    if not code:
        return ""
    return f"""{code}
try:
    from support.in_worker import planted
    from qwen3_asr_mlx_runtime.engines import worker as _worker
    _worker._PROGRAM = planted(_worker._PROGRAM, {code!r})
except ImportError:  # where a test has taken a package away
    pass
"""
