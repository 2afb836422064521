import Foundation

/// The program that a name stands for, found before it is started so that what is wrong with it can be told.
enum Executable {
    /// The path of what is executed: `name` itself where it has a slash, otherwise the first on PATH.
    static func find(_ name: String, path: String?) throws(BridgeError) -> String {
        let candidates = name.contains("/") ? [name] : onPath(name, path ?? "/usr/bin:/bin")
        guard let found = candidates.first(where: isExecutable) ?? candidates.first(where: isThere) else {
            throw BridgeError(.bridgeNotFound, "The speech bridge was not found: \(name)")
        }
        guard isExecutable(found) else { throw notExecutable(name) }
        return found
    }

    static func notExecutable(_ name: String) -> BridgeError {
        BridgeError(.bridgeNotExecutable, "The speech bridge cannot be executed: \(name)")
    }

    private static func onPath(_ name: String, _ path: String) -> [String] {
        path.split(separator: ":").map { "\($0)/\(name)" }
    }

    private static func isThere(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

    private static func isExecutable(_ path: String) -> Bool {
        var isFolder: ObjCBool = false
        let isThere = FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
        return isThere && !isFolder.boolValue && access(path, X_OK) == 0
    }
}
