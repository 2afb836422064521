/// How often a bridge may be lost before it is given up.
struct RestartRule {
    private let limit: Int
    private let window: Duration
    private var losses: [ContinuousClock.Instant] = []

    init(_ configuration: BridgeConfiguration) {
        limit = configuration.restarts
        window = configuration.restartWindow
    }

    var lastLoss: ContinuousClock.Instant? { losses.last }

    /// `loss` itself, or that it was one too many.
    mutating func judge(_ loss: BridgeError, at now: ContinuousClock.Instant) -> BridgeError {
        losses.removeAll { $0.duration(to: now) > window }
        losses.append(now)
        return loss.retryable && losses.count > limit ? .restartLimit(loss) : loss
    }

    mutating func reset() { losses = [] }
}
