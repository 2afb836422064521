import Foundation
import Testing

@testable import Qwen3ASRBridge

extension WithChildren {
    /// What the client itself does, with a child that only echoes what is expected of it.
    struct ConversationTests {
        static let answersPings = "greet; while hear; do say '\(pong)'; done"

        @Test func requestsAtOnceStartOneProcess() async throws {
            try await withFake("echo start >>$folder/starts; \(Self.answersPings)") { bridge in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for _ in 1...20 { group.addTask { _ = try await bridge.ping() } }
                    try await group.waitForAll()
                }
                let folder = URL(fileURLWithPath: bridge.configuration.bridge).deletingLastPathComponent()
                #expect(try String(contentsOf: folder.appending(path: "starts"), encoding: .utf8) == "start\n")
                #expect(await bridge.state == .running)
                #expect(await bridge.capabilities?.model == "fake")
            }
        }

        @Test(arguments: [[], ["--parent-pid", "7"], ["--parent-pid=7"]])
        func itsCommandLineNamesThisProcessUnlessTheAppNamesOne(own: [String]) async throws {
            let listener = Listener()
            let script = "echo \"words $*\" >&2; \(Self.answersPings)"
            try await withFake(script, configure: { listener.listen(to: &$0); $0.arguments = own }) { bridge in
                try await bridge.open()
                let words = own.isEmpty ? ["--parent-pid", String(getpid())] : own
                #expect(await listener.next(with: "words ") == "words " + words.joined(separator: " "))
            }
        }

        @Test func itIsStartedInASessionOfItsOwn() async throws {
            try await withFake(Self.answersPings) { bridge in
                try await bridge.open()
                let pid = try #require(await bridge.pid)
                #expect(getsid(pid) == pid)
                #expect(getsid(0) != pid)
            }
        }

        @Test func noZombieStays() async throws {
            try await withFake(Self.answersPings) { bridge in
                try await bridge.open()
                let pid = try #require(await bridge.pid)
                await bridge.stop(deadlineMs: 0)
                #expect(waitpid(pid, nil, WNOHANG) == -1)
                #expect(errno == ECHILD)
            }
        }

        @Test func noOtherChildHoldsItsInput() async throws {
            try await withFake(Self.answersPings) { first in
                try await withFake(Self.answersPings) { second in
                    try await first.open()
                    try await second.open()
                    await first.stop(deadlineMs: 60_000)  // ended by the end of its input alone
                    #expect(await first.exit?.code == 0)
                    try await expectAnswer(of: second)
                }
            }
        }

        @Test func linesMayBeTornAndOfMegabytesAndOfTypesThatAreNotKnown() async throws {
            let script = #"""
                greet; hear
                printf '{"type":"weather","event":true,"n":1,"text":"'
                head -c 5000000 /dev/zero | tr '\0' x
                printf '\303'; printf '\251"'; printf '}\n\n  \r\n{"type":"omen"}\n'
                """# + "\nsay '\(pong)'; hear"
            try await withFake(script) { bridge in
                try await expectAnswer(of: bridge)
                var events = bridge.events.makeAsyncIterator()
                guard case .unknown(.object(let weather)) = await events.next() else { return miss("no event") }
                guard case .string(let text) = weather["text"] else { return miss("no text") }
                #expect(text.count == 5_000_001)
                #expect(text.last == "é")
                guard case .unknown(let omen) = await events.next() else { return miss("no event") }
                #expect(omen == .object(["type": .string("omen")]))
            }
        }

        @Test func anEngineThatIsStartedAgainIsAnEvent() async throws {
            let line = #"{"type":"engine_restarting","event":true,"n":1,"reason":"SIGKILL","attempt":2}"#
            try await withFake("greet; hear; say '\(line)'; say '\(pong)'; hear") { bridge in
                try await expectAnswer(of: bridge)
                var events = bridge.events.makeAsyncIterator()
                guard case .engineRestarting(let restart) = await events.next() else { return miss("no event") }
                #expect(restart.reason == "SIGKILL")
                #expect(restart.attempt == 2)
                #expect(Wire.ErrorCode.engineCrashed.rawValue == "engine_crashed")
            }
        }

        @Test func aCancelledTaskCancelsItsRequestAndItsLateReplyIsThrownAway() async throws {
            let listener = Listener()
            let script = """
                greet; hear; first=$id
                hear; hear; last=$id; id=$first; say '\(pong)'; id=$last; say '\(pong)'
                while hear; do say '\(pong)'; done
                """
            try await withFake(script, configure: { listener.listen(to: &$0) }) { bridge in
                let task = Task { try await bridge.transcribe("/a.wav") }
                #expect(await listener.next(with: #""transcribe""#, #""id":"c2""#) != nil)
                task.cancel()
                #expect(await wasCancelled(task))
                #expect(await listener.next(with: #""cancel""#, #""target":"c2""#) != nil)
                try await expectAnswer(of: bridge)
                try await expectAnswer(of: bridge)
            }
        }

        @Test func aTaskThatIsCancelledWhileItOpensStopsWaiting() async throws {
            let listener = Listener()
            try await withFake("hear; sleep 1000", configure: { listener.listen(to: &$0) }) { bridge in
                let task = Task { try await bridge.ping() }
                #expect(await listener.next(with: #""hello""#, #""parent_pid":\#(getpid())"#) != nil)
                task.cancel()
                #expect(await wasCancelled(task))
                #expect(await bridge.state == .opening)
            }
        }

        @Test func anIDOfTheAppIsKeptAndMayNotBeInFlightTwice() async throws {
            let listener = Listener()
            try await withFake("greet; while hear; do :; done", configure: { listener.listen(to: &$0) }) { bridge in
                let task = Task { try await bridge.request(Wire.Start(id: "own")) }
                #expect(await listener.next(with: #""start""#, #""id":"own""#) != nil)
                let twice = await failure { try await bridge.request(Wire.Ping(id: "own")) }
                #expect(twice?.wireCode == .duplicateID)
                task.cancel()
                #expect(await wasCancelled(task))
                #expect(await listener.next(with: #""cancel""#, #""target":"own""#) != nil)
            }
        }

        @Test func whatCouldNotBeAnsweredByItsIDIsRefused() async throws {
            let greeting = greeting.replacingOccurrences(of: "8388608", with: "1000")
            try await withFake("hear; say '\(greeting)'; while hear; do say '\(pong)'; done") { bridge in
                try await bridge.open()
                let long = await failure { try await bridge.transcribe(String(repeating: "a", count: 1001)) }
                #expect(long?.wireCode == .lineTooLong)
                #expect(long?.data == ["limit": .integer(1000)])
                let odd = await failure { try await bridge.request(["type": .string("ping"), "n": .number(.nan)]) }
                #expect(odd?.wireCode == .invalidParams)
                try await expectAnswer(of: bridge)
            }
        }

        @Test func theLastWordsOnStderrAreToldNewlineOrNot() async throws {
            let listener = Listener()
            try await withFake("printf 'no newline' >&2; exit 1", configure: { listener.listen(to: &$0) }) { bridge in
                #expect(await failure { try await bridge.open() }?.stderr == ["no newline"])
                listener.end()
                #expect(await listener.next(with: "no") == "no newline")
            }
        }

        @Test func aRequestWithoutAReplyInTimeIsCancelled() async throws {
            let listener = Listener()
            let script = "greet; while hear; do :; done"
            try await withFake(script, configure: { listener.listen(to: &$0) }) { bridge in
                try await bridge.open()
                let error = await failure { try await bridge.start(timeout: .milliseconds(50)) }
                #expect(error?.code == .requestTimeout)
                #expect(error?.retryable == true)
                #expect(await listener.next(with: #""cancel""#, #""target":"c2""#) != nil)
                #expect(await bridge.state == .running)
            }
        }

        @Test func appendWaitsForRoom() async throws {
            let script = """
                greet; hear; say '\(streamReady)'
                mkfifo $folder/go; echo ready >&2; read go <$folder/go; cat >/dev/null
                """
            let listener = Listener()
            let limit = 64 << 10
            let configure: (inout BridgeConfiguration) -> Void = {
                $0.unwrittenBytes = limit
                listener.listen(to: &$0)
            }
            try await withFake(script, configure: configure) { bridge in
                let stream = try await bridge.startStream()
                #expect(await listener.next(with: "ready") == "ready")
                let speech = Task { try await stream.append(Data(count: 4 << 20)) }
                let unwritten = try #require(await bridge.connection?.child.unwritten)
                while unwritten.bytes < limit { try await Task.sleep(for: .milliseconds(1)) }
                for _ in 1...100 { await Task.yield() }
                #expect(unwritten.bytes < limit + 8192)  // one chunk more
                let folder = URL(fileURLWithPath: bridge.configuration.bridge).deletingLastPathComponent()
                try Data("go\n".utf8).write(to: folder.appending(path: "go"))
                try await speech.value
            }
        }

        @Test func chunksAreNumberedAndOfTenthsOfASecond() async throws {
            let listener = Listener()
            let script = "greet; hear; say '\(streamReady)'; while hear; do :; done"
            try await withFake(script, configure: { listener.listen(to: &$0) }) { bridge in
                let stream = try await bridge.startStream(Wire.StartStream(streamID: "mic"))
                try await stream.append([Int16](repeating: -2, count: 3201), utteranceID: "u")
                var sizes: [Int] = []
                for seq in 0...2 {
                    let line = try #require(await listener.next(with: #""audio_chunk""#))
                    let chunk = try JSONDecoder().decode(Wire.AudioChunk.self, from: Data(line.utf8))
                    #expect(chunk.seq == seq)
                    #expect(chunk.utteranceID == "u")
                    #expect(chunk.id == nil)
                    let pcm = try #require(Data(base64Encoded: chunk.pcm16))
                    #expect(pcm.starts(with: [0xFE, 0xFF]))
                    sizes.append(pcm.count / 2)
                }
                #expect(sizes == [1600, 1600, 1])
                #expect(await failure { try await stream.append(Data(count: 3)) }?.wireCode == .oddPcmLength)
            }
        }

        @Test func killingFailsWhatIsAskedAndEndsTheEvents() async throws {
            let listener = Listener()
            try await withFake("greet; while hear; do :; done", configure: { listener.listen(to: &$0) }) { bridge in
                async let error = failure { try await bridge.start() }
                #expect(await listener.next(with: #""start""#) != nil)
                await bridge.kill()
                #expect(await error?.code == .bridgeClosed)
                #expect(await bridge.exit?.name == "SIGKILL")
                #expect(await bridge.state == .stopped)
                #expect(await failure { try await bridge.ping() }?.code == .bridgeClosed)
                for await event in bridge.events { Issue.record("an event: \(event)") }
            }
        }

        @Test func aBridgeThatNobodyHoldsIsKilled() async throws {
            try await withFolder { folder in
                let script = "#!/bin/sh\nread -r line\necho '\(greeting)'\nsleep 1000\n"
                let program = try write(script, to: "fake", in: folder)
                var bridge: Bridge? = Bridge(program)
                try await bridge?.open()
                let pid = try #require(await bridge?.pid)
                bridge = nil
                while kill(pid, 0) == 0 { try await Task.sleep(for: .milliseconds(5)) }
            }
        }

        @Test func itCanBeOpenedAgainAfterAStop() async throws {
            try await withFake(Self.answersPings) { bridge in
                try await bridge.open()
                await bridge.stop(deadlineMs: 0)
                #expect(await failure { try await bridge.ping() }?.code == .bridgeClosed)
                try await bridge.open()
                try await expectAnswer(of: bridge)
                #expect(await bridge.restarts == 0)
            }
        }
    }
}
