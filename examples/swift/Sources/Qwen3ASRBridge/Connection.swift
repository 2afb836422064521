import Foundation

/// One process, and what is known of it.
struct Connection: Sendable {
    let number: Int
    let child: Child
    var life: Life
    /// By the ids of the requests.
    var pending: [Wire.ID: CheckedContinuation<Wire.Reply, any Error>] = [:]
    /// The last `start_stream` of each stream, until its reply was taken.
    var starts: [String: Wire.ID] = [:]
    /// The next `seq` of each.
    var streams: [String: Int] = [:]
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

    /// Never used twice.
    mutating func newID() -> Wire.ID {
        requests += 1
        return .string("c\(requests)")
    }

    mutating func wait(for request: SentRequest, _ continuation: CheckedContinuation<Wire.Reply, any Error>) {
        if pending.isEmpty { life.asked(.now) }
        pending[request.id] = continuation
        if let streamID = request.begins { starts[streamID] = request.id }
    }

    /// Whether this request was the last to begin a stream. That is forgotten.
    mutating func takeStart(_ id: Wire.ID) -> Bool {
        guard let place = starts.firstIndex(where: { $0.value == id }) else { return false }
        starts.remove(at: place)
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
