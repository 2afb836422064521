import Foundation

extension Bridge {
    /// Any message, and its reply. `timeout` is that of this call; `timeoutMs` of a message is the bridge's own.
    public func request<Message: BridgeRequest>(
        _ message: Message, timeout: Duration? = nil
    ) async throws -> Message.Reply {
        try await ask(connected().number, message, timeout: timeout)
    }

    /// A message that has no type here.
    public func request(_ message: [String: JSONValue], timeout: Duration? = nil) async throws -> Wire.Reply {
        try await request(UntypedRequest(members: message), timeout: timeout)
    }

    public func capabilities(timeout: Duration? = nil) async throws -> Wire.CapabilitiesReply {
        try await request(Wire.Capabilities(), timeout: timeout)
    }

    /// Loads the model. `keepAliveSeconds`: how long it stays loaded while idle, -1 for ever, nil as before. `words`: then
    /// what finds the times of words, too.
    @discardableResult
    public func start(
        keepAliveSeconds: Double? = nil, words: Bool? = nil, timeout: Duration? = nil
    ) async throws -> Wire.Ready {
        try await request(Wire.Start(keepAliveSeconds: keepAliveSeconds, words: words), timeout: timeout)
    }

    /// Frees the memory of the model.
    @discardableResult
    public func unload(_ message: Wire.Unload = Wire.Unload(), timeout: Duration? = nil) async throws -> Wire.Unloaded {
        try await request(message, timeout: timeout)
    }

    /// `audio`: the path of a file. `request(Wire.Transcribe(…))` has more to say.
    public func transcribe(
        _ audio: String, language: String? = nil, context: String? = nil, timeout: Duration? = nil
    ) async throws -> Wire.TranscriptReply {
        try await request(Wire.Transcribe(audio: audio, language: language, context: context), timeout: timeout)
    }

    /// Items that failed hold their error.
    public func batchTranscribe(
        _ audio: [String], language: String? = nil, context: String? = nil, timeout: Duration? = nil
    ) async throws -> Wire.BatchTranscript {
        let message = Wire.BatchTranscribe(audio: audio, language: language, context: context)
        return try await request(message, timeout: timeout)
    }

    /// When each word of a known text is said in the file at `audio`.
    public func align(
        _ audio: String, text: String, language: String, timeout: Duration? = nil
    ) async throws -> Wire.Aligned {
        try await request(Wire.Align(audio: audio, text: text, language: language), timeout: timeout)
    }

    public func startStream(
        _ message: Wire.StartStream = Wire.StartStream(), timeout: Duration? = nil
    ) async throws -> Stream {
        let number = try await connected().number
        let era = message.onLimit == .split ? nil : kept?.endings.count
        let ready = try await ask(number, message, timeout: timeout)
        if era != nil || connection?.number == number { connection?.streams[ready.streamID] = 0 }
        return Stream(ready: ready, bridge: self, number: number, era: era)
    }

    public func flush(_ message: Wire.Flush = Wire.Flush(), timeout: Duration? = nil) async throws
        -> Wire.RealtimeBatchFinal
    {
        try await request(message, timeout: timeout)
    }

    public func cancel(_ target: Wire.ID, timeout: Duration? = nil) async throws -> Wire.CancelResult {
        try await request(Wire.Cancel(target: target), timeout: timeout)
    }

    public func cancelUtterance(
        _ streamID: String, _ utteranceID: String, timeout: Duration? = nil
    ) async throws -> Wire.CancelResult {
        try await request(Wire.Cancel(streamID: streamID, utteranceID: utteranceID), timeout: timeout)
    }

    public func ping(timeout: Duration? = nil) async throws -> Wire.Pong {
        try await request(Wire.Ping(), timeout: timeout)
    }

    public func status(timeout: Duration? = nil) async throws -> Wire.StatusReply {
        try await request(Wire.Status(), timeout: timeout)
    }

    // One request of one process

    /// To the process of a stream.
    func ask<Message: BridgeRequest>(
        _ stream: Stream, _ message: Message, timeout: Duration? = nil
    ) async throws -> Message.Reply {
        try await ask(process(of: stream), message, timeout: timeout)
    }

    func process(of stream: Stream) async throws -> Int {
        guard let era = stream.era else { return stream.number }
        if let kept, era < kept.endings.count { throw kept.endings[era] }
        return try await connected().number
    }

    /// Keeps a line that is sent now, with `resend`. Throws the error by which its utterance was lost.
    func keep(_ line: Data) throws(BridgeError) -> Data { try kept?.add(line) ?? line }

    /// `number`: of the process that it must be, and no later one. With `resend` a later one may answer.
    func ask<Message: BridgeRequest>(
        _ number: Int, _ message: Message, timeout: Duration? = nil
    ) async throws -> Message.Reply {
        try Task.checkCancellation()
        try check(number)
        var message = message
        guard let id = message.id ?? connection?.newID() else { throw BridgeError.closed }
        guard connection?.pending[id] == nil else { throw BridgeError.duplicateID }
        message.id = id
        let request = SentRequest(id: id, line: try line(of: message), begins: begunStream(message))
        let reply = try await reply(to: request, number, timeout)
        let number = kept == nil ? number : connection?.number ?? number
        try take(reply, to: id, number)
        switch reply {
        case .error(let error): throw BridgeError.failed(error)
        case let reply:
            if let typed = Message.reply(from: reply) { return typed }
            let error = BridgeError.garbled(line: connection?.lineCount ?? 0, "a reply is not what was asked for")
            blame(error, number)
            throw error
        }
    }

    /// Refuses what the process could not answer by its id.
    func line(of message: some Encodable) throws(BridgeError) -> Data {
        guard let line = try? message.line() else { throw .notJSON }
        if let limit = capabilities?.limits.maxLineBytes, line.count > limit + 1 { throw .lineTooLong(limit) }
        return line
    }

    /// Throws why that process can be asked nothing any more.
    func check(_ number: Int) throws {
        guard connection?.number == number, state == .running || state == .opening else {
            throw losses[number] ?? .closed
        }
    }

    private func reply(to request: SentRequest, _ number: Int, _ timeout: Duration?) async throws -> Wire.Reply {
        let id = request.id
        let timer = timeout.map { timeout in
            Task { [weak self] in
                try await Task.sleep(for: timeout)
                await self?.abandon(id, number, BridgeError.timedOut)
            }
        }
        defer { timer?.cancel() }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { send(request, $0) }
        } onCancel: {
            Task { await self.abandon(id, number, CancellationError()) }
        }
    }

    private func send(_ request: SentRequest, _ continuation: CheckedContinuation<Wire.Reply, any Error>) {
        // If the task is cancelled later, `abandon` finds the continuation.
        guard !Task.isCancelled else { return continuation.resume(throwing: CancellationError()) }
        guard let child = connection?.child else { return continuation.resume(throwing: BridgeError.closed) }
        let line: Data
        do { line = try keep(request.line) } catch { return continuation.resume(throwing: error) }
        connection?.wait(for: request, continuation)
        child.write(line)
        keepWatch()
    }

    /// Nobody waits any more: the process is told, and what it still answers is discarded.
    private func abandon(_ id: Wire.ID, _ number: Int, _ error: any Error) {
        guard kept != nil || connection?.number == number else { return }
        let waiting = connection?.pending.removeValue(forKey: id) ?? left?.pending.removeValue(forKey: id)
        guard let waiting else { return }
        kept?.abandon(id)
        waiting.resume(throwing: error)
        if state == .running || kept == nil { tell(Wire.Cancel(target: id)) }
    }

    /// Nobody has the stream that it tells of, which is stopped, unless the app has begun it anew.
    func discard(_ reply: Wire.Reply, to id: Wire.ID) {
        guard connection?.takeStart(id) == true, case .streamReady(let ready) = reply else { return }
        tell(Wire.StopStream(streamID: ready.streamID, mode: .discard))
    }

    /// Throws where the task was cancelled when the stream was ready already.
    private func take(_ reply: Wire.Reply, to id: Wire.ID, _ number: Int) throws {
        guard connection?.number == number else { return }
        if Task.isCancelled, case .streamReady = reply {
            discard(reply, to: id)
            throw CancellationError()
        }
        _ = connection?.takeStart(id)
    }
}

/// As it goes out.
struct SentRequest {
    let id: Wire.ID
    let line: Data
    let begins: BegunStream?
}

struct BegunStream {
    let streamID: String
    let anew: Bool

    init(_ streamID: String?, restart: Bool?) {
        self.streamID = streamID ?? "default"
        anew = restart == true
    }
}

private func begunStream(_ message: some BridgeRequest) -> BegunStream? {
    switch message {
    case let start as Wire.StartStream: BegunStream(start.streamID, restart: start.restart)
    case let untyped as UntypedRequest: untyped.begunStream
    default: nil
    }
}

/// Whatever its `type` is.
private struct UntypedRequest: BridgeRequest {
    var members: [String: JSONValue]
    var id: Wire.ID?

    init(members: [String: JSONValue]) {
        self.members = members
        if case .string(let id) = members["id"] { self.id = .string(id) }
        if case .integer(let id) = members["id"] { self.id = .integer(id) }
    }

    static func reply(from reply: Wire.Reply) -> Wire.Reply? { reply }

    var begunStream: BegunStream? {
        guard members["type"] == .string("start_stream") else { return nil }
        var name: String?
        if case .string(let streamID) = members["stream_id"] { name = streamID }
        return BegunStream(name, restart: members["restart"] == .bool(true))
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Name.self)
        for (name, value) in members where name != "id" { try container.encode(value, forKey: Name(stringValue: name)) }
        try container.encodeIfPresent(id, forKey: Name(stringValue: "id"))
    }

    private struct Name: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }
}
