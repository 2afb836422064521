import Foundation
import Testing

@testable import Qwen3ASRBridge

extension WithChildren {
    /// What an app is told when the child does not do what a bridge does.
    struct MisbehaviourTests {
        @Test(arguments: ["/nowhere/at/all", "no-such-command-of-anybody"])
        func aBridgeThatIsNotThere(name: String) async throws {
            let bridge = Bridge(name)
            let first = await failure { try await bridge.ping() }
            #expect(first?.code == .bridgeNotFound)
            #expect(first?.message.contains(name) == true)
            #expect(await bridge.state == .failed)
            #expect(await failure { try await bridge.ping() } == first)
            #expect(await failure { try await bridge.open() }?.code == .bridgeNotFound)
        }

        @Test func aBridgeThatCannotBeExecuted() async throws {
            try await withFolder { folder in
                let script = "#!/bin/sh\nexit 0\n"
                let programs = [
                    folder.path,
                    try write(script, to: "mode", in: folder, mode: 0o644),
                    try write("no program", to: "text", in: folder),
                    try write("#!/no/such/interpreter\n", to: "interpreter", in: folder),
                ]
                for program in programs {
                    #expect(await failure { try await Bridge(program).open() }?.code == .bridgeNotExecutable)
                }
            }
        }

        @Test(arguments: [("exit 1", "bridge_exited"), ("hear", "bridge_closed")])
        func aFinalThatWaitsForWordsGetsOneErrorWhereTheBridgeIsGone(then: String, code: String) async throws {
            let final = #"""
                {"type":"realtime_batch_final","event":true,"n":1,"reason":"flush","count":1,"failed":0,"items":[{\#
                "type":"final_result","job":5,"stream_id":"mic","utterance_id":"mic-1","source":"buffer","samples":1,\#
                "words":null,"words_pending":true,"queue_seconds":0.1,"audio_gap":false,"warnings":[]}],\#
                "load_seconds":0,"use_cache":true,"decoder_mode":"sequential","redecoded":0,"asr_backend":"mlx",\#
                "vad_backend":"external-boundary","profile":{"stage":"batch","batch_size":1}}
                """#
            try await withFake("greet; hear; say '\(final)'; \(then)") { bridge in
                var events = bridge.events.makeAsyncIterator()
                let asked = Task { try await bridge.ping() }
                guard case .realtimeBatchFinal = await events.next() else { return miss("no final") }
                if code == "bridge_exited" {
                    guard case .bridgeLost = await events.next() else { return miss("not lost") }
                }
                await bridge.kill()
                guard case .wordsReady(let words)? = await events.next() else { return miss("no words") }
                #expect(await failure { try await asked.value }?.code.rawValue == code)
                #expect(words.job == 5)
                #expect(words.error?.code.rawValue == code)
                #expect(await events.next() == nil)
            }
        }

        @Test func aCrashAtTheStart() async throws {
            try await withFake("echo 'out of luck' >&2; exit 3") { bridge in
                let error = await failure { try await bridge.open() }
                #expect(error?.code == .bridgeExited)
                #expect(error?.exit?.code == 3)
                #expect(error?.exit?.name == "unknown")
                #expect(error?.stderr == ["out of luck"])
                #expect(error?.retryable == true)
                #expect(await bridge.state == .lost)
            }
        }

        @Test(arguments: [0, 2, 5, 126, 127, 130, 143])
        func anExitAfterWhichItIsNotStartedAgain(code: Int) async throws {
            try await withFake("greet; hear; exit \(code)") { bridge in
                let error = await failure { try await bridge.ping() }
                #expect(error?.code == .bridgeExited)
                #expect(error?.retryable == false)
                #expect(error?.exit?.code == code)
                #expect(await bridge.state == .failed)
                #expect(await failure { try await bridge.ping() } == error)
                #expect(await bridge.restarts == 0)
            }
        }

        @Test func aSignal() async throws {
            try await withFake("greet; hear; kill -9 $$") { bridge in
                let error = await failure { try await bridge.ping() }
                #expect(error?.code == .bridgeExited)
                #expect(error?.exit?.name == "SIGKILL")
                #expect(error?.exit?.code == nil)
            }
        }

        @Test func aFatalLine() async throws {
            let fatal = #"{"type":"fatal","code":"environment_missing","message":"numpy is missing","retryable":false}"#
            try await withFake("hear; say '\(fatal)'; exit 2") { bridge in
                let error = await failure { try await bridge.open() }
                #expect(error?.code == .bridgeFatal)
                #expect(error?.fatalCode == .environmentMissing)
                #expect(error?.message == "numpy is missing")
                #expect(error?.exit?.name == "environment")
                #expect(await bridge.state == .failed)
            }
        }

        @Test func aFatalLineOfAProcessThatStays() async throws {
            let fatal = #"{"type":"fatal","code":"internal_error","message":"a bug","retryable":false}"#
            try await withFake("greet; hear; say '\(fatal)'; sleep 1000") { bridge in
                let error = await failure { try await bridge.ping() }
                #expect(error?.code == .bridgeFatal)
                #expect(error?.exit?.name == "SIGKILL")
            }
        }

        @Test func aCrashInTheMiddleFailsWhatIsAskedAndTheNextRequestStartsItAgain() async throws {
            let script = """
                greet; hear
                if [ -e $folder/crashed ]; then say '\(pong)'; hear; exit 0; fi
                hear; touch $folder/crashed; exit 1
                """
            try await withFake(script) { bridge in
                async let first = failure { try await bridge.ping() }
                async let second = failure { try await bridge.status() }
                let errors = await [first, second]
                #expect(errors.map { $0?.code } == [.bridgeExited, .bridgeExited])
                #expect(errors[0]?.exit?.name == "internal_error")
                #expect(await bridge.state == .lost)
                try await expectAnswer(of: bridge)
                #expect(await bridge.restarts == 1)
                for await case .bridgeLost(let error, let streams, let willRestart) in bridge.events {
                    #expect(error == errors[0])
                    #expect(streams == [])
                    #expect(willRestart)
                    break
                }
            }
        }

        @Test func aStreamIsGoneWithItsProcess() async throws {
            try await withFake("greet; hear; say '\(streamReady)'; hear; exit 1") { bridge in
                let stream = try await bridge.startStream(Wire.StartStream(streamID: "mic"))
                let loss = await failure { try await stream.flush() }
                #expect(loss?.code == .bridgeExited)
                #expect(await failure { try await stream.append([1, 2, 3]) } == loss)
                #expect(await failure { try await stream.endUtterance() } == loss)
                for await case .bridgeLost(_, let streams, _) in bridge.events {
                    #expect(streams == ["mic"])
                    break
                }
            }
        }

        @Test func aBridgeThatHangs() async throws {
            let script = "greet; while hear; do :; done"
            try await withFake(script, configure: { $0.hangTimeout = .milliseconds(400) }) { bridge in
                let error = await failure { try await bridge.start() }
                #expect(error?.code == .bridgeHung)
                #expect(error?.exit?.name == "SIGKILL")
                #expect(error?.stderr.contains { $0.contains(#""ping""#) } == true)
                #expect(await bridge.state == .lost)
            }
        }

        @Test func aBridgeThatIsSlowButAnswersPingsIsWaitedFor() async throws {
            let script = """
                greet; hear; first=$id
                for n in 1 2 3; do hear; say '\(pong)'; done
                id=$first; say '\(pong)'; hear
                """
            try await withFake(script, configure: { $0.hangTimeout = .milliseconds(1000) }) { bridge in
                try await expectAnswer(of: bridge)
            }
        }

        @Test func aBridgeThatHangsAtTheStart() async throws {
            try await withFake("sleep 1000", configure: { $0.openTimeout = .milliseconds(300) }) { bridge in
                #expect(await failure { try await bridge.open() }?.code == .bridgeHung)
            }
        }

        @Test func aBridgeThatTakesNothing() async throws {
            let script = "greet; hear; say '\(streamReady)'; exec sleep 1000"
            try await withFake(script, configure: { $0.hangTimeout = .milliseconds(500) }) { bridge in
                let stream = try await bridge.startStream()
                let error = await failure {
                    while true { try await stream.append([Int16](repeating: 1, count: 16000)) }
                }
                #expect(error?.code == .bridgeHung)
            }
        }

        @Test func aFloodOnStderrStopsNothing() async throws {
            let listener = Listener()
            let script = "greet; yes 'a line of noise' | head -n 300000 >&2; echo last >&2; hear; say '\(pong)'; hear"
            try await withFake(script, configure: { listener.listen(to: &$0) }) { bridge in
                try await expectAnswer(of: bridge)
                #expect(await listener.next(with: "last") == "last")
                let kept = await bridge.stderr
                #expect(kept.reduce(0) { $0 + $1.utf8.count + 1 } <= 64 << 10)
                #expect(kept.contains("last"))
            }
        }

        @Test(arguments: ["exec >&-", "exec <&-; kill -STOP $$"])
        func aPipeThatIsClosed(how: String) async throws {
            signal(SIGPIPE, SIG_DFL)  // as in an app; who runs the tests may ignore it
            let script = "greet; hear; say '\(streamReady)'; hear; \(how); sleep 1000"
            try await withFake(script) { bridge in
                let stream = try await bridge.startStream()
                let error = await failure {
                    while true { try await stream.append([Int16](repeating: 1, count: 160_000)) }
                }
                #expect(error?.code == .bridgePipeClosed)
                #expect(error?.exit?.name == "SIGKILL")
            }
        }

        @Test func writingToAProcessThatHasGoneIsNoSignal() async throws {
            try await withFake("greet; hear; say '\(streamReady)'; exit 1") { bridge in
                let stream = try await bridge.startStream()
                let error = await failure {
                    while true { try await stream.append([Int16](repeating: 1, count: 160_000)) }
                }
                #expect(error?.code == .bridgeExited)
                #expect(error?.exit?.code == 1)
            }
        }

        @Test func whatIsLostTooOftenIsGivenUpUntilTheAppOpensItAgain() async throws {
            try await withFake("echo start >>$folder/starts; exit 1", configure: { $0.restarts = 2 }) { bridge in
                for _ in 1...3 { #expect(await failure { try await bridge.ping() }?.code == .bridgeExited) }
                #expect(await bridge.state == .failed)
                let error = await failure { try await bridge.ping() }
                #expect(error?.code == .restartLimit)
                #expect(error?.cause?.code == .bridgeExited)
                #expect(error?.exit?.code == 1)
                #expect(await bridge.restarts == 2)
                #expect(await failure { try await bridge.open() }?.code == .bridgeExited)
                #expect(await bridge.state == .lost)
            }
        }

        @Test func anEngineThatWasLostIsGivenAPause() async throws {
            try await withFake("greet; hear; exit 4", configure: { $0.enginePause = .milliseconds(200) }) { bridge in
                for _ in 1...2 {
                    #expect(await failure { try await bridge.ping() }?.exit?.name == "engine_lost")
                }
                #expect(await bridge.restarts == 1)
            }
        }
    }
}
