import Foundation
import Testing

@testable import Qwen3ASRBridge

/// The Python in which the stand-ins for the engine run; scripts/test-swift names it.
private let python = ProcessInfo.processInfo.environment["QWEN3_ASR_MLX_TEST_PYTHON"]

extension WithChildren {
    struct Scenarios {
        @Test(.enabled(if: python != nil, "scripts/test-swift names the Python of the stand-ins"))
        func thereAreScenarios() { #expect(Scenario.names.count > 50) }

        @Test(arguments: Scenario.names)
        func theBridgePlaysTheScenario(name: String) async throws {
            let scenario = try Scenario(name)
            guard let configuration = configuration(of: scenario) else { return }
            try await withFolder { folder in
                let speech = folder.appending(path: "speech.wav")
                try wav(samples: 8000).write(to: speech)
                try wav(pcm: Data(count: 2 * 60 * 16_000)).write(to: folder.appending(path: "minute.wav"))
                var player = try Player(configuration, speech: speech.path)
                try await player.play(scenario)
            }
        }

        @Test func aLineThatDoesNotFitIsSeen() async throws {
            let text = #"{"title":"","engine":"demo","steps":[{"send":{"type":"ping"}},{"expect":{"type":"status"}}]}"#
            let scenario = try JSONDecoder().decode(Scenario.self, from: Data(text.utf8))
            var player = try Player(demo(), speech: "")
            await #expect(throws: Mismatch.self) { try await player.play(scenario) }
        }

        /// nil: without that Python the stand-ins cannot be started.
        private func configuration(of scenario: Scenario) -> BridgeConfiguration? {
            var configuration = demo()
            if scenario.engine != "demo" {
                guard let python else { return nil }
                configuration.bridge = python
                let start = "import sys; sys.path[:0] = sys.argv[1:3]; del sys.argv[1:3]"
                let main = "from conformance.engines import main; main(sys.argv.pop(1))"
                configuration.arguments = ["-c", "\(start); \(main)", path("src"), path("tests"), scenario.engine]
            }
            configuration.arguments += scenario.options ?? []
            return configuration
        }
    }
}

/// Half a second or so of a tone, at 16 kHz.
func wav(samples count: Int) -> Data {
    let samples = (0..<count).map { Int16(8000 * sin(Double($0) * 0.2)).littleEndian }
    return wav(pcm: samples.withUnsafeBytes { Data($0) })
}

/// 16 bits, at 16 kHz.
func wav(pcm: Data) -> Data {
    func number(_ value: Int, _ bytes: Int) -> [UInt8] { (0..<bytes).map { UInt8(value >> (8 * $0) & 0xFF) } }
    var file = Data("RIFF".utf8) + number(36 + pcm.count, 4)
    file += Data("WAVEfmt ".utf8) + number(16, 4) + number(1, 2) + number(1, 2) + number(16000, 4)
    file += number(32000, 4) + number(2, 2) + number(16, 2) + Data("data".utf8) + number(pcm.count, 4)
    return file + pcm
}
