import Foundation
import Testing

@testable import Qwen3ASRBridge

struct LineSplitterTests {
    private func lines(_ text: String, blocks size: Int, limit: Int = 1000) -> (lines: [String], hasRest: Bool) {
        var splitter = LineSplitter(limit: limit)
        var lines: [String] = []
        let bytes = Array(text.utf8)
        for start in stride(from: 0, to: bytes.count, by: size) {
            bytes[start..<min(start + size, bytes.count)].withUnsafeBytes { block in
                splitter.feed(block) { lines.append(String(decoding: $0, as: UTF8.self)) }
            }
        }
        return (lines, splitter.hasRest)
    }

    @Test(arguments: 1...12)
    func aBlockMayEndAnywhere(size: Int) {
        let text = "one\n\né\u{2028}🙂\r\nthree\nrest"
        let (lines, hasRest) = lines(text, blocks: size)
        #expect(lines == ["one", "", "é\u{2028}🙂\r", "three"])
        #expect(hasRest)
    }

    @Test func aLineOverTheLimitIsNotKept() {
        var splitter = LineSplitter(limit: 4)
        var count = 0
        for _ in 1...3 { [UInt8](repeating: 65, count: 3).withUnsafeBytes { splitter.feed($0) { _ in count += 1 } } }
        #expect(splitter.isOverflown)
        #expect(!splitter.hasRest)
        #expect(count == 0)
    }
}

struct WireTests {
    private func reply(_ text: String) throws -> Wire.Reply {
        guard case .reply(let reply, _) = try Line.parse(Data(text.utf8)) else { throw CancellationError() }
        return reply
    }

    @Test func membersThatAreNotKnownArePassedOver() throws {
        let text = #"{"type":"pong","id":7,"uptime_s":2,"state":"dreaming","busy_ms":null,"moon":{"phase":[1]}}"#
        guard case .pong(let pong) = try reply(text) else { return miss("no pong") }
        #expect(pong.id == 7)
        #expect(pong.uptimeS == 2)
        #expect(pong.state.rawValue == "dreaming")
        #expect(pong.busyMs == nil)
        #expect(pong.lastProgressMsAgo == nil)
    }

    @Test(arguments: [#"{"type":"weather","id":"a","sun":1.5}"#, #"{"type":"pong","id":"a","uptime_s":"long"}"#])
    func aMessageThatIsNotKnownIsKept(text: String) throws {
        guard case .unknown(.object(let members)) = try reply(text) else { return miss("known") }
        #expect(members["id"] == .string("a"))
    }

    @Test func anEventIsNoReply() throws {
        let text = #"{"type":"progress","event":true,"n":3,"stage":"download","done":5,"total":null}"#
        guard case .event(.progress(let progress)) = try Line.parse(Data(text.utf8)) else { return miss("none") }
        #expect(progress.n == 3)
        #expect(progress.total == nil)
        #expect(progress.requestID == nil)
    }

    @Test func oneAndItsTextAreTwoIDs() throws {
        #expect(try JSONDecoder().decode([Wire.ID].self, from: Data(#"[1,"1"]"#.utf8)) == [1, "1"])
    }

    @Test func aRequestIsALineWithoutWhatIsNotGiven() throws {
        let line = try Wire.StartStream(streamID: "a\nb", finalPolicy: .strict, id: "c1").line()
        #expect(line.last == newline)
        #expect(line.dropLast().contains(newline) == false)
        let members = try JSONDecoder().decode([String: JSONValue].self, from: line)
        #expect(
            members == [
                "type": .string("start_stream"), "stream_id": .string("a\nb"), "final_policy": .string("strict"),
                "id": .string("c1"),
            ])
    }

    @Test func aProfileMayHoldAnother() throws {
        let inner = #"{"stage":"prepare","batch_size":1,"prepare":null}"#
        let outer = #"{"stage":"batch","batch_size":2,"prepare":\#(inner)}"#
        let profile = try JSONDecoder().decode(Wire.Profile.self, from: Data(outer.utf8))
        #expect(profile.prepare?.value.stage == "prepare")
        let again = try JSONDecoder().decode(Wire.Profile.self, from: JSONEncoder().encode(profile))
        #expect(again == profile)
    }
}

struct ExitTests {
    @Test(arguments: [(0, "done"), (4, "engine_lost"), (5, "parent_gone"), (99, "unknown")])
    func aCodeHasAName(code: Int32, name: String) {
        #expect(Exit(status: code << 8) == Exit(code: Int(code)))
        #expect(Exit(status: code << 8).name == name)
    }

    @Test func aSignalHasItsOwn() {
        #expect(Exit(status: SIGSEGV | 0x80).name == "SIGSEGV")  // with a core dump
        #expect(Exit(status: SIGTERM).isFinal == false)
        #expect(Exit(code: 143).isFinal)
    }
}

struct EventQueueTests {
    private func partial(_ text: String, _ utterance: String, _ changedFrom: Int = 0) throws -> Bridge.Event {
        let line = """
            {"type":"partial_result","event":true,"n":1,"stream_id":"s","utterance_id":"\(utterance)",\
            "text":"\(text)","changed_from":\(changedFrom),"samples_buffered":1,"chunks":1,"is_final":false}
            """
        return .partialResult(try JSONDecoder().decode(Wire.PartialResult.self, from: Data(line.utf8)))
    }

    private func texts(_ queue: EventQueue) async -> [String] {
        queue.end()
        var texts: [String] = []
        while let event = await queue.next() {
            switch event {
            case .partialResult(let partial): texts.append(partial.text)
            case .eventsLost(let count): texts.append("lost \(count)")
            default: texts.append("other")
            }
        }
        return texts
    }

    @Test func anUnreadPartialTextGivesItsPlaceToTheNext() async throws {
        let queue = EventQueue(limit: 10)
        for (text, utterance) in [("a", "1"), ("b", "2"), ("c", "1")] { queue.put(try partial(text, utterance)) }
        #expect(await texts(queue) == ["b", "c"])
    }

    @Test func aPartialThatReplacesAnUnreadOneHasChangedFromTheEarlierPlace() async throws {
        let queue = EventQueue(limit: 10)
        for (text, place) in [("one", 0), ("one two", 3), ("one tree", 5)] {
            queue.put(try partial(text, "1", place))
        }
        queue.end()
        guard case .partialResult(let partial) = await queue.next() else { throw CancellationError() }
        #expect((partial.text, partial.changedFrom) == ("one tree", 0))
    }

    @Test func progressReplacesThatOfItsRequestAndStageAlone() async throws {
        let queue = EventQueue(limit: 10)
        for (n, id, stage) in [(1, "f", "transcribe"), (2, "g", "transcribe"), (3, "f", "load"), (4, "f", "transcribe")] {
            let line = """
                {"type":"progress","event":true,"n":\(n),"request_id":"\(id)","stage":"\(stage)","done":1,"total":null}
                """
            queue.put(.progress(try JSONDecoder().decode(Wire.Progress.self, from: Data(line.utf8))))
        }
        queue.end()
        var numbers: [Int] = []
        while case .progress(let progress) = await queue.next() { numbers.append(progress.n) }
        #expect(numbers == [2, 3, 4])
    }

    @Test func whatIsNotReadInTimeIsCounted() async throws {
        let queue = EventQueue(limit: 2)
        for n in 1...5 { queue.put(try partial("\(n)", "\(n)")) }
        #expect(await texts(queue) == ["lost 3", "4", "5"])
    }

    @Test func aCancelledReaderStopsReading() async throws {
        let queue = EventQueue(limit: 2)
        let reader = Task { await queue.next() == nil }
        reader.cancel()
        #expect(await reader.value)
        queue.put(try partial("a", "1"))
        #expect(await texts(queue) == ["a"])
    }
}

struct LifeTests {
    private let start = SuspendingClock.now

    private func greeted() -> Life {
        var life = Life(BridgeConfiguration(bridge: ""), now: start)
        life.greeted(start)
        return life
    }

    private func look(_ life: inout Life, _ seconds: Double, asked: Bool = true, stuck: Double? = nil) -> Life.Verdict {
        life.look(start + .seconds(seconds), isAsked: asked, stuckSince: stuck.map { start + .seconds($0) })
    }

    @Test func whoIsSilentIsAskedAndThenHung() {
        var life = greeted()
        life.asked(start)
        #expect(look(&life, 0) == .fine(.seconds(10)))
        #expect(look(&life, 10) == .ping)
        #expect(look(&life, 10) == .fine(.seconds(10)))
        guard case .hung = look(&life, 20) else { return miss("not hung") }
    }

    @Test func whoSpeaksIsAlive() {
        var life = greeted()
        life.asked(start)
        #expect(look(&life, 10) == .ping)
        life.heard(start + .seconds(11))
        #expect(look(&life, 20) == .fine(.seconds(1)))
        #expect(look(&life, 21) == .ping)
    }

    @Test func whoIsNotAskedMayBeSilent() {
        var life = greeted()
        #expect(look(&life, 1000, asked: false) == .fine(nil))
    }

    @Test func whoTakesNothingIsHung() {
        var life = greeted()
        #expect(look(&life, 15, asked: false, stuck: 10) == .fine(.seconds(15)))
        guard case .hung = look(&life, 30, asked: false, stuck: 10) else { return miss("not hung") }
    }

    @Test func whoIsNotGreetedInTimeIsHung() {
        var life = Life(BridgeConfiguration(bridge: ""), now: start)
        #expect(look(&life, 20) == .fine(.seconds(40)))
        guard case .hung = look(&life, 60) else { return miss("not hung") }
    }
}

struct RestartRuleTests {
    @Test func onlyLossesWithinTheWindowCount() {
        var rule = RestartRule(BridgeConfiguration(bridge: ""))
        let loss = BridgeError.exited(Exit(code: 1))
        let start = ContinuousClock.now
        for second in 0..<5 { #expect(rule.judge(loss, at: start + .seconds(second)).code == .bridgeExited) }
        #expect(rule.judge(loss, at: start + .seconds(181)).code == .bridgeExited)
        #expect(rule.judge(loss, at: start + .seconds(182)).code == .bridgeExited)
        #expect(rule.judge(loss, at: start + .seconds(183)).code == .bridgeExited)
        #expect(rule.judge(loss, at: start + .seconds(183)).code == .restartLimit)
    }
}
