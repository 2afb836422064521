// swift-tools-version: 6.0
// The Swift client, of examples/swift. It stands here because Xcode and SwiftPM add a repository only by a manifest at
// its top. An app gets the library alone: executables without a product are built only in this repository.
import PackageDescription

let package = Package(
    name: "Qwen3ASRBridge",
    platforms: [.macOS(.v14)],
    products: [.library(name: "Qwen3ASRBridge", targets: ["Qwen3ASRBridge"])],
    targets: [
        .target(name: "Qwen3ASRBridge", path: "examples/swift/Sources/Qwen3ASRBridge"),
        .executableTarget(
            name: "transcribe-file", dependencies: ["Qwen3ASRBridge"], path: "examples/swift/Sources/transcribe-file"),
        .executableTarget(
            name: "stream-wav", dependencies: ["Qwen3ASRBridge"], path: "examples/swift/Sources/stream-wav"),
        .testTarget(
            name: "Qwen3ASRBridgeTests", dependencies: ["Qwen3ASRBridge"],
            path: "examples/swift/Tests/Qwen3ASRBridgeTests"),
    ],
    swiftLanguageModes: [.v6]
)
