//! Which folders of the host a task may mount.
//!
//! Links are resolved before anything is compared, and what is resolved is what is mounted.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::closed;

/// The kernel's and the system's own folders; `/` itself is refused by being the parent of these.
const SYSTEM: [&str; 4] = ["/proc", "/sys", "/dev", "/etc"];

/// The resolved path when it lies in an opened folder and touches nothing forbidden.
pub(super) fn judge(source: &str, open: &[PathBuf], forbidden: &[PathBuf]) -> Result<PathBuf, String> {
    let path = Path::new(source);
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("sourcePath {source} is no absolute path without '..'"));
    }
    // As written first: what the kernel will not let an agent resolve is refused for what it is.
    let resolved = if system(path).is_some() { Ok(path.to_owned()) } else { resolve(path) };
    let resolved = resolved.map_err(|error| format!("sourcePath {source}: {error}"))?;
    if resolved.to_str().is_none_or(|text| text.contains(':')) {
        return Err(format!("sourcePath {source} has characters that a mount cannot have"));
    }
    if let Some(other) = system(&resolved) {
        return Err(format!("sourcePath {source} reaches {other}, which can never be opened to tasks"));
    }
    if let Some(other) = forbidden.iter().find(|other| touches(&resolved, other)) {
        return Err(format!(
            "sourcePath {source} reaches {}, which belongs to the engine or to Berth and can never be opened to tasks",
            other.display()
        ));
    }
    let opened = open.iter().filter_map(|open| resolve(open).ok()).any(|open| resolved.starts_with(open));
    if !opened {
        return Err(closed(&format!("sourcePath {source}"), &format!("host_paths = [\"{source}\"]")));
    }
    Ok(resolved)
}

fn system(path: &Path) -> Option<&'static str> {
    SYSTEM.into_iter().find(|other| touches(path, Path::new(other)))
}

fn touches(path: &Path, other: &Path) -> bool {
    path.starts_with(other) || other.starts_with(path)
}

/// A path with every link in it followed; what does not exist yet is kept as it is written.
pub(super) fn resolve(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A link that leads nowhere is something, and the engine would make what it leads to.
            if path.symlink_metadata().is_ok() {
                return Err(error);
            }
            match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => Ok(resolve(parent)?.join(name)),
                _ => Err(error),
            }
        }
        resolved => resolved,
    }
}
