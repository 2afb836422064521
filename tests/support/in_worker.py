"""Code that tests run in the bridge and in its worker before these begin."""


def in_both(code: str) -> str:
    """Code for the bridge that runs `code` in it, and has its workers run it first too."""
    if not code:
        return ""
    escaped = repr(code).replace("{", "{{").replace("}", "}}")
    planted = f"exec({escaped}); from qwen3"
    return f"""{code}
try:
    from qwen3_asr_mlx_runtime.engines import worker as _worker
    _worker._PROGRAM = _worker._PROGRAM.replace("from qwen3", {planted!r}, 1)
except ImportError:  # where a test has taken a package away
    pass
"""
