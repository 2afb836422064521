import Foundation
import Testing

@testable import Qwen3ASRBridge

extension WithChildren {
    /// What an app is told when the child says what a bridge does not say.
    struct NonsenseTests {
        @Test(arguments: ["no json", "[1]", #"{"id":"c2"}"#, #"{"type":7}"#, #""text""#])
        func aLineThatIsNoMessage(line: String) async throws {
            try await withFake("greet; hear; say '\(line)'; sleep 1000") { bridge in
                let error = await failure { try await bridge.ping() }
                #expect(error?.code == .protocolError)
                #expect(error?.position == 2)
                #expect(error?.message.contains(line) == false)
                #expect(error?.exit?.name == "SIGKILL")
            }
        }

        @Test func bytesThatAreNoText() async throws {
            try await withFake(#"greet; hear; printf '\377\376\000\n'; sleep 1000"#) { bridge in
                #expect(await failure { try await bridge.ping() }?.code == .protocolError)
            }
        }

        @Test func aReplyOfAnotherType() async throws {
            try await withFake("greet; hear; say '\(pong)'; sleep 1000") { bridge in
                #expect(await failure { try await bridge.start() }?.code == .protocolError)
            }
        }

        @Test(arguments: [(0, BridgeError.Code.protocolError), (1, .bridgeExited)])
        func aLineThatDoesNotEnd(exit: Int, code: BridgeError.Code) async throws {
            try await withFake(#"greet; hear; printf '{"type":"po'; exit \#(exit)"#) { bridge in
                #expect(await failure { try await bridge.ping() }?.code == code)
            }
        }

        @Test func aLineThatIsTooLong() async throws {
            let script = "greet; hear; head -c 300000 /dev/zero | tr '\\0' x; say; sleep 1000"
            try await withFake(script, configure: { $0.lineBytes = 100_000 }) { bridge in
                #expect(await failure { try await bridge.ping() }?.code == .protocolError)
            }
        }

        @Test func anotherProtocol() async throws {
            let script = "hear; say '\(greeting.replacingOccurrences(of: "jsonl-v1", with: "jsonl-v9"))'; sleep 1000"
            try await withFake(script) { bridge in
                #expect(await failure { try await bridge.open() }?.code == .protocolUnsupported)
                #expect(await bridge.state == .failed)
            }
        }

        @Test func aGreetingThatIsRefused() async throws {
            let code = #""code":"internal_error","message":"","retryable":false,"data":{}"#
            let refusal = #"{"type":"error","id":"c1",\#(code)}"#
            try await withFake("hear; say '\(refusal)'; sleep 1000") { bridge in
                #expect(await failure { try await bridge.open() }?.code == .protocolError)
            }
        }
    }
}
