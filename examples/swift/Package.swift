// swift-tools-version: 6.0
import PackageDescription

let package = Package(
    name: "Qwen3ASRBridge",
    platforms: [.macOS(.v14)],
    products: [.library(name: "Qwen3ASRBridge", targets: ["Qwen3ASRBridge"])],
    targets: [
        .target(name: "Qwen3ASRBridge"),
        .executableTarget(name: "transcribe-file", dependencies: ["Qwen3ASRBridge"]),
        .executableTarget(name: "stream-wav", dependencies: ["Qwen3ASRBridge"]),
        .testTarget(name: "Qwen3ASRBridgeTests", dependencies: ["Qwen3ASRBridge"]),
    ],
    swiftLanguageModes: [.v6]
)
