import Foundation
import Testing

@testable import Qwen3ASRBridge

extension WithChildren {
    /// `resend`: a bridge with the demonstration checkpoint is killed, and no utterance is lost.
    struct ResendTests {
        private func withBridge(
            keptBytes: Int = 64 << 20, _ body: (Bridge, inout AsyncStream<Bridge.Event>.Iterator) async throws -> Void
        ) async throws {
            var configuration = demo()
            configuration.resend = true
            configuration.keptBytes = keptBytes
            let bridge = Bridge(configuration)
            var events = bridge.events.makeAsyncIterator()
            do { try await body(bridge, &events) } catch {
                await bridge.kill()
                throw error
            }
            await bridge.stop()
            #expect(await bridge.exit?.name == "done")
            while let event = await events.next() {
                if case .realtimeBatchFinal = event { miss("an outcome came twice") }
            }
        }

        @Test func anUtteranceGoesOnInTheNextProcess() async throws {
            try await withBridge { bridge, events in
                let stream = try await bridge.startStream(
                    Wire.StartStream(streamID: "mic", batchSize: 1, autoFlush: true, partials: true))
                try await stream.append(pcm("sample"))
                _ = try await stream.endUtterance()
                #expect(await finals(&events, 1) == [Outcome("mic-1", recordingText)])
                let audio = try pcm("english-ten")
                try await stream.append(Data(audio.prefix(96_000)))
                try await signal(bridge, SIGKILL)
                try await stream.append(Data(audio.dropFirst(96_000)))
                guard case .queued(let queued) = try await stream.endUtterance() else { return miss("not queued") }
                #expect(queued.utteranceID == "mic-2")
                #expect(queued.samples == audio.count / 2)
                #expect(await finals(&events, 1) == [Outcome("mic-2", ten, replayed: true)])
                try await stream.append(pcm("english-five"))
                _ = try await stream.endUtterance()
                #expect(await finals(&events, 1) == [Outcome("mic-3", five)])
                #expect(await bridge.restarts == 1)
                #expect(try await stream.stop().droppedSamples == 0)
            }
        }

        @Test func wordsThatAreOwedComeOnceFromTheBridgeOrAsItsLoss() async throws {
            try await withBridge { bridge, events in
                let stream = try await bridge.startStream(
                    Wire.StartStream(words: true, streamID: "mic", batchSize: 1, autoFlush: true))
                func say(_ name: String) async throws {
                    try await stream.append(pcm(name))
                    _ = try await stream.endUtterance()
                }
                try await say("sample")
                #expect(await finals(&events, 1) == [Outcome("mic-1", recordingText)])
                try await signal(bridge, SIGKILL)  // what finds words is not loaded yet
                let lost = await words(&events)
                #expect(lost?.utteranceID == "mic-1")
                #expect(lost?.error?.code.rawValue == "bridge_exited")
                try await say("english-one")
                var starts: [Double?] = []
                while starts.isEmpty, let event = await events.next() {
                    if case .realtimeBatchFinal(let batch) = event { starts = batch.items.map(\.streamStart) }
                }
                let seconds = Double(try pcm("sample").count) / 32_000
                #expect(starts == [(1000 * seconds).rounded() / 1000])
                let ready = await words(&events)
                #expect(ready?.utteranceID == "mic-2")
                #expect(ready?.words?.map(\.text) == ["Eight."])
            }
        }

        @Test func whatWaitsInTwoStreamsHasOneOutcomeEach() async throws {
            try await withBridge { bridge, events in
                func start(_ name: String) async throws -> Bridge.Stream {
                    try await bridge.startStream(
                        Wire.StartStream(streamID: name, batchSize: 3, maxBatchDelayMs: 60_000, autoFlush: true))
                }
                let (one, two) = (try await start("one"), try await start("two"))
                try await one.append(pcm("english-five"))
                try await two.append(pcm("sample"))
                _ = try await two.endUtterance(Wire.EndUtterance(utteranceID: "named"))
                _ = try await one.endUtterance()
                try await signal(bridge, SIGKILL)
                #expect(await lost(&events)?.streams == [])
                let inline = try pcm("english-one").base64EncodedString()
                _ = try await two.endUtterance(Wire.EndUtterance(pcm16: inline))
                let outcomes = await finals(&events, 3)
                #expect(outcomes.filter { $0.name.hasPrefix("one") } == [Outcome("one-1", five, replayed: true)])
                let ofTwo = outcomes.filter { !$0.name.hasPrefix("one") }
                #expect(ofTwo == [Outcome("named", recordingText, replayed: true), Outcome("two-1", "Eight.")])
            }
        }

        @Test func requestsWithoutAReplyAreAnsweredByTheNextProcess() async throws {
            try await withBridge { bridge, _ in
                let stream = try await bridge.startStream(Wire.StartStream(streamID: "mic", batchSize: 4))
                try await stream.append(pcm("sample"))
                _ = try await stream.endUtterance()
                try await signal(bridge, SIGSTOP)
                async let file = bridge.transcribe(path("examples/audio/english-one.wav"))
                while await bridge.connection?.pending.count != 1 { await Task.yield() }
                async let flush = stream.flush()
                while await bridge.connection?.pending.count != 2 { await Task.yield() }
                try await signal(bridge, SIGKILL)
                #expect(try await flush.items.map(Outcome.init) == [Outcome("mic-1", recordingText, replayed: true)])
                #expect(try await file.text == "Eight.")
                #expect(try await file.replayed)
                #expect(try await stream.stop().queued == 0)
            }
        }

        @Test func aProcessThatIsKilledWhileItGetsThemAgainIsFollowedByAnother() async throws {
            try await withBridge { bridge, events in
                let stream = try await bridge.startStream(Wire.StartStream(streamID: "mic", batchSize: 1, autoFlush: true))
                let audio = try pcm("english-ten")
                try await stream.append(Data(audio.prefix(160_000)))
                for restarts in 1...3 {
                    try await signal(bridge, SIGKILL)
                    #expect(await lost(&events)?.streams == [])
                    while await bridge.restarts < restarts { await Task.yield() }
                    while await bridge.state != .running { await Task.yield() }
                }
                try await stream.append(Data(audio.dropFirst(160_000)))
                _ = try await stream.endUtterance()
                #expect(await finals(&events, 1) == [Outcome("mic-1", ten, replayed: true)])
                #expect(await bridge.restarts == 3)
            }
        }

        @Test func theOldestUtteranceBeyondTheBoundIsLostAlone() async throws {
            try await withBridge(keptBytes: 2 * pcm("sample").count) { bridge, events in
                let stream = try await bridge.startStream(
                    Wire.StartStream(streamID: "mic", batchSize: 3, maxBatchDelayMs: 60_000, autoFlush: true))
                for name in ["english-five", "sample"] {
                    try await stream.append(pcm(name))
                    _ = try await stream.endUtterance()
                }
                try await signal(bridge, SIGKILL)
                #expect(await lost(&events) != nil)
                guard case .utteranceLost(let error, "mic", "mic-1") = await events.next() else { return miss("not lost") }
                #expect(error.code == .bridgeExited)
                try await stream.append(pcm("english-one"))
                _ = try await stream.endUtterance()
                try await stream.stop()
                let outcomes = await finals(&events, 2)
                #expect(outcomes == [Outcome("mic-2", recordingText, replayed: true), Outcome("mic-3", "Eight.")])
            }
        }

        @Test func anOpenUtteranceBeyondTheBoundFailsUntilItsBoundary() async throws {
            try await withBridge(keptBytes: 50_000) { bridge, events in
                let stream = try await bridge.startStream(Wire.StartStream(streamID: "mic", batchSize: 1, autoFlush: true))
                try await stream.append(pcm("english-ten"))
                try await signal(bridge, SIGKILL)
                #expect(await lost(&events) != nil)
                #expect(await failure { try await stream.append(pcm("sample")) }?.code == .bridgeExited)
                #expect(await failure { try await stream.endUtterance() }?.code == .bridgeExited)
                try await stream.append(pcm("english-one"))
                _ = try await stream.endUtterance()
                #expect(await finals(&events, 1) == [Outcome("mic-1", "Eight.")])
            }
        }

        @Test func aStreamDoesNotOutliveAKill() async throws {
            var configuration = demo()
            configuration.resend = true
            let bridge = Bridge(configuration)
            let stream = try await bridge.startStream()
            await bridge.kill()
            try await bridge.open()
            #expect(await failure { try await stream.append([0]) }?.code == .bridgeClosed)
            await bridge.kill()
        }

        @Test func aKillWhileItStartsAgainEndsWhatWaits() async throws {
            var configuration = demo()
            configuration.resend = true
            let bridge = Bridge(configuration)
            let stream = try await bridge.startStream(Wire.StartStream(onLimit: .split))
            try await signal(bridge, SIGSTOP)
            async let file = failure { try await bridge.transcribe(recording) }
            while await bridge.connection?.pending.isEmpty != false { await Task.yield() }
            try await signal(bridge, SIGKILL)
            while await bridge.restarts == 0 { await Task.yield() }
            #expect(await failure { try await stream.append([0]) }?.code == .bridgeExited)
            await bridge.kill()
            #expect(await file?.code == .bridgeClosed)
        }
    }
}

private let ten = "Zero one two three four five six seven eight nine."
private let five = "Two nine four zero six."

private struct Outcome: Equatable {
    let name: String
    let text: String?
    let replayed: Bool

    init(_ name: String, _ text: String?, replayed: Bool = false) {
        (self.name, self.text, self.replayed) = (name, text, replayed)
    }

    init(_ item: Wire.FinalResult) { self.init(item.utteranceID, item.text, replayed: item.replayed) }
}

private func pcm(_ name: String) throws -> Data {
    try Data(Data(contentsOf: URL(fileURLWithPath: path("examples/audio/\(name).wav"))).dropFirst(44))
}

private func signal(_ bridge: Bridge, _ number: Int32) async throws {
    let pid = try #require(await bridge.pid)
    kill(pid, number)
}

private func finals(_ events: inout AsyncStream<Bridge.Event>.Iterator, _ count: Int) async -> [Outcome] {
    var outcomes: [Outcome] = []
    while outcomes.count < count, let event = await events.next() {
        if case .realtimeBatchFinal(let batch) = event { outcomes += batch.items.map(Outcome.init) }
    }
    return outcomes
}

private func words(_ events: inout AsyncStream<Bridge.Event>.Iterator) async -> Wire.WordsReady? {
    while let event = await events.next() {
        if case .wordsReady(let words) = event { return words }
    }
    return nil
}

private func lost(_ events: inout AsyncStream<Bridge.Event>.Iterator) async -> (streams: [String], willRestart: Bool)? {
    while let event = await events.next() {
        if case .bridgeLost(_, let streams, let willRestart) = event { return (streams, willRestart) }
    }
    return nil
}
