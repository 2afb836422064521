import Foundation

#if canImport(Darwin)
    private let newSession = Int16(POSIX_SPAWN_SETSID)
    private let onlyTheseDescriptors = Int16(POSIX_SPAWN_CLOEXEC_DEFAULT)
    private func emptyAttributes() -> posix_spawnattr_t? { nil }
    private func emptyActions() -> posix_spawn_file_actions_t? { nil }
#else
    private let newSession: Int16 = 0x80  // POSIX_SPAWN_SETSID, which glibc hides
    private let onlyTheseDescriptors: Int16 = 0  // ours are closed on exec
    private func emptyAttributes() -> posix_spawnattr_t { posix_spawnattr_t() }
    private func emptyActions() -> posix_spawn_file_actions_t { posix_spawn_file_actions_t() }
#endif

/// A process that leads a session of its own, and our ends of its three pipes, which no other child inherits.
///
/// `Process` of Foundation is not used: it makes no session, and does not tell why a program could not be started.
struct Spawned {
    let pid: pid_t
    let input: Int32
    let output: Int32
    let errors: Int32

    init(_ configuration: BridgeConfiguration) throws(BridgeError) {
        let environment = configuration.environment ?? ProcessInfo.processInfo.environment
        let path = try Executable.find(configuration.bridge, path: environment["PATH"])
        let pipes = try Pipes()
        defer { pipes.closeTheirs() }
        let arguments = [configuration.bridge] + withParent(configuration.arguments)
        let (failure, pid) = pipes.spawn(path, arguments, environment.map { "\($0)=\($1)" })
        guard failure == 0 else {
            pipes.closeOurs()
            throw Self.error(failure, configuration.bridge)
        }
        (self.pid, input, output, errors) = (pid, pipes.input.write, pipes.output.read, pipes.errors.read)
    }

    /// It is there, and may be executed: so ENOENT speaks of the interpreter that its first line names.
    private static func error(_ failure: Int32, _ bridge: String) -> BridgeError {
        if [ENOENT, EACCES, ENOEXEC, ENOTDIR].contains(failure) { return Executable.notExecutable(bridge) }
        return .notStarted(failure)
    }
}

/// Named before it starts: where this process dies early, the bridge sees only whoever adopts it.
private func withParent(_ arguments: [String]) -> [String] {
    let option = "--parent-pid"
    let isNamed = arguments.contains { $0 == option || $0.hasPrefix("\(option)=") }
    return isNamed ? arguments : arguments + [option, String(getpid())]
}

extension BridgeError {
    static func notStarted(_ failure: Int32) -> BridgeError {
        let reason = String(cString: strerror(failure))
        return BridgeError(.bridgeStartFailed, "The speech bridge could not be started: \(reason).")
    }
}

private struct Pipes {
    let input: PipeEnds
    let output: PipeEnds
    let errors: PipeEnds

    init() throws(BridgeError) {
        input = try PipeEnds()
        do { output = try PipeEnds() } catch {
            input.closeBoth()
            throw error
        }
        do { errors = try PipeEnds() } catch {
            input.closeBoth()
            output.closeBoth()
            throw error
        }
        #if canImport(Darwin)
            _ = fcntl(input.write, F_SETNOSIGPIPE, 1)
        #endif
        for end in [input.write, output.read, errors.read] { _ = fcntl(end, F_SETFL, O_NONBLOCK) }
    }

    func closeTheirs() { for end in [input.read, output.write, errors.write] { close(end) } }

    func closeOurs() { for end in [input.write, output.read, errors.read] { close(end) } }

    /// 0, or an `errno`.
    func spawn(_ path: String, _ arguments: [String], _ environment: [String]) -> (failure: Int32, pid: pid_t) {
        var attributes = emptyAttributes()
        var actions = emptyActions()
        posix_spawnattr_init(&attributes)
        posix_spawn_file_actions_init(&actions)
        defer {
            posix_spawnattr_destroy(&attributes)
            posix_spawn_file_actions_destroy(&actions)
        }
        // What this app ignores or holds back, the bridge has to hear: its end comes by these signals.
        var standard = sigset_t()
        var blocked = sigset_t()
        sigemptyset(&blocked)
        sigemptyset(&standard)
        for signal in [SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGQUIT] { sigaddset(&standard, signal) }
        posix_spawnattr_setsigdefault(&attributes, &standard)
        posix_spawnattr_setsigmask(&attributes, &blocked)
        let flags = Int16(POSIX_SPAWN_SETSIGDEF) | Int16(POSIX_SPAWN_SETSIGMASK)
        posix_spawnattr_setflags(&attributes, flags | newSession | onlyTheseDescriptors)
        for (end, descriptor) in [(input.read, 0), (output.write, 1), (errors.write, 2)] as [(Int32, Int32)] {
            posix_spawn_file_actions_adddup2(&actions, end, descriptor)
        }
        var pid: pid_t = 0
        let failure = withCStrings(arguments) { arguments in
            withCStrings(environment) { posix_spawn(&pid, path, &actions, &attributes, arguments, $0) }
        }
        return (failure, pid)
    }
}

private typealias CStrings = UnsafePointer<UnsafeMutablePointer<CChar>?>

private func withCStrings<Result>(_ strings: [String], _ body: (CStrings) -> Result) -> Result {
    let copies = strings.map { strdup($0) } + [nil]
    defer { for copy in copies { free(copy) } }
    return copies.withUnsafeBufferPointer { buffer in
        var none: UnsafeMutablePointer<CChar>?
        return withUnsafePointer(to: &none) { body(buffer.baseAddress ?? $0) }
    }
}
