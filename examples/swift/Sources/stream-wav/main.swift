// Streams a WAV file as if somebody spoke it now, and prints what is understood so far.
//
//   swift run stream-wav scripts/qwen3-asr-mlx-bridge demo examples/audio/sample.wav

import Foundation
import Qwen3ASRBridge

let usage = """
    usage: stream-wav BRIDGE MODEL WAV
    example: stream-wav scripts/qwen3-asr-mlx-bridge demo examples/audio/sample.wav
    """

func complain(_ message: String) {
    FileHandle.standardError.write(Data("\(message)\n".utf8))
}

/// Each text takes the place of the one before; `|` stands behind what is firm.
func show(_ event: Bridge.Event) {
    switch event {
    case .partialResult(let partial):
        let firm = partial.stableText ?? ""
        let isFirm = partial.text.hasPrefix(firm)
        print("… \(isFirm ? "\(firm)|\(partial.text.dropFirst(firm.count))" : partial.text)")
    case .realtimeBatchFinal(let batch):
        for item in batch.items { print(item.text ?? "failed: \(item.error?.message ?? "no text")") }
    case .streamError(let error): complain(error.message)
    case .bridgeLost(let error, _, _): complain(error.message)
    case .utteranceLost(let error, _, _): complain(error.message)
    case .engineRestarting(let restart): complain("the engine starts again (\(restart.reason)); nothing is lost")
    case .wordsReady, .progress, .eventsLost, .unknown: break
    }
}

/// Tenths of a second, each when a microphone would have it.
func speak(_ wav: WAV, to stream: Bridge.Stream) async throws {
    let start = ContinuousClock.now
    for (place, chunk) in wav.chunks(seconds: 0.1).enumerated() {
        try await Task.sleep(until: start + .milliseconds(100 * (place + 1)), clock: .continuous)
        try await stream.append(chunk, utteranceID: "speech")
    }
    _ = try await stream.endUtterance()
}

let arguments = CommandLine.arguments.dropFirst()
guard arguments.count == 3, !arguments.contains("--help") else {
    complain(usage)
    exit(arguments.contains("--help") ? 0 : 2)
}
let bridge = Bridge(arguments[1], arguments: ["--model", arguments[2]])
let display = Task { for await event in bridge.events { show(event) } }
do {
    let wav = try WAV(path: arguments[3])
    let stream = try await bridge.startStream(
        Wire.StartStream(sampleRate: wav.sampleRate, batchSize: 1, autoFlush: true, partials: true))
    try await speak(wav, to: stream)
    await bridge.stop()  // what was said is finished first
    await display.value
} catch {
    complain(error.localizedDescription)
    await bridge.kill()
    exit(1)
}
