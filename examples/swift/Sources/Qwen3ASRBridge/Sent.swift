import Foundation

/// A message that is kept for the next process (`resend`), with the name of its utterance.
final class Sent {
    /// In the order in which they were sent.
    var number = 0
    var members: [String: JSONValue]
    /// As the process knows them.
    var id: Wire.ID?
    var seq: Int?
    /// Of `seq`, from the chunk before.
    var step = 1
    /// Of its line, if that holds audio.
    var size = 0
    /// Of the utterance that this boundary ends.
    var chunks: [Sent] = []
    var cancels: [Sent] = []
    /// The names of its stream.
    var before = Names()
    var behind = Names()
    /// The next process gets it.
    var isKept = true
    /// No caller waits for its reply.
    var isAnswered = false
    /// The audio of this boundary is not kept.
    var isDropped = false
    /// A later process got it too.
    var isResent = false

    init(_ members: [String: JSONValue]) {
        self.members = members
        id = members.id
    }

    var type: String { members.type }
    var streamID: String? { members.streamID }
    var utteranceID: String? { members.text("utterance_id") }

    /// As the process gets it.
    var wire: [String: JSONValue] {
        var wire = members
        switch id {
        case .string(let id): wire["id"] = .string(id)
        case .integer(let id): wire["id"] = .integer(id)
        case nil: break
        }
        if let seq { wire["seq"] = .integer(seq) }
        return wire
    }
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
    var isTurn: Bool { type == "start_stream" || type == "stop_stream" }
    var isAudio: Bool { type == "audio_chunk" || isBoundary }
    /// Whether it is a boundary of the audio in the stream's buffer.
    var takesBuffer: Bool { isBoundary && text("pcm16") == nil && text("audio") == nil }

    /// Samples in the base64 of a chunk.
    var frames: Int {
        guard let pcm16 = text("pcm16")?.utf8 else { return 0 }
        let padding = pcm16.suffix(2).filter { $0 == UInt8(ascii: "=") }.count
        return (pcm16.count / 4 * 3 - padding) / 2
    }

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

/// A stream at the next message. Utterances are named here and not by the bridge, by its rule, so that a name is the same in
/// each process.
struct Names: Equatable {
    /// And kept.
    var isOpen = false
    var partials = false
    var count = 0
    /// The name of the open utterance.
    var current: String?
    /// The audio of that is not kept.
    var isTooLong = false
    /// Samples a second.
    var rate = 16_000
    /// Samples of its chunks since it was started, and of these those before the open utterance.
    var frames = 0
    var begun = 0

    /// Seconds from the first sample of the stream to that of the open utterance.
    var beginsAt: Double { (1000 * Double(begun) / Double(rate)).rounded() / 1000 }

    /// Follows a message. Returns the name of its utterance; without partials a chunk needs none.
    mutating func follow(_ members: [String: JSONValue], isInUse: (String) -> Bool) -> String? {
        switch members.type {
        case "start_stream" where !isOpen || members.isTrue("restart"):
            let isKept = members.text("on_limit") != "split"
            self = Names(isOpen: isKept, partials: members.isTrue("partials"), count: isOpen ? count : 0)
            if case .integer(let rate)? = members["sample_rate"] { self.rate = rate }
        case "stop_stream": self = Names(count: count)
        case "cancel" where current != nil && current == members.text("utterance_id"):
            (current, isTooLong, begun) = (nil, false, frames)
        case "audio_chunk":
            frames += members.frames
            let name = name(members, current, isNeeded: partials, isInUse)
            current = current ?? name
            return name
        case "end_utterance", "vad_boundary":
            let name = name(members, members.takesBuffer ? current : nil, isNeeded: true, isInUse)
            if members.takesBuffer { (current, isTooLong, begun) = (nil, false, frames) }
            return name
        default: break
        }
        return nil
    }

    private mutating func name(
        _ members: [String: JSONValue], _ current: String?, isNeeded: Bool, _ isInUse: (String) -> Bool
    ) -> String? {
        var name = members.text("utterance_id") ?? current
        while name == nil, isNeeded {
            count += 1
            let generated = "\(members.streamID ?? "")-\(count)"
            name = isInUse(generated) ? nil : generated
        }
        return name
    }
}
