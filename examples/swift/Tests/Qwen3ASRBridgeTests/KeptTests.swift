import Foundation
import Testing

@testable import Qwen3ASRBridge

/// What `resend` keeps, and when it forgets it; no process is needed.
struct KeptTests {
    @Test func aPauseIsNotSentAgainAndNoBoundaryThatKeepsARestIsSent() throws {
        let talk = Talk()
        try talk.stream()
        try talk.chunk(0)
        _ = try talk.send("pause")
        #expect(throws: BridgeError.self) { _ = try talk.send("end_utterance", ["samples": 1]) }
        _ = try talk.send("end_utterance", ["samples": 1, "rest": "drop"])
        #expect(try talk.types == ["start_stream", "audio_chunk", "end_utterance"])
    }

    @Test func theAudioOfAnUtteranceIsForgottenWithItsOutcome() throws {
        let talk = Talk()
        try talk.stream()
        for seq in 0..<2000 { try talk.chunk(seq) }
        try talk.reply(talk.send("end_utterance"), queued)
        try talk.chunk(2000)
        #expect(try talk.outcome("mic-1") == false)
        #expect(try talk.types == ["start_stream", "audio_chunk"])
        try talk.nextProcess()
        _ = try talk.send("end_utterance")
        #expect(try talk.outcome("mic-2") == true)
        #expect(try talk.types == ["start_stream"])
    }

    @Test func wordsThatALostBridgeOwesHaveItsError() throws {
        var pending = PendingWords()
        for job in 1...3 { pending.take(try final("mic-\(job)", job: job, wordsPending: job < 3)) }
        let ready = #"{"type":"words_ready","event":true,"n":2,"job":1,"stream_id":"mic","utterance_id":"mic-1","#
        pending.take(try event(ready + #""words":[],"warnings":[]}"#))
        let lost = pending.lost(.hung("It hung."))
        #expect(lost.map(\.utteranceID) == ["mic-2"])
        #expect(lost.map(\.job) == [2])
        #expect(lost.map(\.n) == [0])
        #expect(lost.map(\.error?.code.rawValue) == ["bridge_hung"])
        #expect(lost.map(\.error?.message) == ["It hung."])
    }

    @Test func aStartThatIsKeptHasTheWordsOfThoseBeforeIt() throws {
        let talk = Talk()
        try talk.reply(talk.send("start", ["words": true]), loaded)
        try talk.reply(talk.send("start", ["keep_alive_seconds": 7]), loaded)
        #expect(try talk.lines.map { $0["words"] } == [true])
        #expect(try talk.lines.map { $0["keep_alive_seconds"] } == [7])
        try talk.reply(talk.send("unload"), unloaded)
        try talk.reply(talk.send("start"), loaded)
        #expect(try talk.lines.map { $0["words"] } == [nil])
    }

    // A later process counts `stream_start` from the first sample that it gets; the app, from the first that it appended.

    @Test func theTimeInAStreamIsThatOfTheProcessUntilOneIsLostAndThenGoesOn() throws {
        let talk = Talk()
        try talk.stream(["sample_rate": 8000])
        try talk.say(2)
        try talk.say(3)
        try talk.say(1, ends: false)
        #expect(try talk.streamStart("mic-1", 0.125) == 0.125)
        try talk.nextProcess()
        #expect(try talk.streamStart("mic-2") == 1)
        try talk.say(1)
        #expect(try talk.streamStart("mic-3", 1.5) == 2.5)
        _ = try talk.send("end_utterance", ["pcm16": .string(half), "utterance_id": "inline"])
        #expect(try talk.streamStart("inline", nil) == nil)
    }

    @Test func audioThatWasRefusedOrCancelledIsCountedAsTheBridgeCountsIt() throws {
        let talk = Talk()
        try talk.stream(["sample_rate": 8000, "partials": true])
        try talk.say(4)
        try talk.say(2)
        try talk.say(2, ends: false)
        try talk.refuseChunk(1)
        try talk.reply(talk.send("cancel", ["utterance_id": "mic-3"]), cancelled)
        try talk.say(1)
        try talk.refuseChunk(8)
        try talk.say(1)
        try talk.nextProcess()
        #expect(try ["mic-1", "mic-2", "mic-4", "mic-5"].map { try talk.streamStart($0) } == [0, 1.5, 3.5, 3.5])
    }

    @Test func aRefusedBoundaryLeavesItsBeginToTheNext() throws {
        let talk = Talk()
        try talk.stream(["sample_rate": 8000])
        try talk.say(2)
        try talk.say(2, ends: false)
        let refused = try talk.send("end_utterance")
        try talk.say(2, ends: false)
        _ = try talk.send("end_utterance", ["utterance_id": "own"])
        try talk.reply(refused, refusal)
        try talk.say(2, ends: false)
        try talk.reply(talk.send("end_utterance"), refusal)
        try talk.say(2)
        try talk.nextProcess()
        #expect(try ["mic-1", "own", "mic-3"].map { try talk.streamStart($0) } == [0, 1, 3])
    }

    @Test func aRestartCountsAnewUnlessItIsRefused() throws {
        let talk = Talk()
        try talk.stream(["sample_rate": 8000])
        try talk.say(2)
        try talk.say(1, ends: false)
        let refused = try talk.send("start_stream", ["restart": true, "sample_rate": 1])
        try talk.say(1, ends: false)
        try talk.reply(refused, refusal)
        try talk.say(1)
        try talk.say(1)
        try talk.nextProcess()
        #expect(try ["mic-1", "mic-2", "mic-3"].map { try talk.streamStart($0) } == [0, 1, 2.5])
        try talk.stream(["restart": true])
        try talk.say(2)
        try talk.say(2)
        #expect(try ["mic-4", "mic-5"].map { try talk.streamStart($0) } == [0, 0.5])
    }

    @Test func anUtteranceBehindOneWhoseAudioWasNotKeptBeginsBehindThat() throws {
        let talk = Talk(limit: 25_000)
        try talk.stream(["sample_rate": 8000])
        try talk.say(4, ends: false)
        _ = talk.kept.lost(.closed)
        #expect(throws: BridgeError.self) { try talk.send("end_utterance") }
        #expect(try talk.types == ["start_stream"])
        try talk.say(1)
        #expect(try talk.streamStart("mic-1") == 2)
    }

    @Test func anIDThatIsUsedAgainBelongsToTheLaterRequest() throws {
        let talk = Talk()
        try talk.reply(talk.send("start_stream", ["id": "x"]), ready)
        try talk.reply(talk.send("end_utterance", ["id": "x", "pcm16": "AAAA"]), queued)
        _ = try talk.send("status", ["id": "x"])
        let lines = try talk.nextProcess()
        #expect(lines.map(\.id) == ["c1", "c2", "x"])
        #expect(try talk.reply(lines[1], refusal) == "mic-1")
        #expect(talk.kept.ids == ["x"])
    }

    @Test func aChunkOfAnEarlierStreamOfTheNameStays() throws {
        let talk = Talk()
        try talk.stream()
        for seq in 0..<3 { try talk.chunk(seq) }
        try talk.reply(talk.send("end_utterance"), queued)
        try talk.reply(talk.send("stop_stream"), stopped)
        try talk.stream()
        try talk.chunk(0)
        try talk.refuseChunk(talk.chunk(1))
        let chunk = "audio_chunk"
        let first = ["start_stream", chunk, chunk, chunk, "end_utterance", "stop_stream"]
        #expect(try talk.types == first + ["start_stream", chunk])
    }

    @Test func theLastStartThatWasAnsweredIsKeptWithTheLastKeepAlive() throws {
        let talk = Talk()
        try talk.reply(talk.send("start", ["keep_alive_seconds": 7]), loaded)
        try talk.reply(talk.send("start"), loaded)
        try talk.reply(talk.send("start", ["keep_alive_seconds": -5]), refusal)
        #expect(try talk.lines.map { $0["keep_alive_seconds"] } == [7])
        try talk.stream()
        try talk.reply(talk.send("unload"), unloaded)
        #expect(try talk.types == ["start_stream"])
        #expect(try talk.send("start")["keep_alive_seconds"] == 7)
    }

    @Test func theNameOfARefusedBoundaryIsNotThatOfTheOpenUtterance() throws {
        let talk = Talk()
        try talk.stream()
        try talk.reply(talk.send("end_utterance", ["utterance_id": "x"]), refusal)
        try talk.reply(talk.send("end_utterance"), refusal)
        try talk.chunk(0)
        #expect(try talk.send("end_utterance").text("utterance_id") == "mic-1")
        try talk.chunk(1, ["utterance_id": "y"])
        try talk.reply(talk.send("end_utterance", ["utterance_id": "x"]), refusal)
        #expect(try talk.send("end_utterance").text("utterance_id") == "y")
    }

    @Test func numbersBeginAnewAndGoOnWithoutFalseGaps() throws {
        let talk = Talk()
        try talk.stream(["partials": true])
        for seq in 0..<2 { try talk.chunk(seq) }
        _ = try talk.send("end_utterance")
        try talk.chunk(2)
        try talk.reply(talk.send("cancel", ["utterance_id": "mic-2"]), cancelled)
        try talk.nextProcess()
        #expect(try talk.seqs == [0, 1])
        #expect(try talk.chunk(3) == 2)
        _ = try talk.outcome("mic-1")
        #expect(try talk.seqs == [0])
        #expect(try talk.chunk(4) == 1)
    }

    @Test(arguments: [(0, [1, 2, 3]), (1, [0, 2, 3]), (2, [0, 2, 3])])
    func aRefusedChunkStaysAGap(refused: Int, seqs: [Int]) throws {
        let talk = Talk()
        try talk.stream()
        for seq in 0..<3 { try talk.chunk(seq) }
        try talk.refuseChunk(refused)
        _ = try talk.send("end_utterance")
        try talk.chunk(3)
        try talk.nextProcess()
        #expect(try talk.seqs == seqs)
    }

    @Test func aRestartThatSplitsEndsTheKeeping() throws {
        let talk = Talk()
        try talk.stream()
        try talk.chunk(0)
        try talk.reply(talk.send("end_utterance"), queued)
        try talk.chunk(1)
        try talk.reply(talk.send("start_stream", ["restart": true, "on_limit": "split"]), ready)
        try talk.chunk(0)
        #expect(try talk.types == ["start_stream", "audio_chunk", "end_utterance", "stop_stream"])
        #expect(talk.kept.streamIDs == [])
        _ = try talk.outcome("mic-1")
        #expect(talk.kept.isEmpty)
    }

    @Test func aRefusedRestartChangesNothing() throws {
        let talk = Talk()
        try talk.stream(["partials": true])
        try talk.chunk(0)
        try talk.reply(talk.send("start_stream", ["restart": true]), refusal)
        try talk.chunk(1)
        #expect(try talk.send("end_utterance").text("utterance_id") == "mic-1")
        #expect(try talk.types == ["start_stream", "audio_chunk", "audio_chunk", "end_utterance"])
    }

    @Test func theLimitEndsItsWorkWhereARestartHasNoReply() throws {
        let talk = Talk(limit: 400)
        let audio: [String: JSONValue] = ["pcm16": .string(String(repeating: "A", count: 200))]
        try talk.stream()
        try talk.chunk(0, audio)
        _ = try talk.send("start_stream", ["restart": true])
        try talk.chunk(0)
        _ = try talk.send("end_utterance")
        for seq in 1...3 { try talk.chunk(seq, audio) }
        #expect(try !talk.types.contains("audio_chunk"))
    }
}

/// What a client sends and receives.
private final class Talk {
    let kept: Kept
    private var count = 0
    private var ids = 0
    private var seq = -1

    init(limit: Int = 1 << 20) { kept = Kept(limit: limit) }

    func send(_ type: String, _ members: [String: JSONValue] = [:]) throws -> [String: JSONValue] {
        count += 1
        var message: [String: JSONValue] = ["type": .string(type)]
        if !["start", "unload", "status"].contains(type) { message["stream_id"] = "mic" }
        if type != "audio_chunk" { message["id"] = .integer(count) }
        return try parse(kept.add(message.merging(members) { $1 }.line()))
    }

    func stream(_ members: [String: JSONValue] = [:]) throws { try reply(send("start_stream", members), ready) }

    /// Its number.
    @discardableResult
    func chunk(_ seq: Int, _ members: [String: JSONValue] = [:]) throws -> Int {
        let chunk: [String: JSONValue] = ["seq": .integer(seq), "pcm16": "AAAA"]
        let sent = try send("audio_chunk", chunk.merging(members) { $1 })
        return sent.seq ?? -1
    }

    /// The utterance that is lost.
    @discardableResult
    func reply(_ request: [String: JSONValue], _ reply: String) throws -> String? {
        guard case .reply(let reply, _) = try Line.parse(Data(reply.utf8)) else { return nil }
        if case .unknown = reply { Issue.record("not a reply") }
        return kept.received(reply, request.id).1?.utteranceID
    }

    func refuseChunk(_ seq: Int) throws {
        let event = """
            {"type":"stream_error","event":true,"n":1,"stream_id":"mic","seq":\(seq),"dropped_samples":2,\
            "code":"limit_exceeded","message":"no","retryable":true,"data":{}}
            """
        guard case .event(let event) = try Line.parse(Data(event.utf8)) else { return miss("no event") }
        _ = kept.received(event)
    }

    /// Whether it was sent again.
    func outcome(_ name: String) throws -> Bool? { try take(final(name))?.replayed }

    /// So much audio at 8 kHz, and its boundary.
    func say(_ halfSeconds: Int, ends: Bool = true) throws {
        for _ in 0..<halfSeconds {
            seq += 1
            try chunk(seq, ["pcm16": .string(half)])
        }
        if ends { try reply(send("end_utterance"), queued) }
    }

    /// What the app gets where the process says `ofProcess`, or nothing.
    func streamStart(_ name: String, _ ofProcess: Double? = 0) throws -> Double? {
        try take(final(name, streamStart: ofProcess))?.streamStart
    }

    private func take(_ event: Wire.Event) throws -> Wire.FinalResult? {
        guard case .realtimeBatchFinal(let batch) = kept.received(event) else { return nil }
        return batch.items.first
    }

    @discardableResult
    func nextProcess() throws -> [[String: JSONValue]] {
        #expect(kept.lost(.closed).isEmpty)
        return try lines
    }

    /// What the next process would get.
    var lines: [[String: JSONValue]] {
        get throws {
            let lines = kept.lines {
                ids += 1
                return .string("c\(ids)")
            }
            return try lines.map(parse)
        }
    }

    var types: [String] { get throws { try lines.map(\.type) } }
    var seqs: [Int] { get throws { try lines.compactMap(\.seq) } }

    private func parse(_ line: Data) throws -> [String: JSONValue] {
        try JSONDecoder().decode([String: JSONValue].self, from: line)
    }
}

/// Half a second at 8 kHz.
private let half = Data(count: 8000).base64EncodedString()

private func event(_ line: String) throws -> Wire.Event {
    guard case .event(let event) = try Line.parse(Data(line.utf8)) else { throw CancellationError() }
    if case .unknown = event { Issue.record("not known") }
    return event
}

private func final(
    _ name: String, job: Int = 1, wordsPending: Bool = false, streamStart: Double? = nil
) throws -> Wire.Event {
    let words = wordsPending ? #""words":null,"words_pending":true,"# : ""
    let start = streamStart.map { #""stream_start":\#($0),"# } ?? ""
    return try event(
        """
        {"type":"realtime_batch_final","event":true,"n":1,"reason":"flush","count":1,"failed":0,"items":[{\
        "type":"final_result",\(words)\(start)"job":\(job),"stream_id":"mic","utterance_id":"\(name)",\
        "source":"buffer","samples":1,"queue_seconds":0.1,"audio_gap":false,"warnings":[]}],"load_seconds":0,\
        "use_cache":true,"decoder_mode":"sequential","redecoded":0,"asr_backend":"mlx",\
        "vad_backend":"external-boundary","profile":{"stage":"batch","batch_size":1}}
        """)
}

extension [String: JSONValue] {
    fileprivate var seq: Int? {
        if case .integer(let seq)? = self["seq"] { seq } else { nil }
    }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral {
    public init(stringLiteral value: String) { self = .string(value) }
    public init(integerLiteral value: Int) { self = .integer(value) }
    public init(booleanLiteral value: Bool) { self = .bool(value) }
}

private let ready = #"""
    {"type":"stream_ready","protocol":"p","stream_id":"mic","sample_rate":16000,"batch_size":4,\#
    "max_batch_delay_ms":120,"auto_flush":false,"decoder_mode":"sequential","on_limit":"refuse","dropped_samples":0,\#
    "asr_backend":"mlx","vad_backend":"external-boundary","note":""}
    """#
private let queued = #"""
    {"type":"utterance_queued","stream_id":"mic","utterance_id":"mic-1","samples":1,"queued":1,"batch_size":4}
    """#
private let stopped = #"""
    {"type":"stream_stopped","stream_id":"mic","dropped_samples":0,"queued":1,"cancelled_utterances":[]}
    """#
private let cancelled = #"{"type":"cancel_result","state":"cancelled","dropped_samples":1}"#
private let refusal = #"{"type":"error","code":"limit_exceeded","message":"no","retryable":true,"data":{}}"#
private let loaded = #"""
    {"type":"ready","runtime":"r","protocol":"p","model":"demo","model_dir":"","use_cache":true,"load_seconds":0,\#
    "load_profile":{},"load":"none"}
    """#
private let unloaded = #"{"type":"unloaded","freed_bytes":1}"#
