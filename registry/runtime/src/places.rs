//! Whose process this is, and where Berth keeps its data when nobody says otherwise.

use std::path::PathBuf;

/// `/var/lib/berth` for root, else `~/.local/share/berth` (or `.berth` here, without a home).
#[allow(clippy::disallowed_methods, reason = "this room is the one that reads the environment")]
pub fn default_data_dir() -> PathBuf {
    if is_root() {
        return PathBuf::from("/var/lib/berth");
    }
    match std::env::var_os("HOME") {
        Some(home) => PathBuf::from(home).join(".local/share/berth"),
        None => PathBuf::from(".berth"),
    }
}

/// The home of the user who runs this.
#[allow(clippy::disallowed_methods, reason = "this room is the one that reads the environment")]
pub fn home_dir() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// Whether this process acts as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
