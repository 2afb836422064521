import Foundation

/// One process, and what is known of it.
struct Connection: Sendable {
    let number: Int
    let child: Child
    var life: Life
    /// By the ids of the requests.
    var pending: [String: CheckedContinuation<Wire.Reply, any Error>] = [:]
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
    mutating func newID() -> String {
        requests += 1
        return "c\(requests)"
    }

    mutating func wait(for id: String, _ continuation: CheckedContinuation<Wire.Reply, any Error>) {
        if pending.isEmpty { life.asked(.now) }
        pending[id] = continuation
    }

    /// Why it is gone; nil where that was asked for.
    func loss(_ exit: Exit, hasHalfLine: Bool) -> BridgeError? {
        if let blamed { return blamed }
        if isAskedToEnd { return nil }
        if let fatal { return .fatal(fatal, exit: exit) }
        if hasHalfLine, exit.signal == nil { return .garbled(line: lineCount + 1, "it ended within a line") }
        return isKilledForItsPipe ? .pipeClosed : .exited(exit)
    }
}
