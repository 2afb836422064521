import Foundation

/// One line that the process wrote.
enum Line: Decodable, Sendable {
    case reply(Wire.Reply, id: Wire.ID?)
    case event(Wire.Event)

    private enum Key: CodingKey { case type, id, event }

    init(from decoder: any Decoder) throws {
        let head = try decoder.container(keyedBy: Key.self)
        if (try? head.decode(Bool.self, forKey: .event)) == true {
            self = .event(try Wire.Event(from: decoder))
        } else {
            let id = try? head.decode(Wire.ID.self, forKey: .id)
            self = .reply(try Wire.Reply(from: decoder), id: id)
        }
    }

    /// Fails where the line is no object with a `type`; any other is at least an `unknown` message.
    static func parse(_ line: Data) throws -> Line { try JSONDecoder().decode(Line.self, from: line) }
}

extension Encodable {
    /// With its newline. A newline within is escaped.
    func line() throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .withoutEscapingSlashes
        return try encoder.encode(self) + [newline]
    }
}

let newline: UInt8 = 0x0A

/// Cuts blocks of bytes into lines, at the newline byte and nowhere else: a block may end within a character, too.
struct LineSplitter {
    /// Whether a line was longer than this many bytes. It is not kept.
    private(set) var isOverflown = false
    /// Of a line that has begun and not ended.
    private(set) var rest = Data()
    private let limit: Int

    init(limit: Int) { self.limit = limit }

    var hasRest: Bool { !rest.isEmpty }

    /// Gives the lines that are whole now, without their newlines.
    mutating func feed(_ block: UnsafeRawBufferPointer, _ give: (Data) -> Void) {
        var start = 0
        while start < block.count, !isOverflown {
            let tail = UnsafeRawBufferPointer(rebasing: block[start...])
            let length = tail.firstNewline ?? tail.count
            isOverflown = rest.count + length > limit
            guard !isOverflown else { return rest.removeAll() }
            rest.append(contentsOf: tail[..<length])
            guard length < tail.count else { return }
            give(rest)
            rest = Data()
            start += length + 1
        }
    }
}

extension UnsafeRawBufferPointer {
    fileprivate var firstNewline: Int? {
        guard let base = baseAddress, let found = memchr(base, Int32(newline), count) else { return nil }
        return UnsafeRawPointer(found) - base
    }
}
