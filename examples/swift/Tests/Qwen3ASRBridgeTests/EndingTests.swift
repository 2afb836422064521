import Foundation
import Testing

@testable import Qwen3ASRBridge

extension WithChildren {
    /// How the child ends, and that nothing of it stays.
    struct EndingTests {
        @Test(arguments: [("", "SIGTERM"), ("trap '' TERM;", "SIGKILL")])
        func whatDoesNotStopIsSignalled(behaviour: String, signal: String) async throws {
            try await withFake("greet; \(behaviour) while :; do sleep 1; done") { bridge in
                try await bridge.open()
                #expect(await bridge.stop(deadlineMs: 100) == nil)
                #expect(await bridge.exit?.name == signal)
                #expect(await bridge.state == .stopped)
            }
        }

        @Test func whatItStartedEndsWithIt() async throws {
            let listener = Listener()
            let script = "greet; sleep 1000 & echo child $! >&2; hear; exit 1"
            try await withFake(script, configure: { listener.listen(to: &$0) }) { bridge in
                #expect(await failure { try await bridge.ping() }?.exit?.code == 1)
                let line = await listener.next(with: "child ")
                let pid = try #require(line.flatMap { Int32($0.dropFirst("child ".count)) })
                while kill(pid, 0) == 0, !isZombie(pid) { try await Task.sleep(for: .milliseconds(5)) }
            }
        }

        @Test func aBridgeThatNobodyHoldsIsKilledAndItsEventsEnd() async throws {
            try await withFolder { folder in
                let script = "#!/bin/sh\nread -r line\nprintf '%s\\n' '\(greeting)'\ntrap '' TERM\nexec sleep 1000\n"
                let program = try write(script, to: "fake", in: folder)
                let (pid, events) = try await opened(Bridge(program))
                for await event in events { Issue.record("\(event)") }
                while kill(pid, 0) == 0 { try await Task.sleep(for: .milliseconds(5)) }
            }
        }

        private func opened(_ bridge: Bridge) async throws -> (pid_t, AsyncStream<Bridge.Event>) {
            try await bridge.open()
            return (try #require(await bridge.pid), bridge.events)
        }

        @Test func whoIsAskedToEndMayBeSilentUntilTheDeadline() async throws {
            let script = "greet; hear; first=$id; hear; sleep 1; id=$first; say '\(pong)'"
            try await withFake(script, configure: { $0.hangTimeout = .milliseconds(200) }) { bridge in
                try await bridge.open()
                async let answer = bridge.ping()
                while await bridge.connection?.pending.isEmpty == true { await Task.yield() }
                await bridge.stop()
                #expect(try await answer.uptimeS == 1.5)
                #expect(await bridge.exit?.code == 0)
            }
        }

        @Test func aChildThatSomebodyElseWaitedForIsNotSignalled() throws {
            var pid: pid_t = 0
            var arguments: [UnsafeMutablePointer<CChar>?] = [strdup("true"), nil]
            #expect(posix_spawnp(&pid, "true", nil, nil, &arguments, nil) == 0)
            free(arguments[0])
            #expect(waitpid(pid, nil, 0) == pid)
            let group = ProcessGroup(leader: pid)
            group.waitForEnd()
            #expect(group.isReaped)
            #expect(group.reap() == Exit())
        }

        #if os(Linux)
            @Test func aPipeThatAnotherProcessHoldsKeepsNobodyWaiting() async throws {
                try await withFake("greet; setsid sleep 20 & hear; exit 1") { bridge in
                    #expect(await failure { try await bridge.ping() }?.exit?.code == 1)
                }
            }
        #endif
    }
}

/// Its parent, which is not this process, has not waited for it.
private func isZombie(_ pid: Int32) -> Bool {
    let status = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)
    return status?.contains(") Z ") ?? false
}
