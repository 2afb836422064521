/// A message that has one reply, of one type.
public protocol BridgeRequest: Encodable, Sendable {
    associatedtype Reply: Sendable
    /// nil: the actor chooses one.
    var id: Wire.ID? { get set }
    /// nil where it is a reply to something else.
    static func reply(from reply: Wire.Reply) -> Reply?
}

extension BridgeRequest {
    public static func reply(from reply: Wire.Reply) -> Reply? { reply.message as? Reply }
}

extension Wire.Capabilities: BridgeRequest { public typealias Reply = Wire.CapabilitiesReply }
extension Wire.Hello: BridgeRequest { public typealias Reply = Wire.CapabilitiesReply }
extension Wire.Ping: BridgeRequest { public typealias Reply = Wire.Pong }
extension Wire.Status: BridgeRequest { public typealias Reply = Wire.StatusReply }
extension Wire.Cancel: BridgeRequest { public typealias Reply = Wire.CancelResult }
extension Wire.Start: BridgeRequest { public typealias Reply = Wire.Ready }
extension Wire.Unload: BridgeRequest { public typealias Reply = Wire.Unloaded }
extension Wire.Transcribe: BridgeRequest { public typealias Reply = Wire.TranscriptReply }
extension Wire.BatchTranscribe: BridgeRequest { public typealias Reply = Wire.BatchTranscript }
extension Wire.Align: BridgeRequest { public typealias Reply = Wire.Aligned }
extension Wire.StartStream: BridgeRequest { public typealias Reply = Wire.StreamReady }
extension Wire.AudioChunk: BridgeRequest { public typealias Reply = Wire.PartialResult }
extension Wire.Pause: BridgeRequest { public typealias Reply = Wire.Paused }
extension Wire.EndUtterance: BridgeRequest { public typealias Reply = BoundaryReply }
extension Wire.VadBoundary: BridgeRequest { public typealias Reply = BoundaryReply }
extension Wire.Flush: BridgeRequest { public typealias Reply = Wire.RealtimeBatchFinal }
extension Wire.StopStream: BridgeRequest { public typealias Reply = Wire.StreamStopped }
extension Wire.Stop: BridgeRequest { public typealias Reply = Wire.Stopped }

extension Wire.EndUtterance {
    public static func reply(from reply: Wire.Reply) -> BoundaryReply? { BoundaryReply(reply) }
}

extension Wire.VadBoundary {
    public static func reply(from reply: Wire.Reply) -> BoundaryReply? { BoundaryReply(reply) }
}

/// What a boundary is answered by.
public enum BoundaryReply: Sendable, Equatable {
    case queued(Wire.UtteranceQueued)
    /// It filled the batch of a stream without `autoFlush`.
    case batch(Wire.RealtimeBatchFinal)

    init?(_ reply: Wire.Reply) {
        switch reply {
        case .utteranceQueued(let queued): self = .queued(queued)
        case .realtimeBatchFinal(let batch): self = .batch(batch)
        default: return nil
        }
    }
}
