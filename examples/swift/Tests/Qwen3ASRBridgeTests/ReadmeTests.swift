import Foundation
import Testing

@testable import Qwen3ASRBridge

extension WithChildren {
    struct ReadmeTests {
        @Test func theExampleOfTheReadmeHearsAMicrophone() async throws {
            let pcm = try Data(contentsOf: URL(fileURLWithPath: recording)).dropFirst(44)
            let samples = pcm.withUnsafeBytes { Array($0.bindMemory(to: Int16.self)) }
            let (microphone, speech) = AsyncStream.makeStream(of: [Int16].self)
            for start in stride(from: 0, to: samples.count, by: 1600) {
                speech.yield(Array(samples[start..<min(start + 1600, samples.count)]))
            }
            speech.finish()
            let (texts, heard) = AsyncStream.makeStream(of: String.self)
            let bridge = Bridge(demo())
            let shown = Task { await display(bridge) { heard.yield($0) } }
            try await listen(to: microphone, with: bridge)
            await shown.value
            heard.finish()
            var last: String?
            for await text in texts { last = text }
            #expect(last == recordingText)
            #expect(await bridge.state == .stopped)
        }
    }
}

// The examples of README.md, word for word.

func display(_ bridge: Bridge, show: @Sendable (String) -> Void) async {
    for await event in bridge.events {
        switch event {
        case .partialResult(let partial): show("\(partial.text) …")
        case .realtimeBatchFinal(let batch): for item in batch.items { show(item.text ?? "") }
        case .bridgeLost(let error, _, _): show(error.message)
        default: break
        }
    }
}

func listen(to microphone: AsyncStream<[Int16]>, with bridge: Bridge) async throws {
    let stream = try await bridge.startStream(
        Wire.StartStream(sampleRate: 16000, batchSize: 1, autoFlush: true, partials: true))
    for await samples in microphone { try await stream.append(samples) }
    _ = try await stream.endUtterance()
    await bridge.stop()
}
