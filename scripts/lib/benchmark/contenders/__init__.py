"""The contenders: the runtime and its peers, each as the same few steps; see `contender`.

Only `load` imports the implementation, since each has an environment of its own.
"""

from benchmark.contenders import earlier, mlx_audio, mlx_qwen3_asr, runtime
from benchmark.contenders.contender import Aligner, Recogniser

RUNTIME = "runtime"
EARLIER = "the earlier runtime"
QUANTIZED = {"8bit": "runtime, 8bit", "mixed": "runtime, mixed"}
OWN = (RUNTIME, *QUANTIZED.values(), EARLIER)  # in the environment of this runtime
RECOGNISERS: dict[str, type[Recogniser]] = {
    RUNTIME: runtime.Runtime,
    QUANTIZED["8bit"]: runtime.Runtime8Bit,
    QUANTIZED["mixed"]: runtime.RuntimeMixed,
    "mlx-audio": mlx_audio.MLXAudio,
    "mlx-qwen3-asr": mlx_qwen3_asr.MLXQwen3ASR,
    EARLIER: earlier.Earlier,
}
ALIGNERS: dict[str, type[Aligner]] = {
    RUNTIME: runtime.RuntimeAligner,
    "mlx-audio": mlx_audio.MLXAudioAligner,
    "mlx-qwen3-asr": mlx_qwen3_asr.MLXQwen3Aligner,
}
CONTENDERS = {"recogniser": RECOGNISERS, "aligner": ALIGNERS}
PEERS = tuple(name for name in RECOGNISERS if name not in OWN)
