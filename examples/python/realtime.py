"""Stream a WAV to the realtime door of qwen3-asr-mlx-serve, as OpenAI's clients do, and show its text as it comes.
docs/doors.md starts the server and calls this.
"""

import argparse
import base64
import json
import os
import sys
import wave
from pathlib import Path

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from qwen3_asr_mlx_runtime.command import guarded

CHUNK_SECONDS = 0.1
PATH = "/v1/realtime?intent=transcription"
TRANSCRIPTION = "conversation.item.input_audio_transcription"


def send(connection: ClientConnection, type: str, **members: object) -> None:
    connection.send(json.dumps({"type": type, **members}))


def speak(connection: ClientConnection, file: wave.Wave_read) -> None:
    """One utterance. A microphone would send it at the pace of speech."""
    audio = {"input": {"format": {"type": "audio/pcm", "rate": file.getframerate()}}}
    send(connection, "session.update", session={"type": "transcription", "audio": audio})
    while chunk := file.readframes(int(file.getframerate() * CHUNK_SECONDS)):
        send(connection, "input_audio_buffer.append", audio=base64.b64encode(chunk).decode())
    send(connection, "input_audio_buffer.commit")


def show(connection: ClientConnection) -> int:
    """Until the utterance has its outcome; the exit code."""
    for message in connection:
        event = json.loads(message)
        match event["type"].removeprefix(f"{TRANSCRIPTION}."):
            case "delta":
                print(f"… {event['delta']}", flush=True)
            case "completed":
                print(event["transcript"])
                return 0
            case "failed" | "error":
                print(f"{event['error']['code']}: {event['error']['message']}", file=sys.stderr)
                return 1
    return 1


@guarded("realtime.py")
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", help="as ws://127.0.0.1:8000")
    parser.add_argument("audio", type=Path)
    options = parser.parse_args()
    token = os.environ.get("QWEN3_ASR_MLX_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with (
            wave.open(str(options.audio)) as file,
            connect(f"{options.server}{PATH}", additional_headers=headers) as connection,
        ):
            if (file.getnchannels(), file.getsampwidth()) != (1, 2):
                raise wave.Error("expected 16-bit mono")
            speak(connection, file)
            return show(connection)
    except (WebSocketException, wave.Error) as error:
        print(f"realtime.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
