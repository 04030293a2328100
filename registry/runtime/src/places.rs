//! Where Berth keeps its data when nobody says otherwise.

use std::path::PathBuf;

/// `/var/lib/berth` for root, else `~/.local/share/berth` (or `.berth` here, without a home).
#[allow(clippy::disallowed_methods, reason = "this room is the one that reads the environment")]
pub fn default_data_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/berth");
    }
    match std::env::var_os("HOME") {
        Some(home) => PathBuf::from(home).join(".local/share/berth"),
        None => PathBuf::from(".berth"),
    }
}
