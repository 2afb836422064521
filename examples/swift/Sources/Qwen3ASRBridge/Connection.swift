import Foundation

/// One process, and what is known of it.
struct Connection: Sendable {
    let number: Int
    let child: Child
    var life: Life
    /// By the ids of the requests.
    var pending: [Wire.ID: CheckedContinuation<Wire.Reply, any Error>] = [:]
    /// The `start_stream` of each stream since it was last begun anew, until their replies were taken.
    var starts: [String: [Wire.ID]] = [:]
    /// The next `seq` of each.
    var streams: [String: Int] = [:]
    var words = PendingWords()
    var lineCount = 0
    var fatal: Wire.Fatal?
    /// Why it was killed.
    var blamed: BridgeError?
    var isAskedToEnd = false
    var isKilledForItsPipe = false
    private var requests = 0

    init(number: Int, child: Child, life: Life) {
        self.number = number
        self.child = child
        self.life = life
    }

    /// What another process answers, instead of the one that is gone.
    mutating func takeOver(_ left: Connection) {
        (pending, starts, streams, requests) = (left.pending, left.starts, left.streams, left.requests)
    }

    /// Never used twice.
    mutating func newID() -> Wire.ID {
        requests += 1
        return .string("c\(requests)")
    }

    mutating func wait(for request: SentRequest, _ continuation: CheckedContinuation<Wire.Reply, any Error>) {
        if pending.isEmpty { life.asked(.now) }
        pending[request.id] = continuation
        guard let begun = request.begins else { return }
        starts[begun.streamID] = (begun.anew ? [] : starts[begun.streamID] ?? []) + [request.id]
    }

    /// Whether this request began a stream that none has begun anew since. That is forgotten.
    mutating func takeStart(_ id: Wire.ID) -> Bool {
        guard let streamID = starts.first(where: { $0.value.contains(id) })?.key else { return false }
        starts[streamID]?.removeAll { $0 == id }
        if starts[streamID]?.isEmpty == true { starts[streamID] = nil }
        return true
    }

    /// Why it is gone; nil where that was asked for.
    func loss(_ exit: Exit, hasHalfLine: Bool) -> BridgeError? {
        if let fatal, !isAskedToEnd { return .fatal(fatal, exit: exit) }
        if blamed != nil || isAskedToEnd { return blamed }
        if hasHalfLine, exit.code == 0 { return .garbled(line: lineCount + 1, "it ended within a line") }
        return isKilledForItsPipe ? .pipeClosed : .exited(exit)
    }
}
