import Foundation

/// What `resend` keeps for the next process: requests without a reply, streams, and the audio of utterances without an
/// outcome.
final class Kept {
    /// An utterance that has no outcome, and why.
    struct LostUtterance: Sendable {
        let error: BridgeError
        let streamID: String
        let utteranceID: String
    }

    private static let never: Set = ["hello", "pause", "stop"]  // a pause is a guess, which its process takes along
    /// Why no more process followed without the app: of each time. The next one has the number of them.
    private(set) var endings: [BridgeError] = []
    private let limit: Int
    private var sent: [Int: Sent] = [:]
    /// Those that the process has not answered.
    private var byID: [Wire.ID: Sent] = [:]
    private var streams: [String: KeptStream] = [:]
    /// That the app gave last.
    private var keepAlive: JSONValue?
    private var bytes = 0
    private var count = 0
    /// For the next process.
    private var waits = false

    /// Lines of audio take at most `limit` bytes: beyond it the oldest utterance is dropped.
    init(limit: Int) { self.limit = limit }

    // What is sent

    /// Keeps a message that is sent now. The line to send has the name of its utterance. Throws the error by which that
    /// utterance was lost.
    func add(_ line: Data) throws(BridgeError) -> Data {
        guard case .object(let members)? = try? JSONDecoder().decode(JSONValue.self, from: line),
            let one = try planned(members)
        else { return line }
        let wire = wire(of: one)
        let line = wire == members ? line : (try? wire.line()) ?? line
        keep(one, line.count)
        return line
    }

    /// Whether a message is kept. A stream that the bridge splits by itself is not: only the bridge knows where.
    private func has(_ members: [String: JSONValue]) -> Bool {
        if members.type == "start_stream" { return members.text("on_limit") != "split" }
        guard let streamID = members.streamID else { return !Self.never.contains(members.type) }
        guard let stream = streams[streamID] else { return false }
        return stream.names.isOpen || !members.isAudio
    }

    /// No caller waits for this reply any more. An utterance still has its outcome.
    func abandon(_ id: Wire.ID) {
        guard let one = byID[id] else { return }
        one.isAnswered = true
        if one.type == "start_stream", !waits {
            one.isKept = false
        } else if one.type == "start_stream" {
            refuse(one)
        } else if !one.members.isAudio, one.type != "stop_stream" {
            remove([one])
        }
    }

    // What is received

    /// Forgets what has its outcome with this event, and marks results of what was sent again.
    func received(_ event: Wire.Event) -> Wire.Event {
        switch event {
        case .realtimeBatchFinal(var batch):
            takeOutcomes(&batch.items)
            return .realtimeBatchFinal(batch)
        case .streamError(let error):
            if let seq = error.seq, let streamID = error.streamID, let chunk = streams[streamID]?.refuseChunk(seq) {
                remove([chunk])
            }
            return event
        default: return event
        }
    }

    /// The same of a reply, and the utterance that a later process refused.
    func received(_ reply: Wire.Reply, _ id: Wire.ID?) -> (Wire.Reply, LostUtterance?) {
        var reply = reply
        if case .realtimeBatchFinal(var batch) = reply {
            takeOutcomes(&batch.items)
            reply = .realtimeBatchFinal(batch)
        }
        if case .stopped(var stopped) = reply {
            takeOutcomes(&stopped.items)
            reply = .stopped(stopped)
        }
        guard let id, let one = byID.removeValue(forKey: id) else { return (reply, nil) }
        return takeReply(reply, to: one)
    }

    /// The process is gone, and the next one gets the rest. Returns the utterances whose audio was not kept, except
    /// those whose boundary has no reply: its caller gets the error.
    func lost(_ error: BridgeError) -> [LostUtterance] {
        waits = true
        for one in inOrder where !one.isKept { refuse(one) }
        for stream in streams.values { stream.loseOpen(error) }
        let dropped = inOrder.filter(\.isDropped)
        for one in dropped { forget(one) }
        for one in sent.values { one.isResent = true }
        return dropped.filter(\.isAnswered).map { lost($0, error) }
    }

    // What is kept

    /// For the next process, which starts now. It may know other ids and `seq` than the last one: the app may have used
    /// the id of an answered message again.
    func lines(newID: () -> Wire.ID) -> [Data] {
        waits = false
        byID = [:]
        for stream in streams.values { stream.restartNumbers() }
        return inOrder.compactMap { one in
            if let id = one.id {
                let id = one.isAnswered ? newID() : id
                one.id = id
                byID[id] = one
            }
            if one.seq != nil, let streamID = one.streamID { streams[streamID]?.number(one) }
            return try? wire(of: one).line()
        }
    }

    /// Of the requests whose callers wait.
    var ids: Set<Wire.ID> { Set(sent.values.filter { !$0.isAnswered }.compactMap(\.id)) }

    /// The names of the streams that are opened again.
    var streamIDs: Set<String> { Set(streams.filter(\.value.goesOn).keys) }

    var isEmpty: Bool { sent.isEmpty }

    /// Whether a reply or an outcome is missing, or an utterance is open.
    var isNeeded: Bool { sent.values.contains { !$0.isAnswered || $0.members.isAudio } }

    /// No next process comes without the app.
    func clear(_ error: BridgeError) {
        (sent, byID, streams, bytes, keepAlive, waits) = ([:], [:], [:], 0, nil, false)
        endings.append(error)
    }

    private var inOrder: [Sent] { sent.keys.sorted().compactMap { sent[$0] } }

    private func planned(_ members: [String: JSONValue]) throws(BridgeError) -> Sent? {
        let stream = members.streamID.flatMap { streams[$0] }
        let isRestart = members.type == "start_stream" && stream != nil
        guard isRestart || has(members) else { return nil }
        return members.streamID == nil ? Sent(members) : try (stream ?? KeptStream()).planned(members)
    }

    /// A `start` has the last `keep_alive_seconds` that the app gave.
    private func wire(of one: Sent) -> [String: JSONValue] {
        var wire = one.wire
        if one.type == "start", wire["keep_alive_seconds"] == nil { wire["keep_alive_seconds"] = keepAlive }
        return wire
    }

    private func keep(_ one: Sent, _ size: Int) {
        count += 1
        one.number = count
        if let streamID = one.streamID {
            let stream = streams[streamID] ?? KeptStream()
            streams[streamID] = stream
            guard stream.add(one) else { return }
        }
        sent[count] = one
        if let id = one.id { byID[id] = one }
        if one.members.isAudio, !one.isDropped { one.size = size }
        bytes += one.size
        while bytes > limit { dropOldest() }
    }

    private func takeOutcomes(_ items: inout [Wire.FinalResult]) {
        for place in items.indices {
            let stream = streams[items[place].streamID]
            guard let stream, let boundary = stream.boundary(items[place].utteranceID) else { continue }
            if stream.isResent, items[place].streamStart != nil { items[place].streamStart = boundary.before.beginsAt }
            items[place].replayed = boundary.isResent || boundary.chunks.contains(where: \.isResent)
            forget(boundary)
        }
    }

    private func takeReply(_ reply: Wire.Reply, to one: Sent) -> (Wire.Reply, LostUtterance?) {
        let wasAnswered = one.isAnswered
        one.isAnswered = true
        switch reply {
        case .error(let error):
            guard wasAnswered, one.members.isBoundary else {
                refuse(one)
                return (reply, nil)
            }
            forget(one)
            return (reply, lost(one, .failed(error)))
        case _ where one.type == "start":
            keepAlive = one.members["keep_alive_seconds"] ?? keepAlive
            if removeStarts(before: one).contains(where: { $0.members.isTrue("words") }) { one.members["words"] = .bool(true) }
        case _ where one.type != "flush" && one.streamID.map { streams[$0] != nil } == true: takeStep(one, reply)
        default:
            remove([one])
            if one.type == "unload" { removeStarts(before: one) }
        }
        switch reply {
        case .transcript(var transcript):
            transcript.replayed = one.isResent
            return (.transcript(transcript), nil)
        case .batchTranscript(var batch):
            batch.replayed = one.isResent
            return (.batchTranscript(batch), nil)
        case .aligned(var aligned):
            aligned.replayed = one.isResent
            return (.aligned(aligned), nil)
        default: return (reply, nil)
        }
    }

    /// The process has done what this message of a stream asks for.
    private func takeStep(_ one: Sent, _ reply: Wire.Reply) {
        guard let streamID = one.streamID, let stream = streams[streamID] else { return }
        var hasDropped = one.members.isTurn
        if case .cancelResult(let result) = reply { hasDropped = result.droppedSamples ?? 0 > 0 }
        if hasDropped { remove(stream.takeBuffer(one)) }
        if case .streamStopped(let stopped) = reply {
            for boundary in stopped.cancelledUtterances.compactMap(stream.boundary) { forget(boundary) }
        }
        if one.type == "start_stream", !has(one.members) {  // for the next process it is over
            one.members = ["type": .string("stop_stream"), "stream_id": .string(streamID)]
        }
        one.isKept = true
        if one.type == "cancel" {
            if let boundary = stream.boundary(one.utteranceID ?? "") { boundary.cancels.append(one) } else { remove([one]) }
        }
        tidy(one)
    }

    private func refuse(_ one: Sent) {
        remove([one])
        if let streamID = one.streamID { streams[streamID]?.refuse(one) }
        tidy(one)
    }

    /// A `start` or `unload` makes those before it needless. Returns those.
    @discardableResult
    private func removeStarts(before later: Sent) -> [Sent] {
        let earlier = sent.values.filter { $0.type == "start" && $0.isAnswered && $0.number < later.number }
        remove(earlier)
        return earlier
    }

    /// Forgets what its stream no longer needs.
    private func tidy(_ one: Sent) {
        guard let streamID = one.streamID, let stream = streams[streamID] else { return }
        remove(stream.takeIdle())
        guard stream.isOver else { return }
        remove(stream.chunks)
        streams[streamID] = nil
    }

    private func dropOldest() {
        let oldest = sent.values.filter { $0.size > 0 }.min { $0.number < $1.number }
        guard let oldest, let streamID = oldest.streamID, let stream = streams[streamID] else { return bytes = 0 }
        guard let ending = oldest.members.isBoundary ? oldest : stream.boundary(of: oldest) else {
            remove(stream.chunks)
            stream.chunks = []
            stream.names.isTooLong = true
            return
        }
        remove(ending.chunks)
        bytes -= ending.size
        (ending.chunks, ending.size, ending.isDropped) = ([], 0, true)
        if !ending.members.takesBuffer { ending.members["pcm16"] = .string("") }
    }

    private func lost(_ boundary: Sent, _ error: BridgeError) -> LostUtterance {
        LostUtterance(error: error, streamID: boundary.streamID ?? "", utteranceID: boundary.utteranceID ?? "")
    }

    /// With its utterance.
    private func forget(_ boundary: Sent) {
        remove([boundary] + boundary.chunks + boundary.cancels)
        tidy(boundary)
    }

    private func remove(_ gone: [Sent]) {
        for one in gone {
            if sent.removeValue(forKey: one.number) != nil { bytes -= one.size }
            if one.type != "audio_chunk", let streamID = one.streamID { streams[streamID]?.remove(one) }
            if let id = one.id, byID[id] === one { byID[id] = nil }
        }
    }
}
