// Made by scripts/generate-types from docs/protocol.schema.json: do not edit.

/// qwen3-asr-mlx-jsonl-v1. Each line is one message. `Request`: sent by a client. `Reply`: answers a request. `Event`:
/// answers no request, sent if wanted. Members that are not listed are allowed. In requests null means an absent
/// member, and a string of digits may replace a number.
public enum Wire {}

extension Wire {
    /// Codes are only added; one that is not known here is treated by `retryable`.
    public struct ErrorCode: RawRepresentable, Codable, Hashable, Sendable {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }

        public static let alignerDownloading = Self(rawValue: "aligner_downloading")
        public static let audioChanged = Self(rawValue: "audio_changed")
        public static let audioCorrupt = Self(rawValue: "audio_corrupt")
        public static let audioEmpty = Self(rawValue: "audio_empty")
        public static let audioNotFound = Self(rawValue: "audio_not_found")
        public static let audioNotRegularFile = Self(rawValue: "audio_not_regular_file")
        public static let audioReadTimeout = Self(rawValue: "audio_read_timeout")
        public static let audioTooLong = Self(rawValue: "audio_too_long")
        public static let audioUnreadable = Self(rawValue: "audio_unreadable")
        public static let audioUnsupported = Self(rawValue: "audio_unsupported")
        public static let badBase64 = Self(rawValue: "bad_base64")
        public static let busy = Self(rawValue: "busy")
        public static let cancelled = Self(rawValue: "cancelled")
        public static let decodeFailed = Self(rawValue: "decode_failed")
        public static let deviceUnavailable = Self(rawValue: "device_unavailable")
        public static let diskFull = Self(rawValue: "disk_full")
        public static let downloadFailed = Self(rawValue: "download_failed")
        public static let duplicateID = Self(rawValue: "duplicate_id")
        public static let engineCrashed = Self(rawValue: "engine_crashed")
        public static let engineIncompatible = Self(rawValue: "engine_incompatible")
        public static let engineRejected = Self(rawValue: "engine_rejected")
        public static let engineStalled = Self(rawValue: "engine_stalled")
        public static let engineUnavailable = Self(rawValue: "engine_unavailable")
        public static let engineUnreachable = Self(rawValue: "engine_unreachable")
        public static let environmentMissing = Self(rawValue: "environment_missing")
        public static let gpuError = Self(rawValue: "gpu_error")
        public static let internalError = Self(rawValue: "internal_error")
        public static let invalidJson = Self(rawValue: "invalid_json")
        public static let invalidParams = Self(rawValue: "invalid_params")
        public static let invalidRequest = Self(rawValue: "invalid_request")
        public static let invalidUtf8 = Self(rawValue: "invalid_utf8")
        public static let languageUnsupported = Self(rawValue: "language_unsupported")
        public static let limitExceeded = Self(rawValue: "limit_exceeded")
        public static let lineTooLong = Self(rawValue: "line_too_long")
        public static let modelChanged = Self(rawValue: "model_changed")
        public static let modelCorrupt = Self(rawValue: "model_corrupt")
        public static let modelIncomplete = Self(rawValue: "model_incomplete")
        public static let modelNotFound = Self(rawValue: "model_not_found")
        public static let modelUnsupported = Self(rawValue: "model_unsupported")
        public static let noAudio = Self(rawValue: "no_audio")
        public static let nonFiniteOutput = Self(rawValue: "non_finite_output")
        public static let oddPcmLength = Self(rawValue: "odd_pcm_length")
        public static let outOfMemory = Self(rawValue: "out_of_memory")
        public static let pathNotAllowed = Self(rawValue: "path_not_allowed")
        public static let resourceExhausted = Self(rawValue: "resource_exhausted")
        public static let seqOutOfOrder = Self(rawValue: "seq_out_of_order")
        public static let shuttingDown = Self(rawValue: "shutting_down")
        public static let streamExists = Self(rawValue: "stream_exists")
        public static let timeout = Self(rawValue: "timeout")
        public static let tooManyUnits = Self(rawValue: "too_many_units")
        public static let unknownStream = Self(rawValue: "unknown_stream")
        public static let unknownType = Self(rawValue: "unknown_type")
        public static let unsupportedByEngine = Self(rawValue: "unsupported_by_engine")
        public static let unsupportedSampleRate = Self(rawValue: "unsupported_sample_rate")
    }
}

extension Wire {
    public enum Request: Codable, Equatable, Sendable {
        case capabilities(Capabilities)
        case hello(Hello)
        case ping(Ping)
        case status(Status)
        case cancel(Cancel)
        case start(Start)
        case unload(Unload)
        case transcribe(Transcribe)
        case batchTranscribe(BatchTranscribe)
        case align(Align)
        case startStream(StartStream)
        case audioChunk(AudioChunk)
        case pause(Pause)
        case endUtterance(EndUtterance)
        case vadBoundary(VadBoundary)
        case flush(Flush)
        case stopStream(StopStream)
        case stop(Stop)
        /// Of another type, or with other members, than are known here.
        case unknown(JSONValue)

        public init(from decoder: any Decoder) throws {
            let known: Self? =
                switch try Tag(from: decoder).type {
                case "capabilities": (try? Capabilities(from: decoder)).map(Self.capabilities)
                case "hello": (try? Hello(from: decoder)).map(Self.hello)
                case "ping": (try? Ping(from: decoder)).map(Self.ping)
                case "status": (try? Status(from: decoder)).map(Self.status)
                case "cancel": (try? Cancel(from: decoder)).map(Self.cancel)
                case "start": (try? Start(from: decoder)).map(Self.start)
                case "unload": (try? Unload(from: decoder)).map(Self.unload)
                case "transcribe": (try? Transcribe(from: decoder)).map(Self.transcribe)
                case "batch_transcribe": (try? BatchTranscribe(from: decoder)).map(Self.batchTranscribe)
                case "align": (try? Align(from: decoder)).map(Self.align)
                case "start_stream": (try? StartStream(from: decoder)).map(Self.startStream)
                case "audio_chunk": (try? AudioChunk(from: decoder)).map(Self.audioChunk)
                case "pause": (try? Pause(from: decoder)).map(Self.pause)
                case "end_utterance": (try? EndUtterance(from: decoder)).map(Self.endUtterance)
                case "vad_boundary": (try? VadBoundary(from: decoder)).map(Self.vadBoundary)
                case "flush": (try? Flush(from: decoder)).map(Self.flush)
                case "stop_stream": (try? StopStream(from: decoder)).map(Self.stopStream)
                case "stop": (try? Stop(from: decoder)).map(Self.stop)
                default: nil
                }
            self = try known ?? .unknown(JSONValue(from: decoder))
        }

        public var message: any Codable & Sendable {
            switch self {
            case .capabilities(let message): message
            case .hello(let message): message
            case .ping(let message): message
            case .status(let message): message
            case .cancel(let message): message
            case .start(let message): message
            case .unload(let message): message
            case .transcribe(let message): message
            case .batchTranscribe(let message): message
            case .align(let message): message
            case .startStream(let message): message
            case .audioChunk(let message): message
            case .pause(let message): message
            case .endUtterance(let message): message
            case .vadBoundary(let message): message
            case .flush(let message): message
            case .stopStream(let message): message
            case .stop(let message): message
            case .unknown(let message): message
            }
        }

        public func encode(to encoder: any Encoder) throws { try message.encode(to: encoder) }
    }
}

extension Wire {
    public enum Reply: Codable, Equatable, Sendable {
        case capabilities(CapabilitiesReply)
        case pong(Pong)
        case status(StatusReply)
        case cancelResult(CancelResult)
        case ready(Ready)
        case unloaded(Unloaded)
        case transcript(TranscriptReply)
        case batchTranscript(BatchTranscript)
        case aligned(Aligned)
        case streamReady(StreamReady)
        case partialResult(PartialResult)
        case paused(Paused)
        case utteranceQueued(UtteranceQueued)
        case realtimeBatchFinal(RealtimeBatchFinal)
        case streamStopped(StreamStopped)
        case stopped(Stopped)
        case error(ErrorReply)
        case fatal(Fatal)
        /// Of another type, or with other members, than are known here.
        case unknown(JSONValue)

        public init(from decoder: any Decoder) throws {
            let known: Self? =
                switch try Tag(from: decoder).type {
                case "capabilities": (try? CapabilitiesReply(from: decoder)).map(Self.capabilities)
                case "pong": (try? Pong(from: decoder)).map(Self.pong)
                case "status": (try? StatusReply(from: decoder)).map(Self.status)
                case "cancel_result": (try? CancelResult(from: decoder)).map(Self.cancelResult)
                case "ready": (try? Ready(from: decoder)).map(Self.ready)
                case "unloaded": (try? Unloaded(from: decoder)).map(Self.unloaded)
                case "transcript": (try? TranscriptReply(from: decoder)).map(Self.transcript)
                case "batch_transcript": (try? BatchTranscript(from: decoder)).map(Self.batchTranscript)
                case "aligned": (try? Aligned(from: decoder)).map(Self.aligned)
                case "stream_ready": (try? StreamReady(from: decoder)).map(Self.streamReady)
                case "partial_result": (try? PartialResult(from: decoder)).map(Self.partialResult)
                case "paused": (try? Paused(from: decoder)).map(Self.paused)
                case "utterance_queued": (try? UtteranceQueued(from: decoder)).map(Self.utteranceQueued)
                case "realtime_batch_final": (try? RealtimeBatchFinal(from: decoder)).map(Self.realtimeBatchFinal)
                case "stream_stopped": (try? StreamStopped(from: decoder)).map(Self.streamStopped)
                case "stopped": (try? Stopped(from: decoder)).map(Self.stopped)
                case "error": (try? ErrorReply(from: decoder)).map(Self.error)
                case "fatal": (try? Fatal(from: decoder)).map(Self.fatal)
                default: nil
                }
            self = try known ?? .unknown(JSONValue(from: decoder))
        }

        public var message: any Codable & Sendable {
            switch self {
            case .capabilities(let message): message
            case .pong(let message): message
            case .status(let message): message
            case .cancelResult(let message): message
            case .ready(let message): message
            case .unloaded(let message): message
            case .transcript(let message): message
            case .batchTranscript(let message): message
            case .aligned(let message): message
            case .streamReady(let message): message
            case .partialResult(let message): message
            case .paused(let message): message
            case .utteranceQueued(let message): message
            case .realtimeBatchFinal(let message): message
            case .streamStopped(let message): message
            case .stopped(let message): message
            case .error(let message): message
            case .fatal(let message): message
            case .unknown(let message): message
            }
        }

        public func encode(to encoder: any Encoder) throws { try message.encode(to: encoder) }
    }
}

extension Wire {
    public enum Event: Codable, Equatable, Sendable {
        case realtimeBatchFinal(RealtimeBatchFinal)
        case wordsReady(WordsReady)
        case partialResult(PartialResult)
        case progress(Progress)
        case engineRestarting(EngineRestarting)
        case streamError(StreamError)
        /// Of another type, or with other members, than are known here.
        case unknown(JSONValue)

        public init(from decoder: any Decoder) throws {
            let known: Self? =
                switch try Tag(from: decoder).type {
                case "realtime_batch_final": (try? RealtimeBatchFinal(from: decoder)).map(Self.realtimeBatchFinal)
                case "words_ready": (try? WordsReady(from: decoder)).map(Self.wordsReady)
                case "partial_result": (try? PartialResult(from: decoder)).map(Self.partialResult)
                case "progress": (try? Progress(from: decoder)).map(Self.progress)
                case "engine_restarting": (try? EngineRestarting(from: decoder)).map(Self.engineRestarting)
                case "stream_error": (try? StreamError(from: decoder)).map(Self.streamError)
                default: nil
                }
            self = try known ?? .unknown(JSONValue(from: decoder))
        }

        public var message: any Codable & Sendable {
            switch self {
            case .realtimeBatchFinal(let message): message
            case .wordsReady(let message): message
            case .partialResult(let message): message
            case .progress(let message): message
            case .engineRestarting(let message): message
            case .streamError(let message): message
            case .unknown(let message): message
            }
        }

        public func encode(to encoder: any Encoder) throws { try message.encode(to: encoder) }
    }
}

extension Wire {
    /// Find when each word of a known `text` is said in the file at `audio`. Answered by `aligned`. `language`: name or
    /// ISO code of the text; it decides where a word ends.
    public struct Align: Codable, Equatable, Sendable {
        public private(set) var type = "align"
        /// 1 to 4096 characters.
        public var audio: String
        /// At most 16384 characters.
        public var text: String
        public var language: String
        /// 1 to 99.
        public var track: Int?
        /// 1 to 86400000.
        public var timeoutMs: Int?
        public var id: ID?

        public init(
            audio: String,
            text: String,
            language: String,
            track: Int? = nil,
            timeoutMs: Int? = nil,
            id: ID? = nil
        ) {
            self.audio = audio
            self.text = text
            self.language = language
            self.track = track
            self.timeoutMs = timeoutMs
            self.id = id
        }

        enum CodingKeys: String, CodingKey {
            case type
            case audio
            case text
            case language
            case track
            case timeoutMs = "timeout_ms"
            case id
        }
    }
}

extension Wire {
    /// When each word of a known text is said. `words` as in a `transcript`, each with a `confidence` of null; none for
    /// a text without letters and digits. `confidence`: the mean of their `time_confidence`, null without words. A
    /// warning `text_doubtful` says that the text hardly belongs to the audio. `total_seconds`: of reading and
    /// aligning; `load_seconds` as in a `transcript`.
    public struct Aligned: Codable, Equatable, Sendable {
        public private(set) var type = "aligned"
        public var id: ID?
        public var warnings: [String]?
        public var audio: String
        public var language: String
        public var words: [Word]
        public var confidence: Double?
        public var aligner: Aligner
        public var audioSeconds: Double
        public var totalSeconds: Double?
        public var loadSeconds: Double
        /// Not on the wire. With `resend`: its audio was sent again, to a new process.
        public internal(set) var replayed = false

        enum CodingKeys: String, CodingKey {
            case type
            case id
            case warnings
            case audio
            case language
            case words
            case confidence
            case aligner
            case audioSeconds = "audio_seconds"
            case totalSeconds = "total_seconds"
            case loadSeconds = "load_seconds"
        }
    }
}

extension Wire {
    /// What gave the words their times. `seconds`: of work. `decoder`: `viterbi` or `official`.
    public struct Aligner: Codable, Equatable, Sendable {
        public var model: String
        public var seconds: Double
        public var decoder: String
    }
}

extension Wire {
    /// More audio of a stream: `pcm16` is base64 of little-endian samples. Answered by `partial_result`; with events
    /// wanted and without `id` by nothing, and its failure by a `stream_error` event. `utterance_id`: of the utterance
    /// that it belongs to, all chunks of one the same.
    public struct AudioChunk: Codable, Equatable, Sendable {
        public private(set) var type = "audio_chunk"
        public var pcm16: String
        /// 1 to 128 characters; default: `"default"`.
        public var streamID: String?
        /// 1 to 148 characters.
        public var utteranceID: String?
        /// At least 0.
        public var seq: Int?
        public var sampleRate: Int?
        public var id: ID?

        public init(
            pcm16: String,
            streamID: String? = nil,
            utteranceID: String? = nil,
            seq: Int? = nil,
            sampleRate: Int? = nil,
            id: ID? = nil
        ) {
            self.pcm16 = pcm16
            self.streamID = streamID
            self.utteranceID = utteranceID
            self.seq = seq
            self.sampleRate = sampleRate
            self.id = id
        }

        enum CodingKeys: String, CodingKey {
            case type
            case pcm16
            case streamID = "stream_id"
            case utteranceID = "utterance_id"
            case seq
            case sampleRate = "sample_rate"
            case id
        }
    }
}

extension Wire {
    /// `formats`: the containers of files that can be read, by libsndfile's names; null where no conversation is held.
    /// `stream_rates`: of the PCM of streams.
    public struct AudioInput: Codable, Equatable, Sendable {
        public var formats: [String]?
        public var streamRates: Rates

        enum CodingKeys: String, CodingKey {
            case formats
            case streamRates = "stream_rates"
        }
    }
}

extension Wire {
    /// One file of a batch; its fields have the same meaning as in a `transcript`. With an `error`, `text` is null and
    /// the other results of the model are absent. `generated_token_ids` are present together with `token_logprobs`.
    public struct BatchItem: Codable, Equatable, Sendable {
        public var audio: String
        public var text: String?
        public var language: String?
        public var languageProbabilities: [String: Double]?
        public var rawText: String?
        public var finishReason: String?
        public var generatedTokens: Int?
        public var generatedTokenIDs: [Int]?
        public var audioEmbeddingsShape: [Int]?
        public var tokenLogprobs: [Double]?
        public var confidence: Confidence?
        public var words: [Word]?
        public var aligner: Aligner?
        public var segments: [Segment]?
        public var contextEcho: Bool?
        public var repaired: Bool?
        public var rmsDbfs: Double?
        public var decodeSeconds: Double?
        public var redecoded: Int?
        public var warnings: [String]?
        public var error: ItemError?

        enum CodingKeys: String, CodingKey {
            case audio
            case text
            case language
            case languageProbabilities = "language_probabilities"
            case rawText = "raw_text"
            case finishReason = "finish_reason"
            case generatedTokens = "generated_tokens"
            case generatedTokenIDs = "generated_token_ids"
            case audioEmbeddingsShape = "audio_embeddings_shape"
            case tokenLogprobs = "token_logprobs"
            case confidence
            case words
            case aligner
            case segments
            case contextEcho = "context_echo"
            case repaired
            case rmsDbfs = "rms_dbfs"
            case decodeSeconds = "decode_seconds"
            case redecoded
            case warnings
            case error
        }
    }
}

extension Wire {
    /// Transcribe several files. Answered by `batch_transcript`; an item that fails, or is no path, fails alone.
    public struct BatchTranscribe: Codable, Equatable, Sendable {
        public private(set) var type = "batch_transcribe"
        /// 0 to 4096.
        public var maxNewTokens: Int?
        public var language: String?
        /// 1 to 30 items.
        public var languages: [String]?
        /// At most 16384 characters.
        public var context: String?
        /// At most 100 items.
        public var terms: [Term]?
        public var decoderMode: String?
        public var driftGuard: Bool?
        public var logprobs: Bool?
        public var words: Bool?
        public var segments: Bool?
        /// 1 to 256 items.
        public var audio: [String]
        /// 1 to 99.
        public var track: Int?
        /// 1 to 86400000.
        public var timeoutMs: Int?
        public var id: ID?

        public init(
            audio: [String],
            maxNewTokens: Int? = nil,
            language: String? = nil,
            languages: [String]? = nil,
            context: String? = nil,
            terms: [Term]? = nil,
            decoderMode: String? = nil,
            driftGuard: Bool? = nil,
            logprobs: Bool? = nil,
            words: Bool? = nil,
            segments: Bool? = nil,
            track: Int? = nil,
            timeoutMs: Int? = nil,
            id: ID? = nil
        ) {
            self.audio = audio
            self.maxNewTokens = maxNewTokens
            self.language = language
            self.languages = languages
            self.context = context
            self.terms = terms
            self.decoderMode = decoderMode
            self.driftGuard = driftGuard
            self.logprobs = logprobs
            self.words = words
            self.segments = segments
            self.track = track
            self.timeoutMs = timeoutMs
            self.id = id
        }

        enum CodingKeys: String, CodingKey {
            case type
            case maxNewTokens = "max_new_tokens"
            case language
            case languages
            case context
            case terms
            case decoderMode = "decoder_mode"
            case driftGuard = "drift_guard"
            case logprobs
            case words
            case segments
            case audio
            case track
            case timeoutMs = "timeout_ms"
            case id
        }
    }
}

extension Wire {
    /// One item for each requested file, in order; `failed` of them have an `error` instead of a text. `redecoded` is
    /// the sum over the items.
    public struct BatchTranscript: Codable, Equatable, Sendable {
        public private(set) var type = "batch_transcript"
        public var id: ID?
        public var warnings: [String]?
        public var count: Int
        public var failed: Int
        public var items: [BatchItem]
        public var totalSeconds: Double?
        public var loadSeconds: Double
        public var useCache: Bool
        public var decoderMode: String
        public var redecoded: Int
        public var profile: Profile
        /// Not on the wire. With `resend`: its audio was sent again, to a new process.
        public internal(set) var replayed = false

        enum CodingKeys: String, CodingKey {
            case type
            case id
            case warnings
            case count
            case failed
            case items
            case totalSeconds = "total_seconds"
            case loadSeconds = "load_seconds"
            case useCache = "use_cache"
            case decoderMode = "decoder_mode"
            case redecoded
            case profile
        }
    }
}

extension Wire {
    /// End a request by its id (`target`), or an utterance by its names. Answered by `cancel_result`.
    public struct Cancel: Codable, Equatable, Sendable {
        public private(set) var type = "cancel"
        public var target: ID?
        /// 1 to 128 characters.
        public var streamID: String?
        /// 1 to 148 characters.
        public var utteranceID: String?
        public var id: ID?

        public init(
            target: ID? = nil,
            streamID: String? = nil,
            utteranceID: String? = nil,
            id: ID? = nil
        ) {
            self.target = target
            self.streamID = streamID
            self.utteranceID = utteranceID
            self.id = id
        }

        enum CodingKeys: String, CodingKey {
            case type
            case target
            case streamID = "stream_id"
            case utteranceID = "utterance_id"
            case id
        }
    }
}

extension Wire {
    /// `cancelled`: it will be answered so. `cancelling`: it is being decoded, and may still win. `already_done`: it
    /// was answered before. `unknown`: nothing of that name is or was there, as far as is remembered.
    /// `dropped_samples`: of an open utterance; otherwise absent.
    public struct CancelResult: Codable, Equatable, Sendable {
        public private(set) var type = "cancel_result"
        public var id: ID?
        public var warnings: [String]?
        public var state: State
        public var droppedSamples: Int?

        enum CodingKeys: String, CodingKey {
            case type
            case id
            case warnings
            case state
            case droppedSamples = "dropped_samples"
        }

        public struct State: RawRepresentable, Codable, Hashable, Sendable {
            public let rawValue: String
            public init(rawValue: String) { self.rawValue = rawValue }

            public static let alreadyDone = Self(rawValue: "already_done")
            public static let cancelled = Self(rawValue: "cancelled")
            public static let cancelling = Self(rawValue: "cancelling")
            public static let unknown = Self(rawValue: "unknown")
        }
    }
}

extension Wire {
    /// What does this build do? Answered by `capabilities`, also while the model is not loaded.
    public struct Capabilities: Codable, Equatable, Sendable {
        public private(set) var type = "capabilities"
        public var id: ID?

        public init(id: ID? = nil) {
            self.id = id
        }
    }
}

extension Wire {
    /// What this build does. `features` holds what the first runtime of this protocol did not do. `engine`: what
    /// decodes. `aligner`: what gives words their times, null for nothing. `session` is random in each process, null
    /// from `--print-capabilities`; `want`: the events that the client gets.
    public struct CapabilitiesReply: Codable, Equatable, Sendable {
        public private(set) var type = "capabilities"
        public var id: ID?
        public var warnings: [String]?
        public var runtime: String
        public var version: String
        public var server: Server
        public var session: String?
        public var `protocol`: String
        public var protocols: [String]
        public var model: String
        public var aligner: String?
        public var sampleRate: Int
        public var audioFormat: String
        public var audio: AudioInput
        public var vadBoundarySource: String
        public var useCache: Bool
        public var decoderModes: [String]
        public var messages: [String]
        public var features: [String]
        public var want: [String]
        public var errorCodes: [String]
        public var languages: [String: String]
        public var limits: Limits
        public var models: Models
        public var engine: EngineInfo?

        enum CodingKeys: String, CodingKey {
            case type
            case id
            case warnings
            case runtime
            case version
            case server
            case session
            case `protocol`
            case protocols
            case model
            case aligner
            case sampleRate = "sample_rate"
            case audioFormat = "audio_format"
            case audio
            case vadBoundarySource = "vad_boundary_source"
            case useCache = "use_cache"
            case decoderModes = "decoder_modes"
            case messages
            case features
            case want
            case errorCodes = "error_codes"
            case languages
            case limits
            case models
            case engine
        }
    }
}

extension Wire {
    /// Who is asking; it changes nothing.
    public struct Client: Codable, Equatable, Sendable {
        public var name: String?
        public var version: String?

        public init(name: String? = nil, version: String? = nil) {
            self.name = name
            self.version = version
        }
    }
}

extension Wire {
    /// Probabilities of an utterance's tokens, those of its language and its end among them: their geometric mean, and
    /// the smallest.
    public struct Confidence: Codable, Equatable, Sendable {
        public var mean: Double
        public var minimum: Double
    }
}

extension Wire {
    /// Since the process started. `errors` counts error replies, failed items and stream errors by their code.
    public struct Counters: Codable, Equatable, Sendable {
        public var requests: Int
        public var transcripts: Int
        public var audioSeconds: Double
        public var chunks: Int
        public var events: Int
        public var errors: [String: Int]

        enum CodingKeys: String, CodingKey {
            case requests
            case transcripts
            case audioSeconds = "audio_seconds"
            case chunks
            case events
            case errors
        }
    }
}

extension Wire {
    /// An utterance ends: the file `audio`, or inline `pcm16`, or else what the stream has in its buffer. `samples`: it
    /// ends behind so many PCM frames of the open utterance, at the stream's rate; the `rest` begins the next one, or
    /// is dropped. Answered by `utterance_queued`, or, where it fills the batch of a stream without `auto_flush`, by
    /// `realtime_batch_final`. Then `decoder_mode`, `drift_guard` and `max_new_tokens` hold for all in that batch that
    /// had none of their own.
    public struct EndUtterance: Codable, Equatable, Sendable {
        public private(set) var type = "end_utterance"
        /// 0 to 4096.
        public var maxNewTokens: Int?
        public var language: String?
        /// 1 to 30 items.
        public var languages: [String]?
        /// At most 16384 characters.
        public var context: String?
        /// At most 100 items.
        public var terms: [Term]?
        public var decoderMode: String?
        public var driftGuard: Bool?
        public var logprobs: Bool?
        public var words: Bool?
        public var segments: Bool?
        /// 1 to 128 characters; default: `"default"`.
        public var streamID: String?
        /// 1 to 148 characters.
        public var utteranceID: String?
        /// 1 to 4096 characters.
        public var audio: String?
        public var pcm16: String?
        public var sampleRate: Int?
        /// At least 1.
        public var samples: Int?
        /// Default: `"keep"`.
        public var rest: Rest?
        /// 1 to 86400000.
        public var timeoutMs: Int?
        public var id: ID?

        public init(
            maxNewTokens: Int? = nil,
            language: String? = nil,
            languages: [String]? = nil,
            context: String? = nil,
            terms: [Term]? = nil,
            decoderMode: String? = nil,
            driftGuard: Bool? = nil,
            logprobs: Bool? = nil,
            words: Bool? = nil,
            segments: Bool? = nil,
            streamID: String? = nil,
            utteranceID: String? = nil,
            audio: String? = nil,
            pcm16: String? = nil,
            sampleRate: Int? = nil,
            samples: Int? = nil,
            rest: Rest? = nil,
            timeoutMs: Int? = nil,
            id: ID? = nil
        ) {
            self.maxNewTokens = maxNewTokens
            self.language = language
            self.languages = languages
            self.context = context
            self.terms = terms
            self.decoderMode = decoderMode
            self.driftGuard = driftGuard
            self.logprobs = logprobs
            self.words = words
            self.segments = segments
            self.streamID = streamID
            self.utteranceID = utteranceID
            self.audio = audio
            self.pcm16 = pcm16
            self.sampleRate = sampleRate
            self.samples = samples
            self.rest = rest
            self.timeoutMs = timeoutMs
            self.id = id
        }

        enum CodingKeys: String, CodingKey {
            case type
            case maxNewTokens = "max_new_tokens"
            case language
            case languages
            case context
            case terms
            case decoderMode = "decoder_mode"
            case driftGuard = "drift_guard"
            case logprobs
            case words
            case segments
            case streamID = "stream_id"
            case utteranceID = "utterance_id"
            case audio
            case pcm16
            case sampleRate = "sample_rate"
            case samples
            case rest
            case timeoutMs = "timeout_ms"
            case id
        }

        public struct Rest: RawRepresentable, Codable, Hashable, Sendable {
            public let rawValue: String
            public init(rawValue: String) { self.rawValue = rawValue }

            public static let drop = Self(rawValue: "drop")
            public static let keep = Self(rawValue: "keep")
        }
    }
}

extension Wire {
    /// What decodes: a `local` model, or a `remote` server, with its name and version and that of its model. `exact`:
    /// streamed, batched and whole audio have the same text. `features`: those that the engine has a say in.
    /// `forced_language`: how a named language is forced: by the `prompt`, by a `chat_template` in the request, or by
    /// the path of `transcriptions`; null where it is not. What only a server can answer is null until one has.
    public struct EngineInfo: Codable, Equatable, Sendable {
        public var kind: Kind
        public var server: String?
        public var version: String?
        public var model: String?
        public var exact: Bool
        public var features: [String]
        public var forcedLanguage: ForcedLanguage?

        enum CodingKeys: String, CodingKey {
            case kind
            case server
            case version
            case model
            case exact
            case features
            case forcedLanguage = "forced_language"
        }

        public struct Kind: RawRepresentable, Codable, Hashable, Sendable {
            public let rawValue: String
            public init(rawValue: String) { self.rawValue = rawValue }

            public static let local = Self(rawValue: "local")
            public static let remote = Self(rawValue: "remote")
        }

        public struct ForcedLanguage: RawRepresentable, Codable, Hashable, Sendable {
            public let rawValue: String
            public init(rawValue: String) { self.rawValue = rawValue }

            public static let chatTemplate = Self(rawValue: "chat_template")
            public static let prompt = Self(rawValue: "prompt")
            public static let transcriptions = Self(rawValue: "transcriptions")
        }
    }
}

extension Wire {
    /// The engine has ended, and another is started: what had no outcome is decoded again. `reason`: the name of the
    /// signal that ended it, `exit_N`, `stalled`, `corrupt_frame`, `gpu_ignored` or `non_finite_output`. `attempt`
    /// counts starts without a finished job between.
    public struct EngineRestarting: Codable, Equatable, Sendable {
        public private(set) var type = "engine_restarting"
        public var event: Bool
        public var n: Int
        public var reason: String
        public var attempt: Int
    }
}

extension Wire {
    /// The request failed. `code` never changes its meaning; `retryable`: the same request may succeed later.
    public struct ErrorReply: Codable, Equatable, Sendable {
        public private(set) var type = "error"
        public var id: ID?
        public var warnings: [String]?
        public var code: ErrorCode
        public var message: String
        public var retryable: Bool
        public var data: [String: JSONValue]
    }
}

extension Wire {
    /// The process cannot go on, and ends: a line that answers no request.
    public struct Fatal: Codable, Equatable, Sendable {
        public private(set) var type = "fatal"
        public var id: ID?
        public var warnings: [String]?
        public var code: ErrorCode
        public var message: String
        public var retryable: Bool
    }
}

extension Wire {
    /// The outcome of an utterance. `job` is unique in the process. `source`: a file, inline PCM, or the stream's
    /// buffer; `samples` at 16 kHz, null if the file was never read. With an `error`, `text` and the other results of
    /// the model are null. `audio_gap`: a chunk of it was rejected or is missing. `queue_seconds`: from the boundary to
    /// the outcome, decoding included. `generated_token_ids`, `token_logprobs` and `confidence` are absent unless
    /// `logprobs` was requested. `final_policy` and `verified_tokens` (tokens of the last partial that the final
    /// accepted from the draft) are absent without partials. `language_probabilities`, `words`, `aligner`, `segments`,
    /// `context_echo` and `repaired` as in a `transcript`; `words_pending`: `words` is null, and follows in
    /// `words_ready`. `stream_start`: seconds from the first sample of the stream to that of the utterance, present
    /// with `words` or `segments` if the audio came in chunks. `provisional`: whether the final was `ready` at the
    /// boundary, was being computed, or neither; present after a `pause` of the utterance.
    public struct FinalResult: Codable, Equatable, Sendable {
        public private(set) var type = "final_result"
        public var job: Int
        public var streamID: String
        public var utteranceID: String
        public var source: Source
        public var samples: Int?
        public var text: String?
        public var language: String?
        public var languageProbabilities: [String: Double]?
        public var rawText: String?
        public var finishReason: String?
        public var generatedTokens: Int?
        public var generatedTokenIDs: [Int]?
        public var audioEmbeddingsShape: [Int]?
        public var tokenLogprobs: [Double]?
        public var confidence: Confidence?
        public var words: [Word]?
        public var wordsPending: Bool?
        public var provisional: Provisional?
        public var aligner: Aligner?
        public var segments: [Segment]?
        public var contextEcho: Bool?
        public var repaired: Bool?
        public var streamStart: Double?
        public var rmsDbfs: Double?
        public var decodeSeconds: Double?
        public var redecoded: Int?
        public var finalPolicy: String?
        public var verifiedTokens: Int?
        public var queueSeconds: Double
        public var audioGap: Bool
        public var warnings: [String]
        public var error: ItemError?
        /// Not on the wire. With `resend`: its audio was sent again, to a new process.
        public internal(set) var replayed = false

        enum CodingKeys: String, CodingKey {
            case type
            case job
            case streamID = "stream_id"
            case utteranceID = "utterance_id"
            case source
            case samples
            case text
            case language
            case languageProbabilities = "language_probabilities"
            case rawText = "raw_text"
            case finishReason = "finish_reason"
            case generatedTokens = "generated_tokens"
            case generatedTokenIDs = "generated_token_ids"
            case audioEmbeddingsShape = "audio_embeddings_shape"
            case tokenLogprobs = "token_logprobs"
            case confidence
            case words
            case wordsPending = "words_pending"
            case provisional
            case aligner
            case segments
            case contextEcho = "context_echo"
            case repaired
            case streamStart = "stream_start"
            case rmsDbfs = "rms_dbfs"
            case decodeSeconds = "decode_seconds"
            case redecoded
            case finalPolicy = "final_policy"
            case verifiedTokens = "verified_tokens"
            case queueSeconds = "queue_seconds"
            case audioGap = "audio_gap"
            case warnings
            case error
        }

        public struct Source: RawRepresentable, Codable, Hashable, Sendable {
            public let rawValue: String
            public init(rawValue: String) { self.rawValue = rawValue }

            public static let audio = Self(rawValue: "audio")
            public static let buffer = Self(rawValue: "buffer")
            public static let pcm16 = Self(rawValue: "pcm16")
        }

        public struct Provisional: RawRepresentable, Codable, Hashable, Sendable {
            public let rawValue: String
            public init(rawValue: String) { self.rawValue = rawValue }

            public static let none = Self(rawValue: "none")
            public static let ready = Self(rawValue: "ready")
            public static let running = Self(rawValue: "running")
        }
    }
}

extension Wire {
    /// Transcribe all utterances that wait, or those of one stream. Answered by `realtime_batch_final` when all that
    /// waited when it was read are done. How to decode holds for those that had nothing of their own.
    public struct Flush: Codable, Equatable, Sendable {
        public private(set) var type = "flush"
        /// 0 to 4096.
        public var maxNewTokens: Int?
        public var language: String?
        /// 1 to 30 items.
        public var languages: [String]?
        /// At most 16384 characters.
        public var context: String?
        /// At most 100 items.
        public var terms: [Term]?
        public var decoderMode: String?
        public var driftGuard: Bool?
        public var logprobs: Bool?
        public var words: Bool?
        public var segments: Bool?
        /// 1 to 128 characters.
        public var streamID: String?
        /// 1 to 86400000.
        public var timeoutMs: Int?
        public var id: ID?

        public init(
            maxNewTokens: Int? = nil,
            language: String? = nil,
            languages: [String]? = nil,
            context: String? = nil,
            terms: [Term]? = nil,
            decoderMode: String? = nil,
            driftGuard: Bool? = nil,
            logprobs: Bool? = nil,
            words: Bool? = nil,
            segments: Bool? = nil,
            streamID: String? = nil,
            timeoutMs: Int? = nil,
            id: ID? = nil
        ) {
            self.maxNewTokens = maxNewTokens
            self.language = language
            self.languages = languages
            self.context = context
            self.terms = terms
            self.decoderMode = decoderMode
            self.driftGuard = driftGuard
            self.logprobs = logprobs
            self.words = words
            self.segments = segments
            self.streamID = streamID
            self.timeoutMs = timeoutMs
            self.id = id
        }

        enum CodingKeys: String, CodingKey {
            case type
            case maxNewTokens = "max_new_tokens"
            case language
            case languages
            case context
            case terms
            case decoderMode = "decoder_mode"
            case driftGuard = "drift_guard"
            case logprobs
            case words
            case segments
            case streamID = "stream_id"
            case timeoutMs = "timeout_ms"
            case id
        }
    }
}

extension Wire {
    /// A later `seq` arrived than the expected one.
    public struct Gap: Codable, Equatable, Sendable {
        public var expected: Int
        public var got: Int
    }
}

extension Wire {
    /// As `capabilities`, and says what else the client wants to hear: `events`, `progress`. `want` replaces what was
    /// wanted before; without it nothing changes. `parent_pid`: a process to live and die with. `protocols`: what the
    /// client speaks, newest first; the reply names what the process speaks.
    public struct Hello: Codable, Equatable, Sendable {
        public private(set) var type = "hello"
        /// At most 16 items.
        public var want: [String]?
        public var client: Client?
        /// 1 to 2147483647.
        public var parentPID: Int?
        /// At most 16 items.
        public var protocols: [String]?
        public var id: ID?

        public init(
            want: [String]? = nil,
            client: Client? = nil,
            parentPID: Int? = nil,
            protocols: [String]? = nil,
            id: ID? = nil
        ) {
            self.want = want
            self.client = client
            self.parentPID = parentPID
            self.protocols = protocols
            self.id = id
        }

        enum CodingKeys: String, CodingKey {
            case type
            case want
            case client
            case parentPID = "parent_pid"
            case protocols
            case id
        }
    }
}

extension Wire {
    public struct ItemError: Codable, Equatable, Sendable {
        public var code: ErrorCode
        public var message: String
    }
}

extension Wire {
    /// Over `max_pending_requests` a request with an `id` is `busy`; over others it fails.
    public struct Limits: Codable, Equatable, Sendable {
        public var maxLineBytes: Int
        public var maxReadAheadBytes: Int
        public var maxOutputQueueBytes: Int
        public var maxPendingRequests: Int
        public var maxPendingAudioSeconds: Double
        public var maxPendingUtterances: Int
        public var maxStreams: Int
        public var maxUtteranceSeconds: Double
        public var maxAudioSeconds: Double
        public var gpuShare: Double
        public var maxChunkSeconds: Double
        public var maxNewTokens: Int
        public var maxContextCharacters: Int
        public var maxLanguages: Int
        public var maxTerms: Int
        public var maxTermCharacters: Int
        public var maxAlignSeconds: Double
        public var maxAlignCharacters: Int
        public var maxBatchSize: Int
        public var maxBatchRows: Int
        public var maxBatchItems: Int
        public var minPartialIntervalMs: Int
        public var maxPartialIntervalMs: Int
        public var maxKeepAliveSeconds: Int

        enum CodingKeys: String, CodingKey {
            case maxLineBytes = "max_line_bytes"
            case maxReadAheadBytes = "max_read_ahead_bytes"
            case maxOutputQueueBytes = "max_output_queue_bytes"
            case maxPendingRequests = "max_pending_requests"
            case maxPendingAudioSeconds = "max_pending_audio_seconds"
            case maxPendingUtterances = "max_pending_utterances"
            case maxStreams = "max_streams"
            case maxUtteranceSeconds = "max_utterance_seconds"
            case maxAudioSeconds = "max_audio_seconds"
            case gpuShare = "gpu_share"
            case maxChunkSeconds = "max_chunk_seconds"
            case maxNewTokens = "max_new_tokens"
            case maxContextCharacters = "max_context_characters"
            case maxLanguages = "max_languages"
            case maxTerms = "max_terms"
            case maxTermCharacters = "max_term_characters"
            case maxAlignSeconds = "max_align_seconds"
            case maxAlignCharacters = "max_align_characters"
            case maxBatchSize = "max_batch_size"
            case maxBatchRows = "max_batch_rows"
            case maxBatchItems = "max_batch_items"
            case minPartialIntervalMs = "min_partial_interval_ms"
            case maxPartialIntervalMs = "max_partial_interval_ms"
            case maxKeepAliveSeconds = "max_keep_alive_seconds"
        }
    }
}

extension Wire {
    /// Resident memory, now and at its peak; what macOS charges, null elsewhere; and MLX's peak, active and cached
    /// buffers. Of a bridge, `rss` and `footprint` are the sum of its `process`es, the rest is the worker's; while
    /// there is none, `rss_peak` is the bridge's.
    public struct Memory: Codable, Equatable, Sendable {
        public var rssBytes: Int?
        public var rssMb: Double?
        public var footprintBytes: Int?
        public var footprintMb: Double?
        public var rssPeakBytes: Int?
        public var rssPeakMb: Double?
        public var mlxPeakBytes: Int?
        public var mlxPeakMb: Double?
        public var mlxActiveBytes: Int?
        public var mlxActiveMb: Double?
        public var mlxCacheBytes: Int?
        public var mlxCacheMb: Double?
        public var process: Processes?

        enum CodingKeys: String, CodingKey {
            case rssBytes = "rss_bytes"
            case rssMb = "rss_mb"
            case footprintBytes = "footprint_bytes"
            case footprintMb = "footprint_mb"
            case rssPeakBytes = "rss_peak_bytes"
            case rssPeakMb = "rss_peak_mb"
            case mlxPeakBytes = "mlx_peak_bytes"
            case mlxPeakMb = "mlx_peak_mb"
            case mlxActiveBytes = "mlx_active_bytes"
            case mlxActiveMb = "mlx_active_mb"
            case mlxCacheBytes = "mlx_cache_bytes"
            case mlxCacheMb = "mlx_cache_mb"
            case process
        }
    }
}

extension Wire {
    public struct Models: Codable, Equatable, Sendable {
        public var efficiency: String
        public var accuracyCandidate: String

        enum CodingKeys: String, CodingKey {
            case efficiency
            case accuracyCandidate = "accuracy_candidate"
        }
    }
}

extension Wire {
    /// The reply to a chunk, which is ignored if `duplicate`; as an event (`event` true, numbered `n`): a partial.
    /// `samples_buffered` and `chunks` of the open utterance. `text`: its latest hypothesis, of its first
    /// `audio_seconds`; empty, and the fields that belong to it absent, unless the stream has `partials`. `revision`
    /// counts the hypotheses of the utterance from 1, 0 before the first. `stable_text` only grows within an utterance.
    /// `changed_from`: the first code point of `text` that differs from the last partial that was written for this
    /// utterance. `settled_ms`: audio since `text` last changed. `ends_sentence`: `text` ends with a sentence mark,
    /// which has `ends_sentence_probability`. `trailing_silence_ms`: at the end of the audio that has come. Only events
    /// have `seconds` (of work), `queue_seconds` (from the chunk that made it due), `tokens`, and `verified_tokens`
    /// (those of them accepted from the draft). `interval_ms`: of audio before the next partial, where a remote engine
    /// sustains no shorter one than this; otherwise absent.
    public struct PartialResult: Codable, Equatable, Sendable {
        public private(set) var type = "partial_result"
        public var id: ID?
        public var warnings: [String]?
        public var event: Bool?
        public var n: Int?
        public var streamID: String
        public var utteranceID: String?
        public var revision: Int?
        public var stableText: String?
        public var text: String
        public var changedFrom: Int?
        public var language: String?
        public var audioSeconds: Double?
        public var settledMs: Int?
        public var endsSentence: Bool?
        public var endsSentenceProbability: Double?
        public var trailingSilenceMs: Int?
        public var samplesBuffered: Int
        public var chunks: Int
        public var isFinal: Bool
        public var seconds: Double?
        public var queueSeconds: Double?
        public var tokens: Int?
        public var verifiedTokens: Int?
        public var intervalMs: Int?
        public var duplicate: Bool?
        public var gap: Gap?
        public var split: Split?

        enum CodingKeys: String, CodingKey {
            case type
            case id
            case warnings
            case event
            case n
            case streamID = "stream_id"
            case utteranceID = "utterance_id"
            case revision
            case stableText = "stable_text"
            case text
            case changedFrom = "changed_from"
            case language
            case audioSeconds = "audio_seconds"
            case settledMs = "settled_ms"
            case endsSentence = "ends_sentence"
            case endsSentenceProbability = "ends_sentence_probability"
            case trailingSilenceMs = "trailing_silence_ms"
            case samplesBuffered = "samples_buffered"
            case chunks
            case isFinal = "is_final"
            case seconds
            case queueSeconds = "queue_seconds"
            case tokens
            case verifiedTokens = "verified_tokens"
            case intervalMs = "interval_ms"
            case duplicate
            case gap
            case split
        }
    }
}

extension Wire {
    /// The speaker may have ended: compute the final of the open utterance, or of its first `samples` PCM frames,
    /// before its boundary. Answered by `paused`, at once. Speech that goes on needs no message.
    public struct Pause: Codable, Equatable, Sendable {
        public private(set) var type = "pause"
        /// 1 to 128 characters; default: `"default"`.
        public var streamID: String?
        /// At least 1.
        public var samples: Int?
        public var id: ID?

        public init(streamID: String? = nil, samples: Int? = nil, id: ID? = nil) {
            self.streamID = streamID
            self.samples = samples
            self.id = id
        }

        enum CodingKeys: String, CodingKey {
            case type
            case streamID = "stream_id"
            case samples
            case id
        }
    }
}

extension Wire {
    /// `samples`: PCM frames of the utterance, whose final is computed if the engine has time.
    public struct Paused: Codable, Equatable, Sendable {
        public private(set) var type = "paused"
        public var id: ID?
        public var warnings: [String]?
        public var streamID: String
        public var utteranceID: String
        public var samples: Int

        enum CodingKeys: String, CodingKey {
            case type
            case id
            case warnings
            case streamID = "stream_id"
            case utteranceID = "utterance_id"
            case samples
        }
    }
}

extension Wire {
    /// Are you there? Answered by `pong`, whatever the model does.
    public struct Ping: Codable, Equatable, Sendable {
        public private(set) var type = "ping"
        public var id: ID?

        public init(id: ID? = nil) {
            self.id = id
        }
    }
}

extension Wire {
    /// `busy_ms`: how long the engine has had work without a pause. `last_progress_ms_ago`: since it was last seen to
    /// move, a decoder step or an outcome. Both are null while it has nothing to do.
    public struct Pong: Codable, Equatable, Sendable {
        public private(set) var type = "pong"
        public var id: ID?
        public var warnings: [String]?
        public var uptimeS: Double
        public var state: State
        public var busyMs: Int?
        public var lastProgressMsAgo: Int?

        enum CodingKeys: String, CodingKey {
            case type
            case id
            case warnings
            case uptimeS = "uptime_s"
            case state
            case busyMs = "busy_ms"
            case lastProgressMsAgo = "last_progress_ms_ago"
        }

        public struct State: RawRepresentable, Codable, Hashable, Sendable {
            public let rawValue: String
            public init(rawValue: String) { self.rawValue = rawValue }

            public static let busy = Self(rawValue: "busy")
            public static let downloading = Self(rawValue: "downloading")
            public static let draining = Self(rawValue: "draining")
            public static let failed = Self(rawValue: "failed")
            public static let loading = Self(rawValue: "loading")
            public static let ready = Self(rawValue: "ready")
            public static let unloaded = Self(rawValue: "unloaded")
        }
    }
}

extension Wire {
    /// Resident memory of a process, and what macOS charges it with, null elsewhere.
    public struct ProcessMemory: Codable, Equatable, Sendable {
        public var rssBytes: Int?
        public var footprintBytes: Int?

        enum CodingKeys: String, CodingKey {
            case rssBytes = "rss_bytes"
            case footprintBytes = "footprint_bytes"
        }
    }
}

extension Wire {
    /// `worker` is null while none runs.
    public struct Processes: Codable, Equatable, Sendable {
        public var bridge: ProcessMemory
        public var worker: ProcessMemory?
    }
}

extension Wire {
    /// Where the time of one utterance, or of one batch, went. Lengths and shapes hold one entry per decoded segment.
    /// `quantization` is null where weights are in full precision.
    public struct Profile: Codable, Equatable, Sendable {
        public var stage: String
        public var batchSize: Int
        public var audioSamples: [Int]?
        public var audioSeconds: Double?
        public var featureExtractSeconds: Double?
        public var promptAssemblySeconds: Double?
        public var audioTowerSeconds: Double?
        public var batchAssemblySeconds: Double?
        public var prefillSeconds: Double?
        public var continuationSeconds: Double?
        public var decodeSeconds: Double?
        public var totalSeconds: Double?
        public var audioFeatureLengths: [Int]?
        public var audioOutputLengths: [Int]?
        public var inputFeaturesShape: [Int]?
        public var audioEmbeddingsShape: [Int]?
        public var generatedTokens: [Int]?
        public var generatedTokensTotal: Int?
        public var generatedTokensPerSecond: Double?
        public var realtimeFactor: Double?
        public var memory: Memory?
        public var quantization: Quantization?
        public var prepare: Nested<Profile>?

        enum CodingKeys: String, CodingKey {
            case stage
            case batchSize = "batch_size"
            case audioSamples = "audio_samples"
            case audioSeconds = "audio_seconds"
            case featureExtractSeconds = "feature_extract_seconds"
            case promptAssemblySeconds = "prompt_assembly_seconds"
            case audioTowerSeconds = "audio_tower_seconds"
            case batchAssemblySeconds = "batch_assembly_seconds"
            case prefillSeconds = "prefill_seconds"
            case continuationSeconds = "continuation_seconds"
            case decodeSeconds = "decode_seconds"
            case totalSeconds = "total_seconds"
            case audioFeatureLengths = "audio_feature_lengths"
            case audioOutputLengths = "audio_output_lengths"
            case inputFeaturesShape = "input_features_shape"
            case audioEmbeddingsShape = "audio_embeddings_shape"
            case generatedTokens = "generated_tokens"
            case generatedTokensTotal = "generated_tokens_total"
            case generatedTokensPerSecond = "generated_tokens_per_second"
            case realtimeFactor = "realtime_factor"
            case memory
            case quantization
            case prepare
        }
    }
}

extension Wire {
    /// The progress of a load, or, with `stage` `transcribe`, of a file. `request_id`: the request that caused the
    /// load, or that of the file; absent if it had no id. `done` of `total`: bytes of a load, milliseconds of a file;
    /// null where unknown.
    public struct Progress: Codable, Equatable, Sendable {
        public private(set) var type = "progress"
        public var event: Bool
        public var n: Int
        public var requestID: ID?
        public var stage: String
        public var done: Int?
        public var total: Int?

        enum CodingKeys: String, CodingKey {
            case type
            case event
            case n
            case requestID = "request_id"
            case stage
            case done
            case total
        }
    }
}

extension Wire {
    /// `bits` and `group_size` are the decoder's; `layers` counts the quantised layers of each part, `full_precision`
    /// the layers in full precision.
    public struct Quantization: Codable, Equatable, Sendable {
        public var bits: Int
        public var groupSize: Int
        public var layers: [QuantizedLayers]
        public var fullPrecision: Int

        enum CodingKeys: String, CodingKey {
            case bits
            case groupSize = "group_size"
            case layers
            case fullPrecision = "full_precision"
        }
    }
}

extension Wire {
    /// The number of layers of one part of the model that have weights of `bits` bits.
    public struct QuantizedLayers: Codable, Equatable, Sendable {
        public var part: Part
        public var bits: Int
        public var groupSize: Int
        public var count: Int

        enum CodingKeys: String, CodingKey {
            case part
            case bits
            case groupSize = "group_size"
            case count
        }

        public struct Part: RawRepresentable, Codable, Hashable, Sendable {
            public let rawValue: String
            public init(rawValue: String) { self.rawValue = rawValue }

            public static let audioTower = Self(rawValue: "audio_tower")
            public static let decoder = Self(rawValue: "decoder")
            public static let embedding = Self(rawValue: "embedding")
        }
    }
}

extension Wire {
    /// Requests without a reply; utterances that wait to start, and those whose result is not delivered; files not yet
    /// read, being read, and stuck; jobs that wait for the engine, and those it has; partials that it computes; seconds
    /// of stream audio in memory.
    public struct Queues: Codable, Equatable, Sendable {
        public var requests: Int
        public var utterancesWaiting: Int
        public var utterancesInBatches: Int
        public var filesUnread: Int
        public var filesReading: Int
        public var filesStuck: Int
        public var ready: Int
        public var decoding: Int
        public var listening: Int
        public var pendingAudioSeconds: Double

        enum CodingKeys: String, CodingKey {
            case requests
            case utterancesWaiting = "utterances_waiting"
            case utterancesInBatches = "utterances_in_batches"
            case filesUnread = "files_unread"
            case filesReading = "files_reading"
            case filesStuck = "files_stuck"
            case ready
            case decoding
            case listening
            case pendingAudioSeconds = "pending_audio_seconds"
        }
    }
}

extension Wire {
    /// Hz, all whole numbers between them.
    public struct Rates: Codable, Equatable, Sendable {
        public var minimum: Int
        public var maximum: Int
    }
}

extension Wire {
    /// The model is loaded. `load_seconds` and `load_profile` tell of that one load, however often `start` is sent.
    /// `load`: what this request waited for, a load from disk (`cold`), one from the page cache (`warm`), or none.
    /// `engine`: what a remote engine has found; absent for a local one.
    public struct Ready: Codable, Equatable, Sendable {
        public private(set) var type = "ready"
        public var id: ID?
        public var warnings: [String]?
        public var runtime: String
        public var `protocol`: String
        public var model: String
        public var modelDir: String
        public var useCache: Bool
        public var loadSeconds: Double
        public var loadProfile: [String: JSONValue]
        public var load: Load
        public var engine: EngineInfo?

        enum CodingKeys: String, CodingKey {
            case type
            case id
            case warnings
            case runtime
            case `protocol`
            case model
            case modelDir = "model_dir"
            case useCache = "use_cache"
            case loadSeconds = "load_seconds"
            case loadProfile = "load_profile"
            case load
            case engine
        }

        public struct Load: RawRepresentable, Codable, Hashable, Sendable {
            public let rawValue: String
            public init(rawValue: String) { self.rawValue = rawValue }

            public static let cold = Self(rawValue: "cold")
            public static let none = Self(rawValue: "none")
            public static let warm = Self(rawValue: "warm")
        }
    }
}

extension Wire {
    /// Utterances in the order of their boundaries; `failed` of them have an `error` instead of a text. As an event
    /// (`event` true, numbered `n`) it delivers utterances of streams with `auto_flush`, and those that still waited at
    /// the end of the session. `utterance_id` is that of the boundary that it answers. `dropped_samples`: of the rest
    /// that this boundary dropped, or of all streams in the last line of a session without events. `decoder_mode` is
    /// the requested one; `redecoded` is the sum over the items.
    public struct RealtimeBatchFinal: Codable, Equatable, Sendable {
        public private(set) var type = "realtime_batch_final"
        public var id: ID?
        public var warnings: [String]?
        public var event: Bool?
        public var n: Int?
        public var reason: Reason
        public var utteranceID: String?
        public var count: Int
        public var failed: Int
        public var items: [FinalResult]
        public var totalSeconds: Double?
        public var loadSeconds: Double
        public var useCache: Bool
        public var decoderMode: String
        public var redecoded: Int
        public var asrBackend: String
        public var vadBackend: String
        public var profile: Profile
        public var droppedSamples: Int?

        enum CodingKeys: String, CodingKey {
            case type
            case id
            case warnings
            case event
            case n
            case reason
            case utteranceID = "utterance_id"
            case count
            case failed
            case items
            case totalSeconds = "total_seconds"
            case loadSeconds = "load_seconds"
            case useCache = "use_cache"
            case decoderMode = "decoder_mode"
            case redecoded
            case asrBackend = "asr_backend"
            case vadBackend = "vad_backend"
            case profile
            case droppedSamples = "dropped_samples"
        }

        public struct Reason: RawRepresentable, Codable, Hashable, Sendable {
            public let rawValue: String
            public init(rawValue: String) { self.rawValue = rawValue }

            public static let batchSize = Self(rawValue: "batch_size")
            public static let delay = Self(rawValue: "delay")
            public static let endOfInput = Self(rawValue: "end_of_input")
            public static let flush = Self(rawValue: "flush")
            public static let pause = Self(rawValue: "pause")
        }
    }
}

extension Wire {
    /// What was decoded by itself. `start` and `end` in seconds from the first sample of the file or utterance.
    /// `repaired`: with the one before or behind it, it stands for a segment that had ended in a loop.
    public struct Segment: Codable, Equatable, Sendable {
        public var start: Double
        public var end: Double
        public var text: String
        public var finishReason: String
        public var repaired: Bool?

        enum CodingKeys: String, CodingKey {
            case start
            case end
            case text
            case finishReason = "finish_reason"
            case repaired
        }
    }
}

extension Wire {
    /// The process that answers. `pid` is null where no conversation is held.
    public struct Server: Codable, Equatable, Sendable {
        public var name: String
        public var version: String
        public var pid: Int?
    }
}

extension Wire {
    /// An utterance that was ended because it would have become too long.
    public struct Split: Codable, Equatable, Sendable {
        public var utteranceID: String
        public var samples: Int

        enum CodingKeys: String, CodingKey {
            case utteranceID = "utterance_id"
            case samples
        }
    }
}

extension Wire {
    /// Load the model. Answered by `ready`. `keep_alive_seconds`: from now on unload it after so many idle seconds, 0:
    /// after an outcome with nothing waiting, negative: never. Idle means no job, no utterance that waits, and no audio
    /// in an open one. `words`: then load the aligner too; `ready` does not wait for it.
    public struct Start: Codable, Equatable, Sendable {
        public private(set) var type = "start"
        /// -1 to 86400.
        public var keepAliveSeconds: Double?
        public var words: Bool?
        public var id: ID?

        public init(keepAliveSeconds: Double? = nil, words: Bool? = nil, id: ID? = nil) {
            self.keepAliveSeconds = keepAliveSeconds
            self.words = words
            self.id = id
        }

        enum CodingKeys: String, CodingKey {
            case type
            case keepAliveSeconds = "keep_alive_seconds"
            case words
            case id
        }
    }
}

extension Wire {
    /// Open a stream of 16-bit PCM. Answered by `stream_ready` once the model is loaded. `batch_size`: the boundary
    /// that makes so many utterances wait fills the batch. `max_batch_delay_ms`: how long the oldest of them waits at
    /// most before decoding starts. `auto_flush`: batches come as events, which must be wanted. `restart`: replace a
    /// stream of this name. `on_limit`: what becomes of an utterance that grows too long. `partials`: send the text of
    /// the open utterance, at most every `partial_interval_ms` of audio. `final_policy`: every final is `guarded`;
    /// another value is echoed with a warning. `effort`: with `low`, partials take a quarter of the engine's time at
    /// most. How to decode holds for the utterances of the stream.
    public struct StartStream: Codable, Equatable, Sendable {
        public private(set) var type = "start_stream"
        /// 0 to 4096.
        public var maxNewTokens: Int?
        public var language: String?
        /// 1 to 30 items.
        public var languages: [String]?
        /// At most 16384 characters.
        public var context: String?
        /// At most 100 items.
        public var terms: [Term]?
        public var decoderMode: String?
        public var driftGuard: Bool?
        public var logprobs: Bool?
        public var words: Bool?
        public var segments: Bool?
        /// 1 to 128 characters; default: `"default"`.
        public var streamID: String?
        /// Default: `16000`.
        public var sampleRate: Int?
        /// 1 to 16; default: `4`.
        public var batchSize: Int?
        /// 0 to 60000; default: `120`.
        public var maxBatchDelayMs: Int?
        /// Default: `false`.
        public var autoFlush: Bool?
        /// Default: `false`.
        public var restart: Bool?
        /// Default: `"refuse"`.
        public var onLimit: OnLimit?
        /// Default: `false`.
        public var partials: Bool?
        /// 100 to 60000; default: `500`.
        public var partialIntervalMs: Int?
        /// Default: `"guarded"`.
        public var finalPolicy: FinalPolicy?
        /// Default: `"normal"`.
        public var effort: Effort?
        public var id: ID?

        public init(
            maxNewTokens: Int? = nil,
            language: String? = nil,
            languages: [String]? = nil,
            context: String? = nil,
            terms: [Term]? = nil,
            decoderMode: String? = nil,
            driftGuard: Bool? = nil,
            logprobs: Bool? = nil,
            words: Bool? = nil,
            segments: Bool? = nil,
            streamID: String? = nil,
            sampleRate: Int? = nil,
            batchSize: Int? = nil,
            maxBatchDelayMs: Int? = nil,
            autoFlush: Bool? = nil,
            restart: Bool? = nil,
            onLimit: OnLimit? = nil,
            partials: Bool? = nil,
            partialIntervalMs: Int? = nil,
            finalPolicy: FinalPolicy? = nil,
            effort: Effort? = nil,
            id: ID? = nil
        ) {
            self.maxNewTokens = maxNewTokens
            self.language = language
            self.languages = languages
            self.context = context
            self.terms = terms
            self.decoderMode = decoderMode
            self.driftGuard = driftGuard
            self.logprobs = logprobs
            self.words = words
            self.segments = segments
            self.streamID = streamID
            self.sampleRate = sampleRate
            self.batchSize = batchSize
            self.maxBatchDelayMs = maxBatchDelayMs
            self.autoFlush = autoFlush
            self.restart = restart
            self.onLimit = onLimit
            self.partials = partials
            self.partialIntervalMs = partialIntervalMs
            self.finalPolicy = finalPolicy
            self.effort = effort
            self.id = id
        }

        enum CodingKeys: String, CodingKey {
            case type
            case maxNewTokens = "max_new_tokens"
            case language
            case languages
            case context
            case terms
            case decoderMode = "decoder_mode"
            case driftGuard = "drift_guard"
            case logprobs
            case words
            case segments
            case streamID = "stream_id"
            case sampleRate = "sample_rate"
            case batchSize = "batch_size"
            case maxBatchDelayMs = "max_batch_delay_ms"
            case autoFlush = "auto_flush"
            case restart
            case onLimit = "on_limit"
            case partials
            case partialIntervalMs = "partial_interval_ms"
            case finalPolicy = "final_policy"
            case effort
            case id
        }

        public struct OnLimit: RawRepresentable, Codable, Hashable, Sendable {
            public let rawValue: String
            public init(rawValue: String) { self.rawValue = rawValue }

            public static let refuse = Self(rawValue: "refuse")
            public static let split = Self(rawValue: "split")
        }

        public struct FinalPolicy: RawRepresentable, Codable, Hashable, Sendable {
            public let rawValue: String
            public init(rawValue: String) { self.rawValue = rawValue }

            public static let fast = Self(rawValue: "fast")
            public static let guarded = Self(rawValue: "guarded")
            public static let strict = Self(rawValue: "strict")
        }

        public struct Effort: RawRepresentable, Codable, Hashable, Sendable {
            public let rawValue: String
            public init(rawValue: String) { self.rawValue = rawValue }

            public static let low = Self(rawValue: "low")
            public static let normal = Self(rawValue: "normal")
        }
    }
}

extension Wire {
    /// How are you? Answered by `status`: counters, queues, memory, limits.
    public struct Status: Codable, Equatable, Sendable {
        public private(set) var type = "status"
        public var id: ID?

        public init(id: ID? = nil) {
            self.id = id
        }
    }
}

extension Wire {
    /// Numbers alone: no text, no path, no name. `memory` is as of now; `timer_lag_ms`: how late the last timer was;
    /// `partial_share`: how much of the last 10 s the engine worked on partials, null before the first.
    public struct StatusReply: Codable, Equatable, Sendable {
        public private(set) var type = "status"
        public var id: ID?
        public var warnings: [String]?
        public var state: State
        public var uptimeS: Double
        public var busyMs: Int?
        public var lastProgressMsAgo: Int?
        public var timerLagMs: Double
        public var partialLineBytes: Int
        public var streams: Int
        public var queues: Queues
        public var counters: Counters
        public var rssBytes: Int?
        public var memory: Memory
        public var limits: Limits
        public var versions: Versions
        public var engineRestarts: Int
        public var engineLastEnd: String?
        public var partialShare: Double?

        enum CodingKeys: String, CodingKey {
            case type
            case id
            case warnings
            case state
            case uptimeS = "uptime_s"
            case busyMs = "busy_ms"
            case lastProgressMsAgo = "last_progress_ms_ago"
            case timerLagMs = "timer_lag_ms"
            case partialLineBytes = "partial_line_bytes"
            case streams
            case queues
            case counters
            case rssBytes = "rss_bytes"
            case memory
            case limits
            case versions
            case engineRestarts = "engine_restarts"
            case engineLastEnd = "engine_last_end"
            case partialShare = "partial_share"
        }

        public struct State: RawRepresentable, Codable, Hashable, Sendable {
            public let rawValue: String
            public init(rawValue: String) { self.rawValue = rawValue }

            public static let busy = Self(rawValue: "busy")
            public static let downloading = Self(rawValue: "downloading")
            public static let draining = Self(rawValue: "draining")
            public static let failed = Self(rawValue: "failed")
            public static let loading = Self(rawValue: "loading")
            public static let ready = Self(rawValue: "ready")
            public static let unloaded = Self(rawValue: "unloaded")
        }
    }
}

extension Wire {
    /// Finish what was accepted (`drain`), or only say what is not (`abort`); answer `stopped`, and exit.
    /// `deadline_ms`: what is not finished so long after this request is not waited for.
    public struct Stop: Codable, Equatable, Sendable {
        public private(set) var type = "stop"
        /// Default: `"drain"`.
        public var mode: Mode?
        /// 0 to 86400000.
        public var deadlineMs: Int?
        public var id: ID?

        public init(mode: Mode? = nil, deadlineMs: Int? = nil, id: ID? = nil) {
            self.mode = mode
            self.deadlineMs = deadlineMs
            self.id = id
        }

        enum CodingKeys: String, CodingKey {
            case type
            case mode
            case deadlineMs = "deadline_ms"
            case id
        }

        public struct Mode: RawRepresentable, Codable, Hashable, Sendable {
            public let rawValue: String
            public init(rawValue: String) { self.rawValue = rawValue }

            public static let abort = Self(rawValue: "abort")
            public static let drain = Self(rawValue: "drain")
        }
    }
}

extension Wire {
    /// Close a stream. Its waiting utterances are finished (`drain`) or cancelled (`discard`); audio behind its last
    /// boundary is dropped and counted. Answered by `stream_stopped`.
    public struct StopStream: Codable, Equatable, Sendable {
        public private(set) var type = "stop_stream"
        /// 1 to 128 characters; default: `"default"`.
        public var streamID: String?
        /// Default: `"drain"`.
        public var mode: Mode?
        public var id: ID?

        public init(streamID: String? = nil, mode: Mode? = nil, id: ID? = nil) {
            self.streamID = streamID
            self.mode = mode
            self.id = id
        }

        enum CodingKeys: String, CodingKey {
            case type
            case streamID = "stream_id"
            case mode
            case id
        }

        public struct Mode: RawRepresentable, Codable, Hashable, Sendable {
            public let rawValue: String
            public init(rawValue: String) { self.rawValue = rawValue }

            public static let discard = Self(rawValue: "discard")
            public static let drain = Self(rawValue: "drain")
        }
    }
}

extension Wire {
    /// The last line. `reason`: `stop`, `abort`, `deadline`, `end_of_input`, `signal`, or the code of the error that
    /// ended the engine. `completed`: transcripts since the process started. `items`: the outcomes of utterances that
    /// still waited for a `flush`. `dropped_samples`: audio after the last boundary of each stream.
    public struct Stopped: Codable, Equatable, Sendable {
        public private(set) var type = "stopped"
        public var id: ID?
        public var warnings: [String]?
        public var reason: String
        public var completed: Int
        public var unfinished: [Unfinished]
        public var droppedSamples: Int
        public var items: [FinalResult]

        enum CodingKeys: String, CodingKey {
            case type
            case id
            case warnings
            case reason
            case completed
            case unfinished
            case droppedSamples = "dropped_samples"
            case items
        }
    }
}

extension Wire {
    /// A chunk without `id` was rejected. `stream_id` and `seq` are null if unknown. `dropped_samples`: the number of
    /// its samples, 0 if unknown.
    public struct StreamError: Codable, Equatable, Sendable {
        public private(set) var type = "stream_error"
        public var event: Bool
        public var n: Int
        public var streamID: String?
        public var seq: Int?
        public var droppedSamples: Int
        public var code: ErrorCode
        public var message: String
        public var retryable: Bool
        public var data: [String: JSONValue]

        enum CodingKeys: String, CodingKey {
            case type
            case event
            case n
            case streamID = "stream_id"
            case seq
            case droppedSamples = "dropped_samples"
            case code
            case message
            case retryable
            case data
        }
    }
}

extension Wire {
    /// The stream is open, and the model is loaded. `dropped_samples`: audio that a restart dropped. `partials`,
    /// `partial_interval_ms` and `final_policy` are absent unless partials were requested.
    public struct StreamReady: Codable, Equatable, Sendable {
        public private(set) var type = "stream_ready"
        public var id: ID?
        public var warnings: [String]?
        public var `protocol`: String
        public var streamID: String
        public var sampleRate: Int
        public var batchSize: Int
        public var maxBatchDelayMs: Int
        public var autoFlush: Bool
        public var decoderMode: String
        public var onLimit: String
        public var droppedSamples: Int
        public var partials: Bool?
        public var partialIntervalMs: Int?
        public var finalPolicy: String?
        public var asrBackend: String
        public var vadBackend: String
        public var note: String

        enum CodingKeys: String, CodingKey {
            case type
            case id
            case warnings
            case `protocol`
            case streamID = "stream_id"
            case sampleRate = "sample_rate"
            case batchSize = "batch_size"
            case maxBatchDelayMs = "max_batch_delay_ms"
            case autoFlush = "auto_flush"
            case decoderMode = "decoder_mode"
            case onLimit = "on_limit"
            case droppedSamples = "dropped_samples"
            case partials
            case partialIntervalMs = "partial_interval_ms"
            case finalPolicy = "final_policy"
            case asrBackend = "asr_backend"
            case vadBackend = "vad_backend"
            case note
        }
    }
}

extension Wire {
    /// `dropped_samples`: audio after the last boundary. `queued`: utterances of the stream that the next `flush`
    /// delivers. `cancelled_utterances`: those cancelled by `discard` that no other line names.
    public struct StreamStopped: Codable, Equatable, Sendable {
        public private(set) var type = "stream_stopped"
        public var id: ID?
        public var warnings: [String]?
        public var streamID: String
        public var droppedSamples: Int
        public var queued: Int
        public var cancelledUtterances: [String]

        enum CodingKeys: String, CodingKey {
            case type
            case id
            case warnings
            case streamID = "stream_id"
            case droppedSamples = "dropped_samples"
            case queued
            case cancelledUtterances = "cancelled_utterances"
        }
    }
}

extension Wire {
    /// As it is to be written. `weight`: what the logit of its first token gains, in nats. Each further one gains twice
    /// as much, at most 4. 0 changes nothing.
    public struct Term: Codable, Equatable, Sendable {
        /// 1 to 64 characters.
        public var text: String
        /// 0 to 4; default: `1.0`.
        public var weight: Double?

        public init(text: String, weight: Double? = nil) {
            self.text = text
            self.weight = weight
        }
    }
}

extension Wire {
    /// Transcribe the file at `audio`. Answered by `transcript`. Loads the model if need be. `track`, here and
    /// elsewhere: of the audio tracks of the file, from 1. `timeout_ms`, here and elsewhere: what is not transcribed so
    /// long after the request fails with `timeout`. `progress`: `progress` events, if they are wanted, say how much of
    /// the file has its text.
    public struct Transcribe: Codable, Equatable, Sendable {
        public private(set) var type = "transcribe"
        /// 0 to 4096.
        public var maxNewTokens: Int?
        public var language: String?
        /// 1 to 30 items.
        public var languages: [String]?
        /// At most 16384 characters.
        public var context: String?
        /// At most 100 items.
        public var terms: [Term]?
        public var decoderMode: String?
        public var driftGuard: Bool?
        public var logprobs: Bool?
        public var words: Bool?
        public var segments: Bool?
        /// 1 to 4096 characters.
        public var audio: String
        /// 1 to 99.
        public var track: Int?
        /// 1 to 86400000.
        public var timeoutMs: Int?
        public var progress: Bool?
        public var id: ID?

        public init(
            audio: String,
            maxNewTokens: Int? = nil,
            language: String? = nil,
            languages: [String]? = nil,
            context: String? = nil,
            terms: [Term]? = nil,
            decoderMode: String? = nil,
            driftGuard: Bool? = nil,
            logprobs: Bool? = nil,
            words: Bool? = nil,
            segments: Bool? = nil,
            track: Int? = nil,
            timeoutMs: Int? = nil,
            progress: Bool? = nil,
            id: ID? = nil
        ) {
            self.audio = audio
            self.maxNewTokens = maxNewTokens
            self.language = language
            self.languages = languages
            self.context = context
            self.terms = terms
            self.decoderMode = decoderMode
            self.driftGuard = driftGuard
            self.logprobs = logprobs
            self.words = words
            self.segments = segments
            self.track = track
            self.timeoutMs = timeoutMs
            self.progress = progress
            self.id = id
        }

        enum CodingKeys: String, CodingKey {
            case type
            case maxNewTokens = "max_new_tokens"
            case language
            case languages
            case context
            case terms
            case decoderMode = "decoder_mode"
            case driftGuard = "drift_guard"
            case logprobs
            case words
            case segments
            case audio
            case track
            case timeoutMs = "timeout_ms"
            case progress
            case id
        }
    }
}

extension Wire {
    /// One transcribed file. `text` is clean, `raw_text` is the model's output, `language` is null if there is no
    /// speech, or none of `languages`. `language_probabilities`, by the names of `languages`, is present if that was
    /// set; what is missing to 1 is the probability of none of them. It is null if nothing was decoded.
    /// `finish_reason`: `stop`, `length` or `repetition`. `rms_dbfs`: the loudness of the whole, null for digital
    /// silence. `decode_seconds`: of the decoder; `total_seconds`: of reading, features, tower and decoder;
    /// `load_seconds`: of the load that this request caused, 0.0 if it caused none. `redecoded` counts the segments
    /// that were decoded in a batch and then again alone. `token_logprobs` (natural logarithms, one for each of
    /// `generated_token_ids`) and `confidence` are present if `logprobs` was requested; `confidence` is null if there
    /// are no tokens. `words` and `aligner` are present if `words` was requested, `segments` if `segments` was; `words`
    /// is null beside a warning `words_unavailable`, which says why. `context_echo`: weak audio had a text that was
    /// mostly `context` or `terms`; it was dropped, and the text is that of decoding without them. `repaired` is
    /// present where a segment ended in a loop and was decoded again in two parts: `raw_text` has the loop, all else is
    /// of the parts.
    public struct TranscriptReply: Codable, Equatable, Sendable {
        public private(set) var type = "transcript"
        public var id: ID?
        public var warnings: [String]?
        public var audio: String
        public var text: String
        public var language: String?
        public var languageProbabilities: [String: Double]?
        public var rawText: String
        public var finishReason: String
        public var generatedTokens: Int
        public var generatedTokenIDs: [Int]
        public var audioEmbeddingsShape: [Int]
        public var audioOutputLengths: [Int]
        public var tokenLogprobs: [Double]?
        public var confidence: Confidence?
        public var words: [Word]?
        public var aligner: Aligner?
        public var segments: [Segment]?
        public var contextEcho: Bool?
        public var repaired: Bool?
        public var rmsDbfs: Double?
        public var decodeSeconds: Double?
        public var totalSeconds: Double?
        public var loadSeconds: Double
        public var useCache: Bool
        public var decoderMode: String
        public var redecoded: Int
        public var profile: Profile
        /// Not on the wire. With `resend`: its audio was sent again, to a new process.
        public internal(set) var replayed = false

        enum CodingKeys: String, CodingKey {
            case type
            case id
            case warnings
            case audio
            case text
            case language
            case languageProbabilities = "language_probabilities"
            case rawText = "raw_text"
            case finishReason = "finish_reason"
            case generatedTokens = "generated_tokens"
            case generatedTokenIDs = "generated_token_ids"
            case audioEmbeddingsShape = "audio_embeddings_shape"
            case audioOutputLengths = "audio_output_lengths"
            case tokenLogprobs = "token_logprobs"
            case confidence
            case words
            case aligner
            case segments
            case contextEcho = "context_echo"
            case repaired
            case rmsDbfs = "rms_dbfs"
            case decodeSeconds = "decode_seconds"
            case totalSeconds = "total_seconds"
            case loadSeconds = "load_seconds"
            case useCache = "use_cache"
            case decoderMode = "decoder_mode"
            case redecoded
            case profile
        }
    }
}

extension Wire {
    /// An utterance (by its names) or a request (by its `id`) that the end left without a result. Its outcome, or its
    /// reply, was the error of this `code`.
    public struct Unfinished: Codable, Equatable, Sendable {
        public var streamID: String?
        public var utteranceID: String?
        public var id: ID?
        public var code: ErrorCode

        enum CodingKeys: String, CodingKey {
            case streamID = "stream_id"
            case utteranceID = "utterance_id"
            case id
            case code
        }
    }
}

extension Wire {
    /// Free the memory of the model. Answered by `unloaded`. The next request that needs the model loads it again.
    /// `drain`: decode first what was accepted before, also what waits for a `flush`; `abort`: end it with `cancelled`.
    /// What is not unloaded within `timeout_ms` stays loaded.
    public struct Unload: Codable, Equatable, Sendable {
        public private(set) var type = "unload"
        /// Default: `"drain"`.
        public var mode: Mode?
        /// 1 to 86400000.
        public var timeoutMs: Int?
        public var id: ID?

        public init(mode: Mode? = nil, timeoutMs: Int? = nil, id: ID? = nil) {
            self.mode = mode
            self.timeoutMs = timeoutMs
            self.id = id
        }

        enum CodingKeys: String, CodingKey {
            case type
            case mode
            case timeoutMs = "timeout_ms"
            case id
        }

        public struct Mode: RawRepresentable, Codable, Hashable, Sendable {
            public let rawValue: String
            public init(rawValue: String) { self.rawValue = rawValue }

            public static let abort = Self(rawValue: "abort")
            public static let drain = Self(rawValue: "drain")
        }
    }
}

extension Wire {
    /// The model is out of memory. `freed_bytes`: what its process took, 0 if no model was loaded.
    public struct Unloaded: Codable, Equatable, Sendable {
        public private(set) var type = "unloaded"
        public var id: ID?
        public var warnings: [String]?
        public var freedBytes: Int

        enum CodingKeys: String, CodingKey {
            case type
            case id
            case warnings
            case freedBytes = "freed_bytes"
        }
    }
}

extension Wire {
    /// `samples` at 16 kHz. `frames`: PCM frames at the stream's rate; `dropped_samples`: of the rest that was dropped;
    /// both only with `samples` or after a `pause`. `queued`: the utterances that wait for a batch, in all streams.
    public struct UtteranceQueued: Codable, Equatable, Sendable {
        public private(set) var type = "utterance_queued"
        public var id: ID?
        public var warnings: [String]?
        public var streamID: String
        public var utteranceID: String
        public var samples: Int
        public var frames: Int?
        public var droppedSamples: Int?
        public var queued: Int
        public var batchSize: Int

        enum CodingKeys: String, CodingKey {
            case type
            case id
            case warnings
            case streamID = "stream_id"
            case utteranceID = "utterance_id"
            case samples
            case frames
            case droppedSamples = "dropped_samples"
            case queued
            case batchSize = "batch_size"
        }
    }
}

extension Wire {
    /// An utterance ends: the file `audio`, or inline `pcm16`, or else what the stream has in its buffer. `samples`: it
    /// ends behind so many PCM frames of the open utterance, at the stream's rate; the `rest` begins the next one, or
    /// is dropped. Answered by `utterance_queued`, or, where it fills the batch of a stream without `auto_flush`, by
    /// `realtime_batch_final`. Then `decoder_mode`, `drift_guard` and `max_new_tokens` hold for all in that batch that
    /// had none of their own.
    public struct VadBoundary: Codable, Equatable, Sendable {
        public private(set) var type = "vad_boundary"
        /// 0 to 4096.
        public var maxNewTokens: Int?
        public var language: String?
        /// 1 to 30 items.
        public var languages: [String]?
        /// At most 16384 characters.
        public var context: String?
        /// At most 100 items.
        public var terms: [Term]?
        public var decoderMode: String?
        public var driftGuard: Bool?
        public var logprobs: Bool?
        public var words: Bool?
        public var segments: Bool?
        /// 1 to 128 characters; default: `"default"`.
        public var streamID: String?
        /// 1 to 148 characters.
        public var utteranceID: String?
        /// 1 to 4096 characters.
        public var audio: String?
        public var pcm16: String?
        public var sampleRate: Int?
        /// At least 1.
        public var samples: Int?
        /// Default: `"keep"`.
        public var rest: Rest?
        /// 1 to 86400000.
        public var timeoutMs: Int?
        public var id: ID?

        public init(
            maxNewTokens: Int? = nil,
            language: String? = nil,
            languages: [String]? = nil,
            context: String? = nil,
            terms: [Term]? = nil,
            decoderMode: String? = nil,
            driftGuard: Bool? = nil,
            logprobs: Bool? = nil,
            words: Bool? = nil,
            segments: Bool? = nil,
            streamID: String? = nil,
            utteranceID: String? = nil,
            audio: String? = nil,
            pcm16: String? = nil,
            sampleRate: Int? = nil,
            samples: Int? = nil,
            rest: Rest? = nil,
            timeoutMs: Int? = nil,
            id: ID? = nil
        ) {
            self.maxNewTokens = maxNewTokens
            self.language = language
            self.languages = languages
            self.context = context
            self.terms = terms
            self.decoderMode = decoderMode
            self.driftGuard = driftGuard
            self.logprobs = logprobs
            self.words = words
            self.segments = segments
            self.streamID = streamID
            self.utteranceID = utteranceID
            self.audio = audio
            self.pcm16 = pcm16
            self.sampleRate = sampleRate
            self.samples = samples
            self.rest = rest
            self.timeoutMs = timeoutMs
            self.id = id
        }

        enum CodingKeys: String, CodingKey {
            case type
            case maxNewTokens = "max_new_tokens"
            case language
            case languages
            case context
            case terms
            case decoderMode = "decoder_mode"
            case driftGuard = "drift_guard"
            case logprobs
            case words
            case segments
            case streamID = "stream_id"
            case utteranceID = "utterance_id"
            case audio
            case pcm16
            case sampleRate = "sample_rate"
            case samples
            case rest
            case timeoutMs = "timeout_ms"
            case id
        }

        public struct Rest: RawRepresentable, Codable, Hashable, Sendable {
            public let rawValue: String
            public init(rawValue: String) { self.rawValue = rawValue }

            public static let drop = Self(rawValue: "drop")
            public static let keep = Self(rawValue: "keep")
        }
    }
}

extension Wire {
    /// null: not installed.
    public struct Versions: Codable, Equatable, Sendable {
        public var runtime: String
        public var python: String
        public var mlx: String?
    }
}

extension Wire {
    /// A word with its punctuation. `start` and `end` in seconds from the first sample of the file or utterance. `text`
    /// is `char_start` to `char_end` of the transcript, in code points, without the whitespace around it; the ranges of
    /// all words cover the transcript. `confidence`: the geometric mean of the probabilities of its tokens, null where
    /// they are not known. `time_confidence`: the probability of the less certain of its two times; null where a whole
    /// segment is one word, because its words have no times.
    public struct Word: Codable, Equatable, Sendable {
        public var text: String
        public var start: Double
        public var end: Double
        public var charStart: Int
        public var charEnd: Int
        public var confidence: Double?
        public var timeConfidence: Double?

        enum CodingKeys: String, CodingKey {
            case text
            case start
            case end
            case charStart = "char_start"
            case charEnd = "char_end"
            case confidence
            case timeConfidence = "time_confidence"
        }
    }
}

extension Wire {
    /// The words of a `final_result` that was sent with `words_pending`: `words`, or the `error` that prevents them.
    public struct WordsReady: Codable, Equatable, Sendable {
        public private(set) var type = "words_ready"
        public var event: Bool
        public var n: Int
        public var job: Int
        public var streamID: String
        public var utteranceID: String
        public var words: [Word]?
        public var aligner: Aligner?
        public var warnings: [String]
        public var error: ItemError?

        enum CodingKeys: String, CodingKey {
            case type
            case event
            case n
            case job
            case streamID = "stream_id"
            case utteranceID = "utterance_id"
            case words
            case aligner
            case warnings
            case error
        }
    }
}
