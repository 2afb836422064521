import Foundation

extension Bridge {
    func hear(_ output: Child.Output, from number: Int) {
        guard connection?.number == number else { return }
        switch output {
        case .line(let line): hear(line, number)
        case .overflow: blame(.garbled(line: lineCount + 1, "a line is too long"), number)
        case .pipeClosed: killSoon(number)
        case .ended(let exit, let hasHalfLine): end(exit, hasHalfLine: hasHalfLine)
        }
    }

    private var lineCount: Int { connection?.lineCount ?? 0 }

    private func hear(_ line: Data, _ number: Int) {
        connection?.lineCount += 1
        connection?.life.heard(.now)
        guard connection?.blamed == nil, !line.allSatisfy(isBlank) else { return }
        guard let message = try? Line.parse(line) else {
            return blame(.garbled(line: lineCount, "a line is no message"), number)
        }
        switch message {
        case .event(let event):
            connection?.words.take(event)
            unread.put(Event(kept?.received(event) ?? event))
        case .reply(.fatal(let fatal), _):
            connection?.fatal = fatal
            killSoon(number)
        case .reply(let reply, let id): answer(reply, id)
        }
    }

    private func answer(_ heard: Wire.Reply, _ id: Wire.ID?) {
        let (reply, refused) = kept?.received(heard, id) ?? (heard, nil)
        if let refused {
            unread.put(.utteranceLost(refused.error, streamID: refused.streamID, utteranceID: refused.utteranceID))
        }
        if case .stopped(let stopped) = reply { self.stopped = stopped }
        if let id, let pending = connection?.pending.removeValue(forKey: id) {
            pending.resume(returning: reply)
        } else if case .unknown(let message) = reply, id == nil {
            unread.put(.unknown(message))
        } else if kept != nil, case .realtimeBatchFinal(let batch) = reply {
            unread.put(.realtimeBatchFinal(batch))  // of a boundary that another process has answered
        } else if let id {
            discard(reply, to: id)
        }
    }

    /// It is killed, and that is why.
    func blame(_ error: BridgeError, _ number: Int) {
        guard connection?.number == number, connection?.blamed == nil else { return }
        connection?.blamed = error
        connection?.child.signalGroup(SIGKILL)
    }

    /// It closed a pipe, or said that it ends: either it does, or it is ended.
    private func killSoon(_ number: Int) {
        guard connection?.isAskedToEnd == false else { return }
        let grace = configuration.grace
        Task { [weak self] in
            try? await Task.sleep(for: grace)
            await self?.killForItsPipe(number)
        }
    }

    private func killForItsPipe(_ number: Int) {
        guard connection?.number == number, connection?.isAskedToEnd == false else { return }
        connection?.isKilledForItsPipe = true
        connection?.child.signalGroup(SIGKILL)
    }

    // Signs of life

    /// Looks after the process as long as something waits.
    func keepWatch() {
        guard watch == nil else { return }
        watch = Task { [weak self] in
            while !Task.isCancelled, let pause = await self?.look() {
                try? await Task.sleep(for: pause, clock: .suspending)
            }
        }
    }

    func watchAnew() {
        watch?.cancel()
        watch = nil
        keepWatch()
    }

    /// When to look again; nil: no need to. Once it was asked to end it may be silent until the deadline of that.
    private func look() -> Duration? {
        guard let child = connection?.child, let number = connection?.number, connection?.isAskedToEnd == false
        else { return nil }
        let isAsked = connection?.pending.isEmpty == false
        switch connection?.life.look(.now, isAsked: isAsked, stuckSince: child.unwritten.stuckSince) {
        case .fine(let pause?): return pause
        case .ping:
            tell(Wire.Ping())
            return .zero
        case .hung(let message):
            blame(.hung(message), number)
            return nil
        case .fine(nil), nil:
            watch = nil
            return nil
        }
    }

    /// A request whose reply nobody waits for.
    func tell(_ message: some BridgeRequest) {
        guard let id = connection?.newID() else { return }
        var message = message
        message.id = id
        guard let line = try? message.line(), let kept = try? keep(line) else { return }
        connection?.child.write(kept)
    }
}

private func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 || byte == 0x0D }
