import Foundation

/// 16-bit PCM of one channel, as a WAV file holds it.
struct WAV {
    let sampleRate: Int
    let pcm16: Data

    struct Unreadable: LocalizedError {
        let path: String
        var errorDescription: String? { "not a WAV file of 16-bit PCM in one channel: \(path)" }
    }

    init(path: String) throws {
        let file = try Data(contentsOf: URL(fileURLWithPath: path))
        var format: Data?
        var samples: Data?
        var rest = file.dropFirst(12)  // RIFF, its size, WAVE
        while rest.count >= 8, samples == nil {
            let size = rest.number(at: 4, bytes: 4)
            let body = rest.dropFirst(8).prefix(size)
            if rest.starts(with: Data("fmt ".utf8)) { format = body }
            if rest.starts(with: Data("data".utf8)) { samples = body }
            rest = rest.dropFirst(8 + size + size % 2)
        }
        guard file.starts(with: Data("RIFF".utf8)), let format, let samples, format.count >= 16,
            format.number(at: 0, bytes: 2) == 1, format.number(at: 2, bytes: 2) == 1,
            format.number(at: 14, bytes: 2) == 16
        else { throw Unreadable(path: path) }
        sampleRate = format.number(at: 4, bytes: 4)
        pcm16 = samples.prefix(samples.count / 2 * 2)
    }

    func chunks(seconds: Double) -> [Data] {
        let size = max(1, Int(seconds * Double(sampleRate))) * 2
        return stride(from: 0, to: pcm16.count, by: size).map { Data(pcm16.dropFirst($0).prefix(size)) }
    }
}

extension Data {
    /// Little-endian. `at` counts from the start of this slice.
    fileprivate func number(at place: Int, bytes: Int) -> Int {
        dropFirst(place).prefix(bytes).reversed().reduce(0) { $0 << 8 | Int($1) }
    }
}
