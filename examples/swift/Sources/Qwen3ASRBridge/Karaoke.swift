/// A word of a line that is sung along, with what is between it and the next.
public struct KaraokeWord: Equatable, Sendable {
    public let text: String
    public let isCurrent: Bool
}

/// The words of a result with this `text`. The current one is said `seconds` from the first sample; in a pause none is.
public func karaoke(_ text: String, _ words: [Wire.Word], at seconds: Double) -> [KaraokeWord] {
    let characters = Array(text.unicodeScalars)  // which the ranges of words count
    let current = words.lastIndex { $0.start <= seconds && seconds < $0.end }
    return words.enumerated().map { place, word in
        var text = String.UnicodeScalarView()
        let start = min(max(0, word.charStart), characters.count)  // also where the words are of another text
        text.append(contentsOf: characters[start..<max(start, min(word.charEnd, characters.count))])
        return KaraokeWord(text: String(text), isCurrent: place == current)
    }
}
