import Foundation

/// A message as it was sent, for `resend`. Its `members` lack the audio.
struct Sent: Sendable {
    let number: Int
    let members: [String: JSONValue]
    var line: Data
    /// No caller waits for its reply.
    var isAnswered = false
    /// The audio of this boundary is not kept.
    var isDropped = false
    /// A later process got it too.
    var isResent = false

    var type: String { members.type }
    var streamID: String? { members.streamID }
    var utteranceID: String? { members.text("utterance_id") }
    var id: Wire.ID? { members.id }
}

/// The members of a message.
extension [String: JSONValue] {
    func text(_ name: String) -> String? {
        if case .string(let text) = self[name] { text } else { nil }
    }

    func isTrue(_ name: String) -> Bool { self[name] == .bool(true) }

    var type: String { text("type") ?? "" }

    var id: Wire.ID? {
        switch self["id"] {
        case .string(let id): .string(id)
        case .integer(let id): .integer(id)
        default: nil
        }
    }

    var isBoundary: Bool { type == "end_utterance" || type == "vad_boundary" }
    var isAudio: Bool { type == "audio_chunk" || isBoundary }
    /// Whether it is a boundary of the audio in the stream's buffer.
    var takesBuffer: Bool { isBoundary && text("pcm16") == nil && text("audio") == nil }

    /// The stream that it names.
    var streamID: String? {
        switch type {
        case "flush", "cancel": text("stream_id")
        case "start_stream", "audio_chunk", "end_utterance", "vad_boundary", "stop_stream":
            text("stream_id") ?? "default"
        default: nil
        }
    }
}

/// A stream as the process sees it at the next message. Its utterances are named here and not by the bridge, by its
/// rule, so that a name is the same in each process.
struct OpenStream: Sendable {
    let partials: Bool
    var count: Int
    /// The name of the open utterance.
    var current: String?
    /// The audio of that is not kept.
    var isTooLong = false
    /// The error of the process that had it.
    var lost: BridgeError?

    /// Throws the error by which the open utterance was lost. Its boundary is the last message to get it.
    mutating func check(_ members: [String: JSONValue]) throws(BridgeError) {
        guard let error = lost, members.type == "audio_chunk" || members.takesBuffer else { return }
        if members.takesBuffer { lost = nil }
        throw error
    }

    /// The name of the utterance of a chunk or boundary. Without partials a chunk needs none.
    mutating func name(_ members: [String: JSONValue], isInUse: (String) -> Bool) -> String? {
        let isChunk = members.type == "audio_chunk"
        let ofBuffer = isChunk || members.takesBuffer
        var name = members.text("utterance_id") ?? (ofBuffer ? current : nil)
        while name == nil, partials || !isChunk {
            count += 1
            let generated = "\(members.streamID ?? "")-\(count)"
            name = isInUse(generated) ? nil : generated
        }
        if ofBuffer { current = isChunk ? current ?? name : nil }
        return name
    }
}
