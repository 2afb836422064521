import Foundation

extension Bridge {
    /// Finishes what was asked, or with `.abort` does not, and ends the process. Returns when it has ended; nil where
    /// it no longer said what became of its work. Cancelling the task changes nothing.
    @discardableResult
    public func stop(mode: Wire.Stop.Mode = .drain, deadlineMs: Int = 10_000) async -> Wire.Stopped? {
        guard let child = connection?.child else {
            stopAtOnce()
            return nil
        }
        if state != .stopping {
            beginToStop()
            tell(Wire.Stop(mode: mode, deadlineMs: deadlineMs))
            child.closeInput()
            climb(child, after: .milliseconds(deadlineMs) + configuration.grace)
        }
        await ended()
        return stopped
    }

    /// Ends the process group at once.
    public func kill() async {
        guard let child = connection?.child else { return stopAtOnce() }
        beginToStop()
        child.signalGroup(SIGKILL)
        await ended()
    }

    private func beginToStop() {
        state = .stopping
        stopped = nil
        connection?.isAskedToEnd = true
        refuseOpeners()
    }

    private func climb(_ child: Child, after patience: Duration) {
        let grace = configuration.grace
        ladder = Task {
            try? await Task.sleep(for: patience)
            guard !Task.isCancelled else { return }
            child.signalGroup(SIGTERM)
            try? await Task.sleep(for: grace)
            guard !Task.isCancelled else { return }
            child.signalGroup(SIGKILL)
        }
    }
}
