import Foundation

/// One bridge: starts the process with the first request or `open`, watches it, and stops it.
///
/// Every method throws a `BridgeError`, or a `CancellationError` where its task was cancelled: the request is cancelled
/// in the process, too. A bridge that nobody holds any more is killed; call `stop` first.
public actor Bridge {
    public enum State: String, Sendable {
        case new, opening, running, stopping, stopped, lost, failed
    }

    public internal(set) var state = State.new
    /// Of the last `hello`.
    public internal(set) var capabilities: Wire.CapabilitiesReply?
    /// How the last process ended.
    public internal(set) var exit: Exit?
    public internal(set) var restarts = 0

    nonisolated let configuration: BridgeConfiguration
    nonisolated let unread: EventQueue
    var connection: Connection?
    /// Why each of the processes that are gone is gone: their streams go on saying so.
    var losses: [Int: BridgeError] = [:]
    var rule: RestartRule
    private var error: BridgeError?
    private var started = 0
    private var openers = Waiters<Wire.CapabilitiesReply>()
    private var enders: [CheckedContinuation<Void, Never>] = []
    var watch: Task<Void, Never>?
    /// What becomes of a process that does not end in time.
    var ladder: Task<Void, Never>?
    var stopped: Wire.Stopped?
    /// For the next process; nil without `resend`.
    var kept: Kept?
    /// The last process, whose requests the next one answers.
    var left: Connection?

    public init(_ configuration: BridgeConfiguration) {
        self.configuration = configuration
        unread = EventQueue(limit: configuration.unreadEvents)
        rule = RestartRule(configuration)
        kept = configuration.resend ? Kept(limit: configuration.keptBytes) : nil
    }

    public init(_ bridge: String, arguments: [String] = []) {
        self.init(BridgeConfiguration(bridge: bridge, arguments: arguments))
    }

    deinit {
        connection?.child.signalGroup(SIGKILL)
        unread.end()
    }

    /// What comes unasked, until the bridge is stopped; it goes on across a restart. One reader at a time.
    public nonisolated var events: AsyncStream<Event> {
        AsyncStream { [unread] in await unread.next() }
    }

    public var pid: Int32? { connection?.child.pid }

    /// The last lines that the process wrote there.
    public var stderr: [String] { connection?.child.stderr.lines ?? error?.stderr ?? [] }

    // Open

    /// Starts the process, and greets it. After a failure it begins the count of restarts anew.
    @discardableResult
    public func open() async throws -> Wire.CapabilitiesReply {
        if state == .failed { rule.reset() }
        if state == .stopping { throw BridgeError.closed }
        return try await opened()
    }

    /// The process that runs, which is started if need be.
    func connected() async throws -> Connection {
        switch state {
        case .stopping, .stopped: throw BridgeError.closed
        case .failed: throw error ?? .closed
        case .new, .opening, .running, .lost: repeat { _ = try await opened() } while kept != nil && state == .lost
        }
        guard let connection, state == .running else { throw error ?? .closed }
        return connection
    }

    private func opened() async throws -> Wire.CapabilitiesReply {
        if state == .running, let capabilities { return capabilities }
        if state != .opening { beginToOpen() }
        let id = UUID()
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { openers.add(id, $0) }
        } onCancel: {
            Task { await self.stopWaitingForOpen(id) }
        }
    }

    private func stopWaitingForOpen(_ id: UUID) { openers.remove(id)?.resume(throwing: CancellationError()) }

    private func beginToOpen() {
        let pause = state == .lost ? pauseBeforeRestart() : .zero
        restarts += state == .lost ? 1 : 0
        state = .opening
        unread.begin()
        Task { [weak self] in
            if pause > .zero { try? await Task.sleep(for: pause) }
            await self?.start()
        }
    }

    /// An engine that was lost is given time.
    private func pauseBeforeRestart() -> Duration {
        guard exit?.code == 4, let lost = rule.lastLoss else { return .zero }
        return configuration.enginePause - lost.duration(to: .now)
    }

    private func start() async {
        guard state == .opening, connection == nil else { return }
        let child: Child
        do { child = try Child(configuration) } catch { return fail(error) }
        started += 1
        let number = started
        connection = Connection(number: number, child: child, life: Life(configuration, now: .now))
        if let left { connection?.takeOver(left) }
        left = nil
        listen(to: child, number: number)
        do {
            greeted(try await ask(number, hello), by: number)
        } catch let error as BridgeError where error.code == .requestFailed {
            blame(.garbled(line: 1, "a greeting was expected"), number)
        } catch {}  // it is gone: its end tells everybody who waits
    }

    private var hello: Wire.Hello {
        let client = configuration.client ?? Wire.Client(name: "Qwen3ASRBridge", version: nil)
        let parent = Int(ProcessInfo.processInfo.processIdentifier)
        return Wire.Hello(want: configuration.want, client: client, parentPID: parent, protocols: [protocolName])
    }

    private func greeted(_ reply: Wire.CapabilitiesReply, by number: Int) {
        guard state == .opening, connection?.number == number else { return }
        guard reply.protocols.contains(protocolName) else { return blame(.unsupported, number) }
        connection?.life.greeted(.now)
        capabilities = reply
        for line in kept?.lines(newID: newID) ?? [] { connection?.child.write(line) }
        state = .running
        openers.resume(.success(reply))
        watchAnew()
    }

    /// For an answered message that is sent again.
    private func newID() -> Wire.ID {
        while let id = connection?.newID() {
            if connection?.pending[id] == nil { return id }
        }
        return ""
    }

    /// It could not be started at all.
    private func fail(_ error: BridgeError) {
        guard state == .opening else { return }
        state = .failed
        self.error = error
        if let kept, kept.isNeeded {  // perhaps nobody waits for a reply
            unread.put(.bridgeLost(error, streams: kept.streamIDs.sorted(), willRestart: false))
        }
        giveUp(error)
        openers.resume(.failure(error))
    }

    // The end

    private func listen(to child: Child, number: Int) {
        let output = child.output
        Task { [weak self] in
            for await each in output { await self?.hear(each, from: number) }
        }
    }

    /// The process is gone, and what it said was heard.
    func end(_ exit: Exit, hasHalfLine: Bool) {
        guard var ended = connection else { return }
        connection = nil
        watch?.cancel()
        watch = nil
        ladder?.cancel()
        self.exit = exit
        var loss = ended.loss(exit, hasHalfLine: hasHalfLine) ?? .closed
        loss.exit = exit
        loss.stderr = ended.child.stderr.lines.suffix(20)
        losses[ended.number] = loss
        if ended.isAskedToEnd {
            state = .stopped
            for words in ended.words.lost(loss) { unread.put(.wordsReady(words)) }
            unread.end()
        } else {
            lose(loss, &ended)
        }
        let resent = state == .lost ? kept?.ids ?? [] : []
        for (id, pending) in ended.pending where !resent.contains(id) { pending.resume(throwing: loss) }
        ended.pending = ended.pending.filter { resent.contains($0.key) }
        if state == .lost, kept != nil { left = ended } else { kept?.clear(loss) }
        if state == .lost, let kept, kept.isNeeded || !kept.isEmpty && !openers.isEmpty {
            beginToOpen()
        } else {
            openers.resume(.failure(loss))
        }
        for ender in enders { ender.resume() }
        enders = []
    }

    private func lose(_ loss: BridgeError, _ ended: inout Connection) {
        let judged = rule.judge(loss, at: .now)
        error = judged
        state = judged.retryable ? .lost : .failed
        let utterances = state == .lost ? kept?.lost(judged) ?? [] : []
        let again = state == .lost ? kept?.streamIDs ?? [] : []
        let gone = ended.streams.keys.filter { !again.contains($0) }.sorted()
        for name in gone { ended.streams[name] = nil }
        unread.put(.bridgeLost(judged, streams: gone, willRestart: state == .lost))
        for words in ended.words.lost(loss) { unread.put(.wordsReady(words)) }
        for each in utterances {
            unread.put(.utteranceLost(each.error, streamID: each.streamID, utteranceID: each.utteranceID))
        }
    }

    /// No process will answer what is kept.
    private func giveUp(_ error: BridgeError) {
        kept?.clear(error)
        for pending in left.map(\.pending.values) ?? [:].values { pending.resume(throwing: error) }
        left = nil
    }

    /// Returns when the process has ended. It is not cancelled.
    func ended() async {
        guard connection != nil else { return }
        await withCheckedContinuation { enders.append($0) }
    }

    func stopAtOnce() {
        state = .stopped
        giveUp(.closed)
        refuseOpeners()
        unread.end()
    }

    func refuseOpeners() { openers.resume(.failure(BridgeError.closed)) }
}

let protocolName = "qwen3-asr-mlx-jsonl-v1"

/// Tasks that wait for the same.
struct Waiters<Value: Sendable>: Sendable {
    private var waiting: [UUID: CheckedContinuation<Value, any Error>] = [:]

    mutating func add(_ id: UUID, _ continuation: CheckedContinuation<Value, any Error>) {
        if Task.isCancelled {
            continuation.resume(throwing: CancellationError())
        } else {
            waiting[id] = continuation
        }
    }

    var isEmpty: Bool { waiting.isEmpty }

    mutating func remove(_ id: UUID) -> CheckedContinuation<Value, any Error>? { waiting.removeValue(forKey: id) }

    mutating func resume(_ result: Result<Value, any Error>) {
        for continuation in waiting.values { continuation.resume(with: result) }
        waiting = [:]
    }
}
