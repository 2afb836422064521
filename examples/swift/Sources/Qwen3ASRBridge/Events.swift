import Foundation

extension Bridge {
    /// What comes unasked, in the order in which it came.
    public enum Event: Sendable {
        case realtimeBatchFinal(Wire.RealtimeBatchFinal)
        /// The words of a final with `wordsPending`, or why there are none. Those that the bridge can no longer send have
        /// an error with the code of the loss, and an `n` of 0.
        case wordsReady(Wire.WordsReady)
        case partialResult(Wire.PartialResult)
        case streamError(Wire.StreamError)
        case progress(Wire.Progress)
        /// The engine has ended and is started again; nothing that had no outcome is lost.
        case engineRestarting(Wire.EngineRestarting)
        /// Of a type that is not known here.
        case unknown(JSONValue)
        /// The process ended without being asked, and these streams with it. `willRestart`: by the next request.
        case bridgeLost(BridgeError, streams: [String], willRestart: Bool)
        /// With `resend`: this utterance has no outcome, because its audio was more than is kept, or because a later
        /// process refused its boundary (`requestFailed`).
        case utteranceLost(BridgeError, streamID: String, utteranceID: String)
        /// So many events were dropped, since they were not read in time.
        case eventsLost(count: Int)

        init(_ event: Wire.Event) {
            switch event {
            case .realtimeBatchFinal(let batch): self = .realtimeBatchFinal(batch)
            case .wordsReady(let words): self = .wordsReady(words)
            case .partialResult(let partial): self = .partialResult(partial)
            case .streamError(let error): self = .streamError(error)
            case .progress(let progress): self = .progress(progress)
            case .engineRestarting(let restart): self = .engineRestarting(restart)
            case .unknown(let message): self = .unknown(message)
            }
        }

        /// The text of a partial that replaces an unread `older` one has changed from the earlier of the two places.
        fileprivate func withChange(of older: Event) -> Event {
            guard case .partialResult(var new) = self, case .partialResult(let old) = older,
                let changedFrom = new.changedFrom
            else { return self }
            new.changedFrom = min(changedFrom, old.changedFrom ?? 0)
            return .partialResult(new)
        }

        /// Whether an unread `older` one tells nothing any more.
        fileprivate func replaces(_ older: Event) -> Bool {
            switch (self, older) {
            case (.progress(let new), .progress(let old)): new.requestID == old.requestID && new.stage == old.stage
            case (.partialResult(let new), .partialResult(let old)):
                new.streamID == old.streamID && new.utteranceID == old.utteranceID
            default: false
            }
        }
    }
}

/// Events that the app has not read. Whoever puts one there never waits.
final class EventQueue: @unchecked Sendable {  // `lock` guards all that varies
    private let lock = NSLock()
    private let limit: Int
    private var events: [Bridge.Event] = []
    private var lost = 0
    private var hasEnded = false
    private var reader: CheckedContinuation<Bridge.Event?, Never>?

    init(limit: Int) { self.limit = limit }

    func put(_ event: Bridge.Event) {
        change {
            if let place = events.lastIndex(where: event.replaces) {
                events.append(event.withChange(of: events.remove(at: place)))
            } else {
                events.append(event)
            }
            if events.count > limit {
                events.removeFirst()
                lost += 1
            }
        }
    }

    /// What is unread can still be read, and then no more comes.
    func end() { change { hasEnded = true } }

    func begin() { change { hasEnded = false } }

    /// The oldest, when there is one. nil: no more will come, or the task was cancelled, or another began to read.
    func next() async -> Bridge.Event? {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let other = lock.withLock {
                    defer { reader = continuation }
                    return reader
                }
                other?.resume(returning: nil)
                if Task.isCancelled { stopReading() } else { change {} }
            }
        } onCancel: {
            stopReading()
        }
    }

    private func stopReading() {
        let reader = lock.withLock {
            defer { self.reader = nil }
            return self.reader
        }
        reader?.resume(returning: nil)
    }

    private func change(_ change: () -> Void) {
        lock.lock()
        change()
        guard let reader, !events.isEmpty || lost > 0 || hasEnded else { return lock.unlock() }
        self.reader = nil
        let event = take()
        lock.unlock()
        reader.resume(returning: event)
    }

    private func take() -> Bridge.Event? {
        if lost > 0 {
            defer { lost = 0 }
            return .eventsLost(count: lost)
        }
        return events.isEmpty ? nil : events.removeFirst()
    }
}
