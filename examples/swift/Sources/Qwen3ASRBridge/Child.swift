import Foundation

/// The bridge as a child process, and the four threads that wait for it: one for each pipe, one for its end. None of
/// them waits for the app, or for another.
final class Child: Sendable {
    enum Output: Sendable {
        case line(Data)
        /// A line is longer than is read.
        case overflow
        /// It reads no more, or writes no more. It may be about to end.
        case pipeClosed
        /// The last: all that it wrote was read. `hasHalfLine`: its last line did not end.
        case ended(Exit, hasHalfLine: Bool)
    }

    let pid: pid_t
    let output: AsyncStream<Output>
    let unwritten: WriteQueue
    let stderr: StderrRing
    private let group: ProcessGroup

    /// Started, or an error that says why not.
    init(_ configuration: BridgeConfiguration) throws(BridgeError) {
        let end = try EndOfProcess()
        let spawned: Spawned
        do { spawned = try Spawned(configuration) } catch {
            end.tell()
            throw error
        }
        let (output, told) = AsyncStream.makeStream(of: Output.self)
        pid = spawned.pid
        self.output = output
        unwritten = WriteQueue(limit: configuration.unwrittenBytes)
        stderr = StderrRing(limit: configuration.stderrBytes)
        group = ProcessGroup(leader: spawned.pid)
        begin(spawned, configuration, end, told)
    }

    func write(_ line: Data) { unwritten.put(line) }

    /// Behind what was written. It is how the process is asked to end.
    func closeInput() { unwritten.close() }

    /// To the process and all that it started. Nothing happens once it has been waited for.
    func signalGroup(_ signal: Int32) { group.signal(signal) }

    private func begin(
        _ spawned: Spawned, _ configuration: BridgeConfiguration, _ end: EndOfProcess,
        _ told: AsyncStream<Output>.Continuation
    ) {
        let (unwritten, stderr, group) = (unwritten, stderr, group)
        let reading = DispatchGroup()
        let half = HalfLine()
        thread("stdin") {
            Writer(descriptor: spawned.input, end: end, queue: unwritten).run()
            told.yield(.pipeClosed)
        }
        reading.enter()
        thread("stdout") {
            half.isThere = readLines(spawned.output, end, limit: configuration.lineBytes) { told.yield($0) }
            told.yield(.pipeClosed)
            reading.leave()
        }
        reading.enter()
        thread("stderr") {
            keepErrors(spawned.errors, end, stderr, configuration.onStderr)
            reading.leave()
        }
        thread("end") {
            group.waitForEnd()
            end.tell()
            unwritten.end()
            reading.wait()
            told.yield(.ended(group.reap(), hasHalfLine: half.isThere))
            told.finish()
        }
    }
}

/// Written by one thread before the other reads it: the group of `reading` is between them.
private final class HalfLine: @unchecked Sendable { var isThere = false }

private func thread(_ name: String, _ body: @escaping @Sendable () -> Void) {
    let thread = Thread(block: body)
    thread.name = "qwen3-asr-bridge \(name)"
    thread.start()
}

/// Whether the last line did not end.
private func readLines(
    _ descriptor: Int32, _ end: EndOfProcess, limit: Int, _ give: (Child.Output) -> Void
) -> Bool {
    var splitter = LineSplitter(limit: limit)
    var hasOverflown = false
    readBlocks(descriptor, end) { block in
        splitter.feed(block) { give(.line($0)) }
        if splitter.isOverflown, !hasOverflown { give(.overflow) }
        hasOverflown = splitter.isOverflown
    }
    return splitter.hasRest
}

private func keepErrors(
    _ descriptor: Int32, _ end: EndOfProcess, _ ring: StderrRing, _ listener: (@Sendable (String) -> Void)?
) {
    let limit = 1 << 20
    var splitter = LineSplitter(limit: limit)
    readBlocks(descriptor, end) { block in
        ring.add(block)
        guard let listener else { return }
        splitter.feed(block) { listener(String(decoding: $0, as: UTF8.self)) }
        if splitter.isOverflown { splitter = LineSplitter(limit: limit) }
    }
    if splitter.hasRest { listener?(String(decoding: splitter.rest, as: UTF8.self)) }
}
