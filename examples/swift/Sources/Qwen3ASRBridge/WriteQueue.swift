import Foundation

/// What waits to be written, in its order. Tasks put it there and may wait for room; one thread takes it.
final class WriteQueue: @unchecked Sendable {  // `changed` guards all that varies
    private let changed = NSCondition()
    private let limit: Int
    private var pieces: [Data] = []
    private var unwritten = 0
    private var took = SuspendingClock.now
    private var isClosing = false
    private var isOver = false
    private var waiting: [UUID: CheckedContinuation<Void, Never>] = [:]

    init(limit: Int) { self.limit = limit }

    /// Since when nothing has been taken, though something waits; nil where nothing does.
    var stuckSince: SuspendingClock.Instant? { changed.withLock { unwritten > 0 ? took : nil } }

    /// That wait.
    var bytes: Int { changed.withLock { unwritten } }

    func put(_ line: Data) {
        changed.withLock {
            guard !isClosing, !isOver else { return }
            if unwritten == 0 { took = .now }
            pieces.append(line)
            unwritten += line.count
            changed.signal()
        }
    }

    /// No more will be put.
    func close() {
        changed.withLock {
            isClosing = true
            changed.signal()
        }
    }

    /// Returns when less than the limit waits, when nothing will be written any more, or when the task is cancelled.
    func room() async {
        let id = UUID()
        await withTaskCancellationHandler {
            await withCheckedContinuation { wait(id, $0) }
        } onCancel: {
            changed.withLock { waiting.removeValue(forKey: id) }?.resume()
        }
    }

    private func wait(_ id: UUID, _ continuation: CheckedContinuation<Void, Never>) {
        let hasRoom = changed.withLock {
            let hasRoom = unwritten < limit || isOver || Task.isCancelled
            if !hasRoom { waiting[id] = continuation }
            return hasRoom
        }
        if hasRoom { continuation.resume() }
    }

    // On the thread that writes

    /// Waits for what is to be written. nil: that was all.
    func next() -> [Data]? {
        changed.withLock {
            while pieces.isEmpty, !isClosing, !isOver { changed.wait() }
            defer { pieces = [] }
            return pieces.isEmpty || isOver ? nil : pieces
        }
    }

    func wrote(_ count: Int) {
        release {
            unwritten -= count
            took = .now
            return unwritten < limit
        }
    }

    /// Nothing can be written any more.
    func end() {
        release {
            isOver = true
            pieces = []
            unwritten = 0
            changed.signal()
            return true
        }
    }

    private func release(_ hasRoom: () -> Bool) {
        let released = changed.withLock {
            guard hasRoom() else { return [CheckedContinuation<Void, Never>]() }
            defer { waiting = [:] }
            return Array(waiting.values)
        }
        for continuation in released { continuation.resume() }
    }
}
