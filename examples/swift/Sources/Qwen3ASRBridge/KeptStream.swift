/// What `resend` keeps of one stream.
final class KeptStream {
    var names = Names()
    /// All but the chunks, in their order.
    private(set) var messages: [Sent] = []
    /// Of the open utterance.
    var chunks: [Sent] = []
    /// A later process got it too.
    private(set) var isResent = false
    /// The error of the process that had its audio.
    private var lost: BridgeError?
    /// The last one that the process got, and that of the app.
    private var seq = -1
    private var appSeq: Int?
    /// Of refused chunks, in the open utterance behind its last chunk.
    private var gap = 0
    /// The last start or stop.
    private var turn: Sent?

    // What is sent

    /// A message with its name and number. Throws the error by which its utterance was lost; its boundary is the last to
    /// get it.
    func planned(_ members: [String: JSONValue]) throws(BridgeError) -> Sent {
        let isChunk = members.type == "audio_chunk"
        if let error = lost, isChunk || members.takesBuffer {
            if !isChunk { lost = nil }
            appSeq = nil
            throw error
        }
        if members.takesBuffer, members["samples"] != nil, members.text("rest") != "drop" {
            throw BridgeError(
                .requestFailed, "with `resend` the rest behind `samples` cannot be kept: `rest` must be `drop`")
        }
        let sent = Sent(members)
        sent.behind = names
        if let name = sent.behind.follow(members, isInUse: { boundary($0) != nil }) {
            sent.members["utterance_id"] = .string(name)
        }
        if isChunk, case .integer(let number)? = members["seq"] {
            sent.step = gap + (appSeq.map { number - $0 } ?? 1)
            sent.seq = seq + sent.step
        }
        return sent
    }

    /// Adds what was planned. Whether it is kept.
    func add(_ sent: Sent) -> Bool {
        sent.before = names
        names = sent.behind
        if sent.type == "audio_chunk" {
            if let seq = sent.seq, case .integer(let number)? = sent.members["seq"] {
                (self.seq, appSeq, gap) = (seq, number, 0)
            }
            if !names.isTooLong { chunks.append(sent) }
            return !names.isTooLong
        }
        if sent.members.takesBuffer { endUtterance(sent) }
        if sent.members.isTurn {
            (turn, lost, appSeq, gap) = (sent, nil, nil, 0)
            sent.isKept = sent.members.text("on_limit") != "split"
        }
        messages.append(sent)
        return true
    }

    /// For the next process.
    func restartNumbers() { (seq, isResent) = (-1, true) }

    func number(_ chunk: Sent) {
        seq += chunk.step
        chunk.seq = seq
    }

    // What is received

    /// Goes back to the names before it. The audio of a boundary stays in the buffer.
    func refuse(_ sent: Sent) {
        remove(sent)
        let (before, behind, now) = (sent.before, sent.behind, names)
        let count = now.count == behind.count ? before.count : now.count
        if sent.members.takesBuffer, let later = boundary(behind: sent) {
            later.chunks = sent.chunks + later.chunks
            later.isDropped = later.isDropped || sent.isDropped
            later.before.begun = before.begun
            return
        }
        if sent.members.takesBuffer {
            chunks = sent.chunks + chunks
            names.begun = before.begun
        } else if sent.members.isBoundary {
            return names.count = count
        } else if sent === turn, before != behind {
            names = before
            names.frames += now.frames
            if now.begun > 0 { names.begun = before.frames + now.begun }
        } else {
            return
        }
        names.count = count
        names.current = now.current ?? before.current
        names.isTooLong = now.isTooLong || sent.isDropped || before.isTooLong
    }

    /// Forgets a chunk, which leaves a gap in its utterance.
    func refuseChunk(_ seq: Int) -> Sent? {
        if let place = chunks.lastIndex(where: { $0.seq == seq }) {
            let chunk = Self.remove(place, from: &chunks)
            takeFrames(chunk)
            if place == chunks.count { gap += chunk.step }
            if chunks.isEmpty { names.current = nil }
            return chunk
        }
        for boundary in messages.reversed() {
            guard let place = boundary.chunks.lastIndex(where: { $0.seq == seq }) else { continue }
            let chunk = Self.remove(place, from: &boundary.chunks)
            takeFrames(chunk)
            if place == boundary.chunks.count { boundary.chunks.last?.step += chunk.step }
            return chunk
        }
        return nil
    }

    private static func remove(_ place: Int, from chunks: inout [Sent]) -> Sent {
        let chunk = chunks.remove(at: place)
        if place < chunks.count { chunks[place].step += chunk.step }
        return chunk
    }

    /// Takes away the chunks that were in the buffer when this message came.
    func takeBuffer(_ sent: Sent) -> [Sent] {
        func take(_ chunks: inout [Sent]) -> [Sent] {
            let taken = Array(chunks.prefix { $0.number < sent.number })
            chunks.removeFirst(taken.count)
            return taken
        }
        guard let later = boundary(behind: sent) else { return take(&chunks) }
        return take(&later.chunks)
    }

    /// Takes away starts of streams that were stopped or restarted and owe nothing, and their stops.
    func takeIdle() -> [Sent] {
        var idle: [Sent] = []
        var last: Sent?
        for each in messages {
            let before = last
            last = each
            guard each.members.isTurn, each.isAnswered, let before, before.type == "start_stream", before.isAnswered
            else { continue }
            idle.append(before)
            if each.type == "stop_stream" {
                idle.append(each)
                last = nil
            }
        }
        for each in idle { remove(each) }
        return idle
    }

    func remove(_ sent: Sent) { messages.removeAll { $0 === sent } }

    // What is kept

    var isOver: Bool { messages.isEmpty && !names.isOpen }

    /// Whether the next process has it, too.
    var goesOn: Bool {
        guard let turn = messages.last(where: \.members.isTurn) else { return false }
        return turn.type == "start_stream" || !turn.isAnswered
    }

    func boundary(_ name: String) -> Sent? { messages.first { $0.members.isBoundary && $0.utteranceID == name } }

    /// The boundary of the utterance of its first chunk; nil if it is open.
    func boundary(of first: Sent) -> Sent? { messages.first { $0.chunks.first === first } }

    /// The open utterance was in the process that is gone, if its audio is not kept.
    func loseOpen(_ error: BridgeError) {
        guard names.isTooLong else { return }
        (names.current, names.isTooLong, names.begun, lost) = (nil, false, names.frames, error)
    }

    /// What came behind a refused chunk begins earlier in the stream, up to its next start or stop.
    private func takeFrames(_ refused: Sent) {
        let count = refused.members.frames
        var isOpen = true  // the utterance of the chunk
        for each in messages where each.number > refused.number {
            if each.members.isTurn { return }
            guard each.members.takesBuffer else { continue }
            if !isOpen { each.before.begun -= count }
            isOpen = false
        }
        names.frames -= count
        if !isOpen { names.begun -= count }
    }

    private func endUtterance(_ boundary: Sent) {
        boundary.isDropped = boundary.before.isTooLong
        (boundary.chunks, chunks) = (chunks, [])
        guard let last = boundary.chunks.last else { return }
        last.step += gap
        gap = 0
    }

    private func boundary(behind sent: Sent) -> Sent? {
        messages.first { $0.members.takesBuffer && $0.number > sent.number }
    }
}
