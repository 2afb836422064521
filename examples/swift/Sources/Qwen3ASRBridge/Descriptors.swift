import Foundation

struct PipeEnds {
    let read: Int32
    let write: Int32

    /// Both ends are closed on exec, and none is 0, 1 or 2: it could not become another of these.
    init() throws(BridgeError) {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw .notStarted(errno) }
        let moved = ends.map { fcntl($0, F_DUPFD_CLOEXEC, 3) }
        let failure = errno
        for end in ends { close(end) }
        (read, write) = (moved[0], moved[1])
        if moved.contains(-1) {
            closeBoth()
            throw .notStarted(failure)
        }
    }

    func closeBoth() { for end in [read, write] where end >= 0 { close(end) } }
}

/// The end of the process as something that can be polled beside a pipe: another process may hold the pipes open.
final class EndOfProcess: Sendable {
    /// Has hung up once the process has ended.
    var descriptor: Int32 { pipe.read }
    private let pipe: PipeEnds

    init() throws(BridgeError) { pipe = try PipeEnds() }

    /// Once.
    func tell() { close(pipe.write) }

    deinit { close(pipe.read) }
}

/// Gives blocks until the end of the output, or until the process has ended and what it wrote is read. Closes it.
func readBlocks(_ descriptor: Int32, _ end: EndOfProcess, _ take: (UnsafeRawBufferPointer) -> Void) {
    defer { close(descriptor) }
    let block = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 16)
    defer { block.deallocate() }
    while true {
        let count = read(descriptor, block.baseAddress, block.count)
        if count > 0 {
            take(UnsafeRawBufferPointer(rebasing: block[..<count]))
        } else if count == 0 || errno != EINTR && errno != EAGAIN {
            return
        } else if errno == EAGAIN, !wait(for: descriptor, POLLIN, or: end.descriptor) {
            return
        }
    }
}

/// Writes what is put in a queue, on a thread of its own, until its end or that of the process. Closes the pipe.
struct Writer {
    let descriptor: Int32
    let end: EndOfProcess
    let queue: WriteQueue

    func run() {
        // A write to a process that has gone is an error here, and no signal that ends the app.
        var broken = sigset_t()
        sigemptyset(&broken)
        sigaddset(&broken, SIGPIPE)
        pthread_sigmask(SIG_BLOCK, &broken, nil)
        while let pieces = queue.next(), pieces.allSatisfy(writeAll) {}
        close(descriptor)
        queue.end()
    }

    private func writeAll(_ piece: Data) -> Bool {
        piece.withUnsafeBytes { bytes in
            var rest = bytes[...]
            while !rest.isEmpty {
                let count = write(descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
                if count >= 0 {
                    queue.wrote(count)
                    rest = rest.dropFirst(count)
                } else if errno == EAGAIN {
                    guard wait(for: descriptor, POLLOUT, or: end.descriptor) else { return false }
                } else if errno != EINTR {
                    return false
                }
            }
            return true
        }
    }
}

/// Whether `descriptor` is ready, or broken, which the next call tells. False: only the end of the process was seen.
private func wait(for descriptor: Int32, _ events: Int32, or end: Int32) -> Bool {
    var polled = [
        pollfd(fd: descriptor, events: Int16(events), revents: 0),
        pollfd(fd: end, events: Int16(POLLIN), revents: 0),
    ]
    while poll(&polled, 2, -1) < 0 {
        guard errno == EINTR else { return false }
    }
    return polled[0].revents != 0
}
