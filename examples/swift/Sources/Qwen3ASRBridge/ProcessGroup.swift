import Foundation

/// A process and what it started. Its number is never used once it may belong to another.
final class ProcessGroup: @unchecked Sendable {  // `lock` guards `isReaped`
    private let leader: pid_t
    private let lock = NSLock()
    private(set) var isReaped = false

    init(leader: pid_t) { self.leader = leader }

    func signal(_ number: Int32) {
        lock.withLock {
            guard !isReaped else { return }
            if kill(-leader, number) != 0 { kill(leader, number) }
        }
    }

    /// It is still there afterwards, as a zombie, so that its number stays its own. What it started ends with it.
    /// Where the app waits for every child, or ignores SIGCHLD, the number is nobody's any more.
    func waitForEnd() {
        var info = siginfo_t()
        while waitid(P_PID, id_t(leader), &info, WEXITED | WNOWAIT) != 0 {
            guard errno == EINTR else { return lock.withLock { isReaped = true } }
        }
        signal(SIGKILL)
    }

    func reap() -> Exit {
        lock.withLock {
            isReaped = true
            var status: Int32 = 0
            while waitpid(leader, &status, 0) < 0 {
                guard errno == EINTR else { return Exit() }
            }
            return Exit(status: status)
        }
    }
}
