import Foundation

/// Whatever keeps the bridge from doing what it was asked. `message` is one sentence that can be shown to a user; none
/// holds a transcript or audio. A cancelled task gets a `CancellationError` instead.
public struct BridgeError: Error, Equatable, Sendable {
    public enum Code: String, Sendable {
        case bridgeNotFound = "bridge_not_found"
        case bridgeNotExecutable = "bridge_not_executable"
        case bridgeStartFailed = "bridge_start_failed"
        case bridgeExited = "bridge_exited"
        case bridgeFatal = "bridge_fatal"
        case bridgeHung = "bridge_hung"
        case bridgePipeClosed = "bridge_pipe_closed"
        case protocolError = "protocol_error"
        case protocolUnsupported = "protocol_unsupported"
        case restartLimit = "restart_limit"
        case bridgeClosed = "bridge_closed"
        case requestTimeout = "request_timeout"
        case requestFailed = "request_failed"
    }

    public let code: Code
    public let message: String
    public var retryable = false
    /// How the process ended, where it did.
    public var exit: Exit?
    /// The last lines that it wrote there: for a log.
    public var stderr: [String] = []
    /// Of the `fatal` line.
    public var fatalCode: Wire.ErrorCode?
    /// Of the `error` reply, as `data`.
    public var wireCode: Wire.ErrorCode?
    public var data: [String: JSONValue] = [:]
    /// Of the line that is none, counted from 1.
    public var position: Int?
    /// The last loss, where the limit of restarts is reached.
    public var cause: BridgeError? { nestedCause?.value }

    var nestedCause: Nested<BridgeError>?

    init(_ code: Code, _ message: String, retryable: Bool = false) {
        self.code = code
        self.message = message
        self.retryable = retryable
    }
}

extension BridgeError: LocalizedError {
    public var errorDescription: String? { message }
}

extension BridgeError {
    static let closed = BridgeError(.bridgeClosed, "The speech bridge is not running.")
    static let timedOut = BridgeError(.requestTimeout, "The speech bridge did not answer in time.", retryable: true)
    static let unsupported = BridgeError(
        .protocolUnsupported, "The speech bridge speaks another protocol than this app.")
    static let pipeClosed = BridgeError(
        .bridgePipeClosed, "The speech bridge closed its pipes and did not end.", retryable: true)

    static func hung(_ message: String) -> BridgeError { BridgeError(.bridgeHung, message, retryable: true) }

    static var duplicateID: BridgeError {
        var error = BridgeError(.requestFailed, "A request with this id is in flight.")
        error.wireCode = .duplicateID
        return error
    }

    static var notJSON: BridgeError {
        var error = BridgeError(.requestFailed, "Expected finite numbers in the request, which JSON can hold.")
        error.wireCode = .invalidParams
        return error
    }

    static func lineTooLong(_ limit: Int) -> BridgeError {
        var error = BridgeError(.requestFailed, "The request is longer than \(limit) bytes.")
        error.wireCode = .lineTooLong
        error.data = ["limit": .integer(limit)]
        return error
    }

    static func failed(_ reply: Wire.ErrorReply) -> BridgeError {
        var error = BridgeError(.requestFailed, reply.message, retryable: reply.retryable)
        error.wireCode = reply.code
        error.data = reply.data
        return error
    }

    static func garbled(line: Int, _ problem: String) -> BridgeError {
        var error = BridgeError(.protocolError, "The speech bridge said something wrong: \(problem).", retryable: true)
        error.position = line
        return error
    }

    static func fatal(_ fatal: Wire.Fatal, exit: Exit) -> BridgeError {
        var error = BridgeError(.bridgeFatal, fatal.message, retryable: fatal.retryable || !exit.isFinal)
        error.fatalCode = fatal.code
        return error
    }

    static func exited(_ exit: Exit) -> BridgeError {
        BridgeError(.bridgeExited, "The speech bridge ended unexpectedly (\(exit)).", retryable: !exit.isFinal)
    }

    static func restartLimit(_ loss: BridgeError) -> BridgeError {
        var error = BridgeError(.restartLimit, "The speech bridge ended too often. The last time: \(loss.message)")
        error.nestedCause = .one(loss)
        error.exit = loss.exit
        error.stderr = loss.stderr
        return error
    }
}
