// Which reply answers which request.

export const PROTOCOL = "qwen3-asr-mlx-jsonl-v1";
export const REPLIES = {
  capabilities: ["capabilities"],
  hello: ["capabilities"],
  ping: ["pong"],
  status: ["status"],
  cancel: ["cancel_result"],
  start: ["ready"],
  unload: ["unloaded"],
  transcribe: ["transcript"],
  batch_transcribe: ["batch_transcript"],
  align: ["aligned"],
  start_stream: ["stream_ready"],
  pause: ["paused"],
  end_utterance: ["utterance_queued", "realtime_batch_final"],
  vad_boundary: ["utterance_queued", "realtime_batch_final"],
  flush: ["realtime_batch_final"],
  stop_stream: ["stream_stopped"],
  stop: ["stopped"],
};
export const REPLY_TYPES = new Set(["error", ...Object.values(REPLIES).flat()]);
