import Foundation
import Testing

@testable import Qwen3ASRBridge

/// Tests that start processes, one after the other: a script that is being written cannot be started meanwhile, and a
/// copy of its descriptor goes to every child that is started then.
@Suite(.serialized, .timeLimit(.minutes(10)))
struct WithChildren {}

let repository = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()

func path(_ inRepository: String) -> String { repository.appending(path: inRepository).path }

/// The bridge itself, with the demonstration checkpoint.
func demo() -> BridgeConfiguration {
    var configuration = BridgeConfiguration(
        bridge: path("scripts/qwen3-asr-mlx-bridge"), arguments: ["--model", "demo", "--local-files-only"])
    configuration.openTimeout = .seconds(600)  // the first start makes the environment
    return configuration
}

let recording = path("examples/audio/sample.wav")
let recordingText = "Seven three one."

/// A folder that is gone after the test.
func withFolder<Result>(_ body: (URL) async throws -> Result) async throws -> Result {
    let folder = FileManager.default.temporaryDirectory.appending(path: "bridge-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    return try await body(folder)
}

@discardableResult
func write(_ text: String, to name: String, in folder: URL, mode: Int = 0o755) throws -> String {
    let file = folder.appending(path: name)
    try text.write(to: file, atomically: false, encoding: .utf8)
    try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: file.path)
    return file.path
}

/// A child in shell. `greet` answers `hello`; `id` has that of the last line that `hear` read. In `$folder` it may
/// leave marks. Every line that it hears is told on stderr.
func withFake(
    _ script: String, configure: (inout BridgeConfiguration) -> Void = { _ in },
    _ body: (Bridge) async throws -> Void
) async throws {
    try await withFolder { folder in
        let text = """
            #!/bin/sh
            folder='\(folder.path)'
            hear() {
                IFS= read -r line || return 1
                printf '%s\\n' "$line" >&2
                id=${line##*\\"id\\":\\"}
                id=${id%%\\"*}
            }
            greet() { hear && printf '%s\\n' '\(greeting)'; }
            say() { printf '%s\\n' "$1"; }
            \(script)
            """
        var configuration = BridgeConfiguration(bridge: try write(text, to: "fake", in: folder))
        configuration.grace = .milliseconds(300)
        configure(&configuration)
        let bridge = Bridge(configuration)
        do {
            try await body(bridge)
            await bridge.kill()
        } catch {
            await bridge.kill()
            throw error
        }
    }
}

/// What `body` fails with, where that is a `BridgeError`.
func failure<Value>(of body: () async throws -> Value) async -> BridgeError? {
    do {
        _ = try await body()
        Issue.record("it did not fail")
        return nil
    } catch {
        let failure = error as? BridgeError
        if failure == nil { Issue.record(error) }
        return failure
    }
}

/// That which `pong` is.
func expectAnswer(of bridge: Bridge) async throws {
    let answer = try await bridge.ping()
    #expect(answer.state == .ready)
    #expect(answer.uptimeS == 1.5)
}

func miss(_ what: String) { Issue.record(Comment(rawValue: what)) }

func wasCancelled<Value>(_ task: Task<Value, any Error>) async -> Bool {
    if case .failure(let error) = await task.result { error is CancellationError } else { false }
}

/// Lines of stderr, as they come.
struct Listener: Sendable {
    let lines: AsyncStream<String>
    private let heard: AsyncStream<String>.Continuation

    init() { (lines, heard) = AsyncStream.makeStream() }

    func listen(to configuration: inout BridgeConfiguration) {
        let heard = heard
        configuration.onStderr = { heard.yield($0) }
    }

    /// No more will be said.
    func end() { heard.finish() }

    /// The next line that holds all of these.
    func next(with parts: String...) async -> String? {
        await lines.first { line in parts.allSatisfy { line.contains($0) } }
    }
}

/// The limits that the schema requires: that of a line as it is, each other 1.
private let limits: String = {
    struct Definition: Decodable { let required: [String]? }
    struct Schema: Decodable {
        let definitions: [String: Definition]
        enum CodingKeys: String, CodingKey { case definitions = "$defs" }
    }
    do {
        let text = try Data(contentsOf: URL(fileURLWithPath: path("docs/protocol.schema.json")))
        let names = try JSONDecoder().decode(Schema.self, from: text).definitions["Limits"]?.required ?? []
        return names.map { #""\#($0)":\#($0 == "max_line_bytes" ? 8_388_608 : 1)"# }.joined(separator: ",")
    } catch {
        fatalError("docs/protocol.schema.json: \(error)")
    }
}()

/// Members as they are required, and one that is not known.
let greeting = """
    {"type":"capabilities","id":"c1","runtime":"qwen3-asr-mlx","version":"0","server":{"name":"fake","version":"0",\
    "pid":null},"session":null,"protocol":"qwen3-asr-mlx-jsonl-v1","protocols":["qwen3-asr-mlx-jsonl-v1"],\
    "model":"fake","aligner":"fake","sample_rate":16000,"audio_format":"","audio":{"formats":null,"stream_rates":{"minimum":8000,\
    "maximum":192000}},"vad_boundary_source":"external","use_cache":true,"decoder_modes":[],"messages":[],\
    "features":[],"want":["events","progress"],"error_codes":[],"languages":{},"limits":{\(limits)},\
    "models":{"efficiency":"","accuracy_candidate":""},"weather":{"of":"tomorrow"}}
    """

let pong = #"{"type":"pong","id":"'"$id"'","uptime_s":1.5,"state":"ready","busy_ms":null,"last_progress_ms_ago":null}"#

let streamReady = #"""
    {"type":"stream_ready","id":"'"$id"'","protocol":"qwen3-asr-mlx-jsonl-v1","stream_id":"mic","sample_rate":16000,\#
    "batch_size":4,"max_batch_delay_ms":120,"auto_flush":false,"decoder_mode":"sequential","on_limit":"refuse",\#
    "dropped_samples":0,"asr_backend":"mlx","vad_backend":"external-boundary","note":""}
    """#
