import Foundation

/// The last of what was said on stderr.
final class StderrRing: @unchecked Sendable {  // `lock` guards `bytes`
    private let lock = NSLock()
    private let limit: Int
    private var bytes = Data()

    init(limit: Int) { self.limit = limit }

    func add(_ block: UnsafeRawBufferPointer) {
        lock.withLock {
            bytes.append(contentsOf: block)
            if bytes.count > 2 * limit { bytes = Data(bytes.suffix(limit)) }
        }
    }

    var lines: [String] {
        let kept = lock.withLock { bytes.suffix(limit) }
        let text = String(decoding: kept, as: UTF8.self)
        return text.split(whereSeparator: \.isNewline).map(String.init)
    }
}
