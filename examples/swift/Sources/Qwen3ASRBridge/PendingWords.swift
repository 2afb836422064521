/// Finals that one process has delivered with `words_pending`, whose `words_ready` is still to come.
struct PendingWords: Sendable {
    /// By their jobs.
    private var finals: [Int: Wire.FinalResult] = [:]

    /// Notes an event of the process.
    mutating func take(_ event: Wire.Event) {
        switch event {
        case .wordsReady(let words): finals[words.job] = nil
        case .realtimeBatchFinal(let batch):
            for item in batch.items where item.wordsPending == true { finals[item.job] = item }
        default: break
        }
    }

    /// The process is gone: the events in place of those that it owes.
    func lost(_ error: BridgeError) -> [Wire.WordsReady] {
        let why = Wire.ItemError(code: Wire.ErrorCode(rawValue: error.code.rawValue), message: error.message)
        return finals.values.sorted { $0.job < $1.job }.map { final in
            Wire.WordsReady(
                event: true, n: 0, job: final.job, streamID: final.streamID, utteranceID: final.utteranceID,
                warnings: [], error: why)
        }
    }
}
