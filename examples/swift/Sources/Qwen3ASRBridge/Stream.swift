import Foundation

extension Bridge {
    /// A stream of one process; when that is gone, so is the stream, unless the bridge has `resend`.
    public struct Stream: Sendable {
        public let ready: Wire.StreamReady
        let bridge: Bridge
        /// Of the process.
        let number: Int
        /// With `resend`: the next process opens it again, as long as the app does not end them.
        let era: Int?

        public var id: String { ready.streamID }

        /// Little-endian samples at the stream's rate, however many. Returns when there is room for more; until then
        /// the microphone should not be read. Chunks that were taken stay so when the task is cancelled.
        public func append(_ pcm16: Data, utteranceID: String? = nil) async throws {
            guard pcm16.count.isMultiple(of: 2) else { throw BridgeError.oddLength }
            let size = max(1, ready.sampleRate * bridge.configuration.chunkMilliseconds / 1000) * 2
            var rest = pcm16
            while !rest.isEmpty {
                try Task.checkCancellation()
                let chunk = rest.prefix(size).base64EncodedString()
                try await bridge.append(chunk, utteranceID, self).unwritten.room()
                rest = rest.dropFirst(size)
            }
        }

        public func append(_ samples: [Int16], utteranceID: String? = nil) async throws {
            let bytes = samples.map(\.littleEndian).withUnsafeBytes { Data($0) }
            try await append(bytes, utteranceID: utteranceID)
        }

        public func endUtterance(
            _ message: Wire.EndUtterance = Wire.EndUtterance(), timeout: Duration? = nil
        ) async throws -> BoundaryReply {
            var message = message
            message.streamID = id
            return try await bridge.ask(self, message, timeout: timeout)
        }

        public func vadBoundary(
            _ message: Wire.VadBoundary = Wire.VadBoundary(), timeout: Duration? = nil
        ) async throws -> BoundaryReply {
            var message = message
            message.streamID = id
            return try await bridge.ask(self, message, timeout: timeout)
        }

        /// The speaker may have ended: the final of so many samples, or of all so far, is computed ahead.
        public func pause(_ samples: Int? = nil, timeout: Duration? = nil) async throws -> Wire.Paused {
            try await bridge.ask(self, Wire.Pause(streamID: id, samples: samples), timeout: timeout)
        }

        public func flush(
            _ message: Wire.Flush = Wire.Flush(), timeout: Duration? = nil
        ) async throws -> Wire.RealtimeBatchFinal {
            var message = message
            message.streamID = id
            return try await bridge.ask(self, message, timeout: timeout)
        }

        @discardableResult
        public func stop(
            mode: Wire.StopStream.Mode = .drain, timeout: Duration? = nil
        ) async throws -> Wire.StreamStopped {
            let message = Wire.StopStream(streamID: id, mode: mode)
            let stopped = try await bridge.ask(self, message, timeout: timeout)
            await bridge.forget(self)
            return stopped
        }
    }

    /// The process, which has taken the chunk.
    fileprivate func append(_ pcm16: String, _ utteranceID: String?, _ stream: Stream) async throws -> Child {
        try check(await process(of: stream))
        guard let child = connection?.child else { throw BridgeError.closed }
        let seq = connection?.streams[stream.id]
        let chunk = Wire.AudioChunk(pcm16: pcm16, streamID: stream.id, utteranceID: utteranceID, seq: seq)
        child.write(try keep(line(of: chunk)))
        if let seq { connection?.streams[stream.id] = seq + 1 }
        keepWatch()
        return child
    }

    fileprivate func forget(_ stream: Stream) {
        if stream.era != nil || connection?.number == stream.number { connection?.streams[stream.id] = nil }
    }
}

extension BridgeError {
    fileprivate static var oddLength: BridgeError {
        var error = BridgeError(.requestFailed, "Expected whole 16-bit samples, got an odd number of bytes.")
        error.wireCode = .oddPcmLength
        return error
    }
}
