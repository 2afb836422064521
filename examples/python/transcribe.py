"""Transcribe a sound file:
scripts/python examples/python/transcribe.py --model demo examples/audio/sample.wav

--bridge is the command line of the bridge, --model the model: demo, Qwen/Qwen3-ASR-0.6B, or a folder. --words says
when each word was said, in seconds: start, end, word.
"""

import argparse
import shlex
import sys
from pathlib import Path

from qwen3_asr_mlx_runtime.client import Bridge, ClientError
from qwen3_asr_mlx_runtime.command import guarded

LAUNCHER = Path(__file__).resolve().parents[2] / "scripts" / "qwen3-asr-mlx-bridge"


@guarded("transcribe.py")
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", nargs="+", type=Path)
    parser.add_argument("--bridge", default=shlex.quote(str(LAUNCHER)))
    parser.add_argument("--model", help="the bridge's default where none is given")
    parser.add_argument("--language", help="name or ISO code; the model decides where none is given")
    parser.add_argument("--words", action="store_true", help="show the times of each word")
    options = parser.parse_args()
    command = shlex.split(options.bridge) + (["--model", options.model] if options.model else [])
    try:
        with Bridge(command) as bridge:
            for path in options.audio:
                transcript = bridge.transcribe(path.resolve(), language=options.language, words=options.words)
                print(transcript.text)
                for word in transcript.words or ():
                    print(f"{word.start:8.2f} {word.end:8.2f}  {word.text}")
                if transcript.words is None:  # the text is there all the same
                    print(*transcript.warnings, sep="\n", file=sys.stderr)
    except ClientError as error:
        print(f"{error.code}: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
