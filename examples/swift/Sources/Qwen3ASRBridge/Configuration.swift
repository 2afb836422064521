import Foundation

/// How the bridge is started, and the limits of docs/clients.md.
public struct BridgeConfiguration: Sendable {
    /// A path, or a command to be found on PATH.
    public var bridge: String
    public var arguments: [String]
    /// nil: the app's own.
    public var environment: [String: String]?
    public var client: Wire.Client?
    public var want = ["events", "progress"]
    /// From the start of the process to its answer to `hello`. More where a launcher may first install.
    public var openTimeout = Duration.seconds(60)
    /// How long it may be silent, or take nothing, while something waits.
    public var hangTimeout = Duration.seconds(20)
    /// After the deadline of a stop, after SIGTERM, and after it closed a pipe.
    public var grace = Duration.seconds(2)
    /// `append` waits while so much is not written.
    public var unwrittenBytes = 1 << 20
    /// A lost bridge is started again at once where something waits. It gets again the open streams, the requests
    /// without a reply and the utterances without an outcome.
    public var resend = false
    /// Of the audio that `resend` keeps, as it is sent.
    public var keptBytes = 64 << 20
    public var chunkMilliseconds = 100
    /// The longest line that is read.
    public var lineBytes = 64 << 20
    public var unreadEvents = 1024
    public var stderrBytes = 64 << 10
    public var restarts = 5
    public var restartWindow = Duration.seconds(180)
    public var enginePause = Duration.seconds(1)
    /// Told each line of stderr, on a thread of its own.
    public var onStderr: (@Sendable (String) -> Void)?

    public init(bridge: String, arguments: [String] = []) {
        self.bridge = bridge
        self.arguments = arguments
    }
}
