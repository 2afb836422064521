import Foundation

/// What `resend` keeps for the next process: requests without a reply, streams, and the audio of utterances without an
/// outcome. Messages stand in the order in which they were sent.
struct Kept: Sendable {
    /// An utterance that has no outcome, and why.
    struct LostUtterance: Sendable {
        let error: BridgeError
        let streamID: String
        let utteranceID: String
    }

    private static let lasting: Set = ["start", "start_stream", "stop_stream", "cancel"]  // needed after their reply, too
    private static let never: Set = ["hello", "stop"]
    private let limit: Int
    private var sent: [Sent] = []
    private var open: [String: OpenStream] = [:]
    private var bytes = 0
    private var count = 0

    /// Lines of audio take at most `limit` bytes: beyond it the oldest utterance is dropped.
    init(limit: Int) { self.limit = limit }

    // What is sent

    /// Keeps a message that is sent now. The line to send has the name of its utterance. Throws the error by which that
    /// utterance was lost.
    mutating func add(_ line: Data) throws(BridgeError) -> Data {
        guard case .object(var members)? = try? JSONDecoder().decode(JSONValue.self, from: line) else { return line }
        var line = line
        if let streamID = members.streamID, members.isAudio, open[streamID] != nil {
            try open[streamID]?.check(members)
            let used = Set(sent.filter(\.members.isBoundary).compactMap(\.utteranceID))
            if let name = open[streamID]?.name(members, isInUse: used.contains), members["utterance_id"] != .string(name) {
                members["utterance_id"] = .string(name)
                line = (try? members.line()) ?? line
            }
        }
        if has(members) { keep(members, line) }
        return line
    }

    private mutating func keep(_ members: [String: JSONValue], _ line: Data) {
        follow(members)
        count += 1
        var one = Sent(number: count, members: members, line: line)
        if members["pcm16"] != nil {
            one = Sent(number: count, members: members.merging(["pcm16": .string("")]) { $1 }, line: line)
        }
        if let streamID = one.streamID, open[streamID]?.isTooLong == true {
            if one.type == "audio_chunk" { return }
            if members.takesBuffer {
                open[streamID]?.isTooLong = false
                (one.isDropped, one.line) = (true, Data())
            }
        }
        if one.type == "start" { remove(where: { $0.type == "start" && $0.isAnswered }) }
        sent.append(one)
        if members.isAudio { bytes += one.line.count }
        while bytes > limit { dropOldest() }
    }

    /// Whether a message is kept. A stream that the bridge splits by itself is not: only the bridge knows where.
    func has(_ members: [String: JSONValue]) -> Bool {
        if members.type == "start_stream" { return members.text("on_limit") != "split" }
        if let streamID = members.streamID {
            return open[streamID] != nil || sent.contains { $0.streamID == streamID }
        }
        return !Self.never.contains(members.type)
    }

    /// No caller waits for this reply any more. An utterance still has its outcome.
    mutating func abandon(_ id: Wire.ID) {
        guard let place = sent.lastIndex(where: { $0.id == id }) else { return }
        sent[place].isAnswered = true
        if !sent[place].members.isAudio, sent[place].type != "stop_stream" { sent.remove(at: place) }
    }

    // What is received

    /// Forgets what has its outcome with this event, and marks results of what was sent again.
    mutating func received(_ event: Wire.Event) -> Wire.Event {
        switch event {
        case .realtimeBatchFinal(var batch):
            takeOutcomes(&batch.items)
            return .realtimeBatchFinal(batch)
        case .streamError(let error):
            remove(where: { one in
                guard let seq = error.seq, one.type == "audio_chunk" else { return false }
                return one.streamID == error.streamID && one.members["seq"] == .integer(seq)
            })
            return event
        default: return event
        }
    }

    /// The same of a reply, and the utterance that a later process refused.
    mutating func received(_ reply: Wire.Reply, _ id: Wire.ID?) -> (Wire.Reply, LostUtterance?) {
        var reply = reply
        if case .realtimeBatchFinal(var batch) = reply {
            takeOutcomes(&batch.items)
            reply = .realtimeBatchFinal(batch)
        }
        if case .stopped(var stopped) = reply {
            takeOutcomes(&stopped.items)
            reply = .stopped(stopped)
        }
        guard let id, let one = sent.last(where: { $0.id == id }) else { return (reply, nil) }
        return takeReply(reply, to: one)
    }

    /// The process is gone, and the next one gets the rest. Returns the utterances whose audio was not kept, except
    /// those whose boundary has no reply: its caller gets the error.
    mutating func lost(_ error: BridgeError) -> [LostUtterance] {
        for (name, stream) in open where stream.isTooLong {
            open[name]?.isTooLong = false
            open[name]?.current = nil
            open[name]?.lost = error
        }
        let dropped = sent.filter(\.isDropped)
        remove(where: { $0.isDropped })
        for place in sent.indices { sent[place].isResent = true }
        return dropped.filter(\.isAnswered).map { lost($0, error) }
    }

    // What is kept

    var lines: [Data] { sent.map(\.line) }

    /// Of the requests whose callers wait.
    var ids: Set<Wire.ID> { Set(sent.filter { !$0.isAnswered }.compactMap(\.id)) }

    /// The names of the streams that are opened again.
    var streams: Set<String> { Set(sent.filter { $0.type == "start_stream" }.compactMap(\.streamID)) }

    /// Whether a reply or an outcome is missing, or an utterance is open.
    var isNeeded: Bool { sent.contains { !$0.isAnswered || $0.members.isAudio } }

    mutating func clear() { self = Kept(limit: limit) }

    /// As the process does when it reads this message.
    private mutating func follow(_ members: [String: JSONValue]) {
        guard let streamID = members.streamID else { return }
        let stream = open[streamID]
        switch members.type {
        case "start_stream" where stream == nil || members.isTrue("restart"):
            open[streamID] = OpenStream(partials: members.isTrue("partials"), count: stream?.count ?? 0)
        case "stop_stream": open[streamID] = nil
        case "cancel" where stream?.current == members.text("utterance_id"): open[streamID]?.current = nil
        default: break
        }
    }

    private mutating func takeOutcomes(_ items: inout [Wire.FinalResult]) {
        for place in items.indices {
            let (streamID, utteranceID) = (items[place].streamID, items[place].utteranceID)
            if let boundary = boundaries(of: streamID).first(where: { $0.utteranceID == utteranceID }) {
                let audio = audio(of: boundary)
                items[place].replayed = audio.contains(where: \.isResent)
                remove(audio)
            }
            tidy(streamID)
        }
    }

    private mutating func takeReply(_ reply: Wire.Reply, to one: Sent) -> (Wire.Reply, LostUtterance?) {
        var reply = reply
        var refused: LostUtterance?
        var isRefused = false
        switch reply {
        case .error(let error):
            isRefused = true
            if one.isAnswered, one.members.isBoundary {
                refused = lost(one, .failed(error))
                remove(audio(of: one))
            } else {
                refuse(one)
            }
        case .transcript(var transcript):
            transcript.replayed = one.isResent
            reply = .transcript(transcript)
        case .batchTranscript(var batch):
            batch.replayed = one.isResent
            reply = .batchTranscript(batch)
        case .cancelResult(let result):
            if result.droppedSamples ?? 0 > 0 { remove(chunks(before: one)) }
        case .streamStopped(let stopped):
            for each in boundaries(of: one.streamID) where stopped.cancelledUtterances.contains(each.utteranceID ?? "") {
                remove(audio(of: each))
            }
        default: break
        }
        let isLasting = one.members.isAudio || Self.lasting.contains(one.type) && (one.type == "start" || one.streamID != nil)
        if isRefused || !isLasting {
            remove([one])
        } else if let place = sent.firstIndex(where: { $0.number == one.number }) {
            sent[place].isAnswered = true
        }
        tidy(one.streamID)
        return (reply, refused)
    }

    /// The audio of a boundary that is refused stays in the stream's buffer, under its name.
    private mutating func refuse(_ one: Sent) {
        guard let streamID = one.streamID, let stream = open[streamID], one.members.takesBuffer else { return }
        open[streamID]?.isTooLong = stream.isTooLong || one.isDropped
        open[streamID]?.current = stream.current ?? one.utteranceID
    }

    /// Forgets a stream that was stopped or restarted and owes nothing, and cancels without an utterance.
    private mutating func tidy(_ streamID: String?) {
        guard let streamID else { return }
        let ofStream = sent.filter { $0.streamID == streamID }
        var left: [Sent] = []
        for each in ofStream {
            let hasUtterance = left.contains { $0.members.isBoundary && $0.utteranceID == each.utteranceID }
            if each.type == "cancel", each.isAnswered, !hasUtterance { continue }
            if each.type == "start_stream" || each.type == "stop_stream", each.isAnswered {
                while left.last?.type == "audio_chunk" { left.removeLast() }  // the process has dropped what was open
                let wasIdle = left.last?.type == "start_stream"
                if wasIdle { left.removeLast() }
                if wasIdle, each.type == "stop_stream" { continue }
            }
            left.append(each)
        }
        let numbers = Set(left.map(\.number))
        remove(ofStream.filter { !numbers.contains($0.number) })
    }

    private mutating func dropOldest() {
        guard let place = sent.firstIndex(where: { $0.members.isAudio && !$0.isDropped }) else { return bytes = 0 }
        let first = sent[place]
        let later = sent[place...].filter { $0.streamID == first.streamID }
        let ending = first.members.isBoundary ? first : later.first(where: \.members.takesBuffer)
        guard let ending, let end = sent.firstIndex(where: { $0.number == ending.number }) else {
            remove(where: { $0.type == "audio_chunk" && $0.streamID == first.streamID })
            if let streamID = first.streamID { open[streamID]?.isTooLong = true }
            return
        }
        bytes -= ending.line.count
        (sent[end].line, sent[end].isDropped) = (Data(), true)
        remove(audio(of: ending).dropLast())
    }

    /// The chunks of an utterance and its boundary.
    private func audio(of boundary: Sent) -> [Sent] {
        (boundary.members.takesBuffer ? chunks(before: boundary) : []) + [boundary]
    }

    /// The chunks in the stream's buffer when this message came.
    private func chunks(before one: Sent) -> [Sent] {
        var chunks: [Sent] = []
        for each in sent.prefix(while: { $0.number != one.number }) where each.streamID == one.streamID {
            if each.type == "audio_chunk" {
                chunks.append(each)
            } else if each.type == "start_stream" || each.members.takesBuffer {
                chunks = []
            }
        }
        return chunks
    }

    private func boundaries(of streamID: String?) -> [Sent] {
        sent.filter { $0.members.isBoundary && $0.streamID == streamID }
    }

    private func lost(_ boundary: Sent, _ error: BridgeError) -> LostUtterance {
        LostUtterance(error: error, streamID: boundary.streamID ?? "", utteranceID: boundary.utteranceID ?? "")
    }

    private mutating func remove(_ gone: some Sequence<Sent>) {
        let numbers = Set(gone.map(\.number))
        remove(where: { numbers.contains($0.number) })
    }

    private mutating func remove(where isGone: (Sent) -> Bool) {
        bytes -= sent.filter { $0.members.isAudio && isGone($0) }.reduce(0) { $0 + $1.line.count }
        sent.removeAll(where: isGone)
    }
}
