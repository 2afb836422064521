import Foundation
import Testing

@testable import Qwen3ASRBridge

/// A conversation as data; tests/scenarios/README.md says what one may hold.
struct Scenario: Decodable {
    let title: String
    let engine: String
    let options: [String]?
    let steps: [[String: JSONValue]]

    init(_ name: String) throws {
        let file = repository.appending(path: "tests/scenarios/\(name).json")
        self = try JSONDecoder().decode(Scenario.self, from: Data(contentsOf: file))
    }

    static let names: [String] = {
        let folder = repository.appending(path: "tests/scenarios").path
        let files = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return files.filter { $0.hasSuffix(".json") }.map { String($0.dropLast(".json".count)) }.sorted()
    }()
}

/// Something that a scenario does not allow.
struct Mismatch: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// Plays a scenario with one process. What is sent is the scenario's own, so no actor stands between.
struct Player {
    private let child: Child
    private var output: AsyncStream<Child.Output>.Iterator
    private let speech: String
    private(set) var exit: Exit?

    init(_ configuration: BridgeConfiguration, speech: String) throws {
        child = try Child(configuration)
        output = child.output.makeAsyncIterator()
        self.speech = speech
    }

    mutating func play(_ scenario: Scenario) async throws {
        defer { child.signalGroup(SIGKILL) }
        for (place, step) in scenario.steps.enumerated() {
            do { try await play(step) } catch {
                throw Mismatch("step \(place + 1) \(step.keys.sorted()): \(error); stderr: \(child.stderr.lines)")
            }
        }
    }

    private mutating func play(_ step: [String: JSONValue]) async throws {
        if let message = step["send"] { return try send(filled(message), times: step["repeat"]) }
        if case .string(let text) = step["send_text"] { return send(text, times: count(step["times"])) }
        if case .string(let text) = step["send_unended"] { return child.write(Data(text.utf8)) }
        if case .string(let digits) = step["send_hex"] { return child.write(bytes(digits) + [newline]) }
        if let expected = step["expect"] { return try await expect(filled(expected), times: step["repeat"]) }
        if case .array(let expected) = step["expect_in_any_order"] { return try await expectAll(expected.map(filled)) }
        if step["close"] != nil { return child.closeInput() }
        if case .string(let name) = step["signal"] { return child.signalGroup(name == "SIGINT" ? SIGINT : SIGTERM) }
        if case .integer(let code) = step["exit"] { return try await expectExit(code) }
        throw Mismatch("no such step")
    }

    private func send(_ text: String, times: Int) {
        child.write(Data(String(repeating: text, count: times).utf8) + [newline])
    }

    private func send(_ message: JSONValue, times: JSONValue?) throws {
        guard case .object(let members) = message else { throw Mismatch("no message") }
        for n in 1...count(times) {
            child.write(try members.mapValues { $0 == .string("$n") ? .integer(n) : $0 }.line())
        }
    }

    private mutating func expect(_ expected: JSONValue, times: JSONValue?) async throws {
        for _ in 1...count(times) {
            let line = try await nextLine()
            if let problem = mismatch(expected, line) { throw Mismatch(problem) }
        }
    }

    private mutating func expectAll(_ expected: [JSONValue]) async throws {
        var open = expected
        while !open.isEmpty {
            let line = try await nextLine()
            guard let place = open.firstIndex(where: { mismatch($0, line) == nil }) else {
                throw Mismatch("nothing expected fits: \(mismatch(open[0], line) ?? "")")
            }
            open.remove(at: place)
        }
    }

    private mutating func expectExit(_ code: Int) async throws {
        while let each = await output.next() {
            if case .line = each { throw Mismatch("another line came") }
            guard case .ended(let exit, _) = each else { continue }
            self.exit = exit
            if exit.code != code { throw Mismatch("expected exit code \(code), got \(exit)") }
        }
    }

    /// Of a type that is known, and with members that are.
    private mutating func nextLine() async throws -> JSONValue {
        while let each = await output.next() {
            guard case .line(let line) = each else { continue }
            switch try Line.parse(line) {
            case .reply(.unknown, _), .event(.unknown): throw Mismatch("a message is not known")
            case .reply(let reply, _): try checkKept(line, reply)
            case .event(let event): try checkKept(line, event)
            }
            return try JSONDecoder().decode(JSONValue.self, from: line)
        }
        throw Mismatch("the output has ended")
    }

    /// What was said is in the types, but for members that are null.
    private func checkKept(_ line: Data, _ message: some Encodable) throws {
        let said = try JSONDecoder().decode(JSONValue.self, from: line).withoutNulls
        let kept = try JSONDecoder().decode(JSONValue.self, from: JSONEncoder().encode(message)).withoutNulls
        if let problem = mismatch(said, kept) { throw Mismatch("the types lost something: \(problem)") }
    }

    private func filled(_ value: JSONValue) -> JSONValue {
        switch value {
        case .array(let items): return .array(items.map(filled))
        case .object(let members): return .object(members.mapValues(filled))
        case .string("$speech"): return .string(speech)
        case .string("$minute"):
            return .string(URL(fileURLWithPath: speech).deletingLastPathComponent().appending(path: "minute.wav").path)
        case .string(let text) where text.hasPrefix("$pcm:"):
            return .string(Data(count: 2 * (Int(text.dropFirst("$pcm:".count)) ?? 0)).base64EncodedString())
        default: return value
        }
    }
}

private func count(_ value: JSONValue?) -> Int { if case .integer(let count) = value { count } else { 1 } }

private func bytes(_ hex: String) -> Data {
    let digits = Array(hex)
    let pairs = stride(from: 0, to: digits.count - 1, by: 2).map { String(digits[$0...$0 + 1]) }
    return Data(pairs.compactMap { UInt8($0, radix: 16) })
}

/// What does not fit, as a path and a reason. Members that are not expected are allowed.
func mismatch(_ expected: JSONValue, _ actual: JSONValue?, _ path: String = "$") -> String? {
    if expected == .string("$absent") { return actual == nil ? nil : "\(path): there" }
    guard let actual else { return "\(path): missing" }
    switch (expected, actual) {
    case (.string("…"), _): return nil
    case (.array(let expected), .array(let actual)) where expected.count == actual.count:
        let places = zip(expected, actual).enumerated()
        return places.lazy.compactMap { mismatch($1.0, $1.1, "\(path)[\($0)]") }.first
    case (.object(let expected), .object(let actual)):
        return expected.lazy.compactMap { mismatch($1, actual[$0], "\(path).\($0)") }.first
    case (.integer(let expected), .number): return mismatch(.number(Double(expected)), actual, path)
    case (.number, .integer(let actual)): return mismatch(expected, .number(Double(actual)), path)
    default: return expected == actual ? nil : "\(path): expected \(expected), got another"
    }
}

extension JSONValue {
    fileprivate var withoutNulls: JSONValue {
        switch self {
        case .array(let items): .array(items.map(\.withoutNulls))
        case .object(let members): .object(members.filter { $0.value != .null }.mapValues(\.withoutNulls))
        default: self
        }
    }
}
