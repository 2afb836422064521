import Foundation

/// How a process ended: by a `code` or by a `signal`; the other is nil. Both are where somebody else waited for it.
public struct Exit: Equatable, Sendable {
    public let code: Int?
    public let signal: Int?

    /// From what `waitpid` tells.
    init(status: Int32) {
        let signal = Int(status & 0x7F)
        self.init(code: signal == 0 ? Int(status >> 8 & 0xFF) : nil, signal: signal == 0 ? nil : signal)
    }

    init(code: Int? = nil, signal: Int? = nil) {
        self.code = code
        self.signal = signal
    }

    public var name: String {
        let names = code == nil ? Self.signalNames : Self.codeNames
        return (code ?? signal).flatMap { names[$0] } ?? "unknown"
    }

    /// To start it again would not help.
    var isFinal: Bool { code.map { [0, 2, 5, 126, 127, 130, 143].contains($0) } ?? false }

    private static let codeNames = [
        0: "done",
        1: "internal_error",
        2: "environment",
        4: "engine_lost",
        5: "parent_gone",
        126: "not_executable",
        127: "not_found",
        130: "interrupted",
        143: "terminated",
    ]

    private static let signalNames = [
        Int(SIGHUP): "SIGHUP", Int(SIGINT): "SIGINT", Int(SIGQUIT): "SIGQUIT", Int(SIGILL): "SIGILL",
        Int(SIGTRAP): "SIGTRAP", Int(SIGABRT): "SIGABRT", Int(SIGBUS): "SIGBUS", Int(SIGFPE): "SIGFPE",
        Int(SIGKILL): "SIGKILL", Int(SIGSEGV): "SIGSEGV", Int(SIGSYS): "SIGSYS", Int(SIGPIPE): "SIGPIPE",
        Int(SIGALRM): "SIGALRM", Int(SIGTERM): "SIGTERM", Int(SIGXCPU): "SIGXCPU", Int(SIGXFSZ): "SIGXFSZ",
    ]
}

extension Exit: CustomStringConvertible {
    public var description: String {
        if let signal { return "signal \(signal), \(name)" }
        return code.map { "exit code \($0), \(name)" } ?? "nobody knows how"
    }
}
