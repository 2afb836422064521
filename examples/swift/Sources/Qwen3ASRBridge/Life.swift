/// When a process counts as hung: decisions alone, by the caller's clock, which stands still while the machine sleeps.
struct Life {
    typealias Instant = SuspendingClock.Instant

    enum Verdict: Equatable {
        /// Look again after so long; nil: nothing waits.
        case fine(Duration?)
        case ping
        case hung(String)
    }

    private let hangTimeout: Duration
    private var openUntil: Instant?
    private var heard: Instant
    private var hasPinged = false

    init(_ configuration: BridgeConfiguration, now: Instant) {
        hangTimeout = configuration.hangTimeout
        openUntil = now.advanced(by: configuration.openTimeout)
        heard = now
    }

    mutating func greeted(_ now: Instant) {
        openUntil = nil
        heard(now)
    }

    mutating func heard(_ now: Instant) {
        heard = now
        hasPinged = false
    }

    /// The first of what is owed now: until then it had no reason to speak.
    mutating func asked(_ now: Instant) { heard(now) }

    /// `isAsked`: a reply is owed. `stuckSince`: something waits to be written, and nothing was taken since then.
    mutating func look(_ now: Instant, isAsked: Bool, stuckSince: Instant?) -> Verdict {
        if let openUntil {
            let left = now.duration(to: openUntil)
            return left > .zero ? .fine(left) : .hung("The speech bridge did not start in time.")
        }
        let silence = isAsked ? heard.duration(to: now) : .zero
        let standstill = stuckSince.map { $0.duration(to: now) } ?? .zero
        if silence >= hangTimeout { return .hung("The speech bridge does not answer any more.") }
        if standstill >= hangTimeout { return .hung("The speech bridge does not take any more audio.") }
        if isAsked, !hasPinged, silence >= hangTimeout / 2 {
            hasPinged = true
            return .ping
        }
        guard isAsked || stuckSince != nil else { return .fine(nil) }
        let next = isAsked && !hasPinged ? hangTimeout / 2 - silence : hangTimeout - max(silence, standstill)
        return .fine(min(next, hangTimeout - standstill))
    }
}
