"""The contenders: the runtime and its peers, each as the same few steps; see `contender.Contender`.

Only `load` imports the implementation, since each has an environment of its own.
"""

from benchmark.contenders import mlx_audio, mlx_qwen3_asr, runtime
from benchmark.contenders.contender import Contender

RUNTIME = "runtime"
CONTENDERS: dict[str, type[Contender]] = {
    RUNTIME: runtime.Runtime,
    "mlx-audio": mlx_audio.MLXAudio,
    "mlx-qwen3-asr": mlx_qwen3_asr.MLXQwen3ASR,
}
PEERS = tuple(name for name in CONTENDERS if name != RUNTIME)
