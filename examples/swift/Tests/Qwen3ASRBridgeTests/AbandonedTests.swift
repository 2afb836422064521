import Foundation
import Testing

@testable import Qwen3ASRBridge

extension WithChildren {
    /// What becomes of a stream that is ready when nobody waits for it any more.
    struct AbandonedTests {
        private struct Heard: Decodable, Equatable {
            let type: String
            var stream_id: String?
            var mode: String?
        }

        private let discard = Heard(type: "stop_stream", stream_id: "mic", mode: "discard")
        private let mic = Wire.StartStream(streamID: "mic", restart: true)
        /// The second line that it hears is a `cancel` of the first.
        private let readyBehindCancel = "hear; start=$id; hear; id=$start; say '\(streamReady)'"

        /// What a child that does as `script` says, and then answers pings, hears behind what `body` read of it.
        private func heard(
            by script: String, _ body: (Bridge, Listener) async throws -> Void
        ) async throws -> [Heard] {
            let listener = Listener()
            let answersPings = #"while hear; do case $line in *'"ping"'*) say '\#(pong)';; esac; done"#
            var all: [Heard] = []
            try await withFake("greet; \(script); \(answersPings)", configure: { listener.listen(to: &$0) }) { bridge in
                try await bridge.open()
                #expect(await listener.next(with: #""hello""#) != nil)
                try await body(bridge, listener)
                try await expectAnswer(of: bridge)  // behind what `script` said
                try await expectAnswer(of: bridge)  // and behind what was said to that
                var pings = 0
                for await line in listener.lines {
                    let heard = try JSONDecoder().decode(Heard.self, from: Data(line.utf8))
                    if heard.type == "ping" { pings += 1 } else { all.append(heard) }
                    if pings == 2 { break }
                }
            }
            return all
        }

        @Test func aStreamThatBecomesReadyBehindItsCancelIsStopped() async throws {
            let heard = try await heard(by: readyBehindCancel) { bridge, listener in
                let task = Task { try await bridge.startStream(mic) }
                #expect(await listener.next(with: #""start_stream""#) != nil)
                task.cancel()
                #expect(await wasCancelled(task))
            }
            #expect(heard == [Heard(type: "cancel"), discard])
        }

        @Test func aStreamThatIsNotReadyInTimeIsStopped() async throws {
            let heard = try await heard(by: readyBehindCancel) { bridge, _ in
                let start: [String: JSONValue] = ["type": .string("start_stream")]
                let error = await failure { try await bridge.request(start, timeout: .milliseconds(1)) }
                #expect(error?.code == .requestTimeout)
            }
            #expect(heard == [Heard(type: "start_stream"), Heard(type: "cancel"), discard])
        }

        @Test func aStreamThatWasReadyBeforeItsTaskSawItIsStopped() async throws {
            let heard = try await heard(by: "hear") { bridge, listener in
                let task = Task { try await bridge.startStream(mic) }
                #expect(await listener.next(with: #""start_stream""#, #""id":"c2""#) != nil)
                await bridge.hearReady("c2", andCancel: task)
                #expect(await wasCancelled(task))
            }
            #expect(heard == [discard])
        }

        @Test(arguments: [true, false])
        func aStreamIsLeftAloneThatTheAppHasBegunAnewAndNoOther(restart: Bool) async throws {
            let script = """
                hear; first=$id; hear; hear; second=$id
                id=$first; say '\(streamReady)'; id=$second; say '\(streamReady)'
                """
            let heard = try await heard(by: script) { bridge, listener in
                let task = Task { try await bridge.request(["type": .string("start_stream")]) }
                #expect(await listener.next(with: #""start_stream""#) != nil)
                task.cancel()
                #expect(await wasCancelled(task))
                _ = try await bridge.startStream(Wire.StartStream(restart: restart))
                #expect(await bridge.connection?.starts.isEmpty == true)
            }
            #expect(heard.map(\.type) == ["cancel", "start_stream"] + (restart ? [] : ["stop_stream"]))
        }

        @Test func aStreamThatWasBegunAnewAsItBecameReadyIsLeftAlone() async throws {
            let heard = try await heard(by: "hear; hear") { bridge, listener in
                let task = Task { try await bridge.startStream(mic) }
                #expect(await listener.next(with: #""start_stream""#, #""id":"c2""#) != nil)
                let again = Task { try await bridge.startStream(mic) }
                #expect(await listener.next(with: #""start_stream""#, #""id":"c3""#) != nil)
                await bridge.hearReady("c2", andCancel: task)
                #expect(await wasCancelled(task))
                await bridge.hearReady("c3", andCancel: nil)
                let stream = try await again.value
                #expect(stream.id == "mic")
            }
            #expect(heard == [])
        }

        @Test func ofOtherRequestsOnlyTheCancelIsSent() async throws {
            let heard = try await heard(by: readyBehindCancel) { bridge, listener in
                let task = Task { try await bridge.transcribe("/a.wav") }
                #expect(await listener.next(with: #""transcribe""#) != nil)
                task.cancel()
                #expect(await wasCancelled(task))
            }
            #expect(heard == [Heard(type: "cancel")])
        }

        @Test func whatWasRefusedIsForgotten() async throws {
            let refusal = #"""
                {"type":"error","id":"'"$id"'","code":"stream_exists","message":"x","retryable":false,"data":{}}
                """#
            let heard = try await heard(by: "hear; say '\(refusal)'") { bridge, _ in
                #expect(await failure { try await bridge.startStream(mic) }?.wireCode == .streamExists)
                #expect(await bridge.connection?.starts.isEmpty == true)
            }
            #expect(heard.map(\.type) == ["start_stream"])
        }
    }
}

extension Bridge {
    /// In one turn of the actor: whoever waits for the reply runs behind it.
    fileprivate func hearReady(_ id: String, andCancel task: Task<Stream, any Error>?) {
        let line = streamReady.replacingOccurrences(of: #"'"$id"'"#, with: id)
        hear(.line(Data(line.utf8)), from: connection?.number ?? 0)
        task?.cancel()
    }
}
