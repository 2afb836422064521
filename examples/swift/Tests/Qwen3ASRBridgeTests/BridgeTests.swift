import Foundation
import Testing

@testable import Qwen3ASRBridge

extension WithChildren {
    /// The actor and the bridge itself, with the demonstration checkpoint.
    struct BridgeTests {
        private func withBridge(_ body: (Bridge) async throws -> Void) async throws {
            let bridge = Bridge(demo())
            do { try await body(bridge) } catch {
                await bridge.kill()
                throw error
            }
            await bridge.stop()
            #expect(await bridge.exit?.name == "done")
        }

        @Test func itTranscribesFiles() async throws {
            try await withBridge { bridge in
                let ready = try await bridge.start()
                #expect(ready.model == "demo")
                let transcript = try await bridge.transcribe(recording)
                #expect(transcript.text == recordingText)
                #expect(transcript.finishReason == "stop")
                let batch = try await bridge.batchTranscribe([recording, "/nowhere.wav"])
                #expect(batch.items.map(\.text) == [recordingText, nil])
                #expect(batch.items[1].error?.code == .audioNotFound)
                let stopped = try #require(await bridge.stop())
                #expect(stopped.completed == 2)
                #expect(stopped.unfinished == [])
            }
        }

        @Test func aKnownTextHasWordsThatCanBeSungAlong() async throws {
            try await withBridge { bridge in
                let aligned = try await bridge.align(recording, text: recordingText, language: "en")
                #expect(aligned.words.map(\.text) == ["Seven", "three", "one."])
                let middle = try #require(aligned.words.dropFirst().first.map { ($0.start + $0.end) / 2 })
                let line = karaoke(recordingText, aligned.words, at: middle)
                #expect(line.map(\.text) == ["Seven ", "three ", "one."])
                #expect(line.map(\.isCurrent) == [false, true, false])
                let transcript = try await bridge.request(Wire.Transcribe(audio: recording, words: true))
                #expect(transcript.words?.map(\.start) == aligned.words.map(\.start))
            }
        }

        @Test func theModelIsUnloadedAndLoadedAgain() async throws {
            try await withBridge { bridge in
                let first = try await bridge.start(keepAliveSeconds: 300)
                let second = try await bridge.start()
                #expect(first.load.rawValue != "none")
                #expect(second.load.rawValue == "none")
                let drained = try await bridge.unload()
                #expect(drained.freedBytes > 0)
                let pong = try await bridge.ping()
                #expect(pong.state == .unloaded)
                let transcript = try await bridge.transcribe(recording)
                #expect(transcript.text == recordingText)
                let aborted = try await bridge.unload(Wire.Unload(mode: .abort))
                #expect(aborted.freedBytes > 0)
            }
        }

        @Test func aRequestThatFailsSaysWhy() async throws {
            try await withBridge { bridge in
                let error = await failure { try await bridge.transcribe("/nowhere.wav") }
                #expect(error?.code == .requestFailed)
                #expect(error?.wireCode == .audioNotFound)
                #expect(error?.retryable == false)
                let bad = await failure { try await bridge.startStream(Wire.StartStream(batchSize: 99)) }
                #expect(bad?.data["field"] == .string("batch_size"))
                let cancelled = try await bridge.cancel("nobody").state
                #expect(cancelled == .unknown)
                let unknown = await failure { try await bridge.request(["type": .string("weather")]) }
                #expect(unknown?.wireCode == .unknownType)
            }
        }

        @Test func anUntypedRequestGetsATypedReply() async throws {
            try await withBridge { bridge in
                guard case .pong(let pong) = try await bridge.request(["type": .string("ping"), "id": .integer(1)])
                else { return miss("no pong") }
                #expect(pong.state == .unloaded)
                let own = try await bridge.request(Wire.Status(id: 7))
                #expect(own.id == 7)
                #expect(own.counters.requests >= 2)
                let capabilities = try await bridge.capabilities()
                #expect(capabilities.want == ["events", "progress"])
                #expect(capabilities.features.contains("partials"))
            }
        }

        @Test func requestsAtOnceGetTheirOwnReplies() async throws {
            try await withBridge { bridge in
                let texts = try await withThrowingTaskGroup(of: Bool.self) { group in
                    for n in 1...30 {
                        group.addTask {
                            if n % 3 > 0 { return try await bridge.ping().uptimeS >= 0 }
                            return try await bridge.transcribe(recording).text == recordingText
                        }
                    }
                    return try await group.reduce(into: []) { $0.append($1) }
                }
                #expect(texts == [Bool](repeating: true, count: 30))
            }
        }

        @Test func aStreamTellsPartialTextsAndThenTheFinal() async throws {
            try await withBridge { bridge in
                let stream = try await bridge.startStream(
                    Wire.StartStream(streamID: "mic", batchSize: 1, autoFlush: true, partials: true))
                let pcm = try Data(contentsOf: URL(fileURLWithPath: recording)).dropFirst(44)
                var partials: [Wire.PartialResult] = []
                var events = bridge.events.makeAsyncIterator()
                for place in stride(from: 0, to: pcm.count, by: 32000) {
                    try await stream.append(Data(pcm.dropFirst(place).prefix(32000)), utteranceID: "u")
                    while partials.count <= place / 32000, place + 32000 <= pcm.count, let event = await events.next() {
                        if case .partialResult(let partial) = event { partials.append(partial) }
                    }
                }
                guard case .queued(let queued) = try await stream.endUtterance() else { return miss("not queued") }
                #expect(queued.utteranceID == "u")
                var final: Wire.RealtimeBatchFinal?
                while final == nil, let event = await events.next() {
                    if case .realtimeBatchFinal(let batch) = event { final = batch }
                }
                #expect(final?.items.map(\.text) == [recordingText])
                #expect(partials.isEmpty == false)
                #expect(partials.allSatisfy { $0.utteranceID == "u" && $0.streamID == "mic" })
                let dropped = try await stream.stop().droppedSamples
                #expect(dropped == 0)
            }
        }

        @Test func aCancelledTranscriptionEnds() async throws {
            try await withBridge { bridge in
                try await bridge.start()
                let many = [String](repeating: recording, count: 100)
                let task = Task { try await bridge.batchTranscribe(many) }
                while try await bridge.status().queues.decoding == 0 { await Task.yield() }
                task.cancel()
                #expect(await wasCancelled(task))
                while try await bridge.status().counters.errors["cancelled"] == nil { await Task.yield() }
                let text = try await bridge.transcribe(recording).text
                #expect(text == recordingText)
            }
        }

        @Test func aBridgeThatIsKilledIsStartedAgainByTheNextRequest() async throws {
            try await withBridge { bridge in
                try await bridge.open()
                let pid = try #require(await bridge.pid)
                let stream = try await bridge.startStream()
                async let waiting = failure { while true { try await stream.append([0]) } }
                kill(pid, SIGKILL)
                #expect(await waiting?.exit?.name == "SIGKILL")
                let transcript = try await bridge.transcribe(recording)
                #expect(transcript.text == recordingText)
                #expect(await bridge.pid != pid)
                #expect(await bridge.restarts == 1)
            }
        }

        @Test func stoppingFinishesWhatWasAsked() async throws {
            try await withBridge { bridge in
                try await bridge.start()
                let task = Task { try await bridge.transcribe(recording) }
                while try await bridge.status().counters.requests < 4 { await Task.yield() }
                await bridge.stop()
                let text = try await task.value.text
                #expect(text == recordingText)
                #expect(await failure { try await bridge.ping() }?.code == .bridgeClosed)
            }
        }

        @Test func aModelThatIsMissingIsAnErrorThatCanBeShown() async throws {
            var configuration = demo()
            configuration.arguments = ["--model", "/no/such/model", "--local-files-only"]
            let bridge = Bridge(configuration)
            let error = await failure { try await bridge.start() }
            #expect(error?.wireCode == .modelNotFound)
            #expect(error?.errorDescription?.isEmpty == false)
            await bridge.stop()
        }

        @Test func aBadOptionEndsItForGood() async throws {
            var configuration = demo()
            configuration.arguments = ["--no-such-option"]
            let bridge = Bridge(configuration)
            let error = await failure { try await bridge.open() }
            #expect(error?.exit?.name == "environment")
            #expect(error?.stderr.isEmpty == false)
            #expect(await bridge.state == .failed)
        }
    }
}
