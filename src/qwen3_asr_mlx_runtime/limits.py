"""What the process accepts at most. Constants of the wire stand here once; Settings hold what an option can change."""

MAX_LINE_BYTES = 8 * 1024 * 1024  # of one line of input
MAX_READ_AHEAD_BYTES = 64 * 1024 * 1024  # of requests that are read and not answered
MAX_OUTPUT_QUEUE_BYTES = 16 * 1024 * 1024  # of lines that the client has not read

MAX_BATCH_ROWS = 16  # segments that are decoded together
MAX_BATCH_ITEMS = 256  # files of one request
MAX_BATCH_SIZE = 16  # utterances that a stream may want in one group
MAX_BATCH_DELAY_MS = 60_000
MIN_PARTIAL_INTERVAL_MS, MAX_PARTIAL_INTERVAL_MS = 100, 60_000
MAX_ID_CHARACTERS = 128
MAX_MILLISECONDS = 24 * 3600 * 1000
MAX_NEW_TOKENS = 4096
MAX_CONTEXT_CHARACTERS = 16_384
MAX_PATH_CHARACTERS = 4096

MIN_STREAM_RATE, MAX_STREAM_RATE = 8_000, 192_000  # Hz
MAX_CHUNK_SECONDS = 30.0
