import Testing

@testable import Qwen3ASRBridge

struct KaraokeTests {
    private let text = "Sí, 你好 🎙!"
    private let words = [("Sí,", 0.5, 1.0, 0, 4), ("你", 1.0, 1.2, 4, 5), ("好", 1.2, 1.4, 5, 7), ("🎙!", 2.0, 2.5, 7, 9)]
        .map { text, start, end, from, to in
            Wire.Word(text: text, start: start, end: end, charStart: from, charEnd: to, confidence: nil, timeConfidence: 1)
        }

    @Test(arguments: [(0.0, nil), (0.5, 0), (0.99, 0), (1.0, 1), (1.3, 2), (1.5, nil), (2.0, 3), (2.5, nil), (9.0, nil)])
    func theWordThatIsSaidIsCurrent(seconds: Double, current: Int?) {
        let line = karaoke(text, words, at: seconds)
        #expect(line.firstIndex(where: \.isCurrent) == current)
        #expect(line.filter(\.isCurrent).count == (current == nil ? 0 : 1))
        #expect(line.map(\.text) == ["Sí, ", "你", "好 ", "🎙!"])
        #expect(line.map(\.text).joined() == text)
    }

    @Test func ofTwoWordsAtOnceTheLaterOneIsCurrent() {
        var both = words
        both[0].end = 1.1
        #expect(karaoke(text, both, at: 1.05).map(\.isCurrent) == [false, true, false, false])
        #expect(karaoke("", [], at: 0) == [])
    }
}
