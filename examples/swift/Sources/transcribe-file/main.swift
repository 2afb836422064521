// Transcribes sound files with one bridge.
//
//   swift run transcribe-file scripts/qwen3-asr-mlx-bridge demo examples/audio/sample.wav

import Foundation
import Qwen3ASRBridge

let usage = """
    usage: transcribe-file BRIDGE MODEL AUDIO...
      BRIDGE  the program that is started: a path, or a command on PATH
      MODEL   its --model: a name, a folder, or demo
    example: transcribe-file scripts/qwen3-asr-mlx-bridge demo examples/audio/sample.wav
    """

func complain(_ message: String) {
    FileHandle.standardError.write(Data("\(message)\n".utf8))
}

/// The number of files that could not be transcribed.
func transcribe(_ paths: some Sequence<String>, with bridge: Bridge) async throws -> Int {
    var failures = 0
    for path in paths {
        do {
            let transcript = try await bridge.transcribe(path)
            print("\(path): \(transcript.text)")
        } catch let error as BridgeError where error.code == .requestFailed {
            complain("\(path): \(error.message)")  // of this file alone
            failures += 1
        }
    }
    return failures
}

/// How far a download or a load has come.
func showProgress(of bridge: Bridge) async {
    for await case .progress(let progress) in bridge.events {
        guard let done = progress.done, let total = progress.total, total > 0 else { continue }
        complain("\(progress.stage): \(100 * done / total) %")
    }
}

let arguments = CommandLine.arguments.dropFirst()
if arguments.contains("--help") {
    print(usage)
    exit(0)
}
guard arguments.count >= 3 else {
    complain(usage)
    exit(2)
}
let bridge = Bridge(arguments[1], arguments: ["--model", arguments[2]])
let progress = Task { await showProgress(of: bridge) }
do {
    let failures = try await transcribe(arguments.dropFirst(2), with: bridge)
    await bridge.stop()
    await progress.value
    exit(failures == 0 ? 0 : 1)
} catch {
    complain(error.localizedDescription)
    await bridge.kill()
    exit(1)
}
