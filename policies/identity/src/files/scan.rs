//! Reading a policy directory: which files count, within which bounds.
//!
//! Files and folders whose names begin with a dot are not seen; of the others, files ending in `.json`
//! count. A link may not lead out of the directory.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::finding::FileFinding;

/// The file without which a directory is no policy directory.
pub(super) const MARKER: &str = "berth-policies.json";

const MOST_FILES: usize = 10_000;
const DEEPEST: usize = 16;
const LARGEST_FILE: u64 = policies::json::MAX_SIZE as u64;
const LARGEST_SET: u64 = 64 * 1024 * 1024;

/// Texts by relative name, with `/` between folders.
pub(super) type Texts = BTreeMap<String, String>;

/// What tells whether anything has changed, without reading contents.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Stamp(Vec<(String, u64, u64, i64, i64, i64)>);

impl Stamp {
    pub(super) fn add(&mut self, name: String, metadata: &Metadata) {
        let changed = (metadata.mtime() << 30) ^ metadata.mtime_nsec();
        let touched = (metadata.ctime() << 30) ^ metadata.ctime_nsec();
        self.0.push((name, metadata.dev(), metadata.ino(), metadata.size().cast_signed(), changed, touched));
    }

    /// A file that is named and is not there.
    pub(super) fn add_missing(&mut self, name: String) {
        self.0.push((name, 0, 0, -1, 0, 0));
    }
}

struct Entry {
    name: String,
    path: PathBuf,
    metadata: Metadata,
}

/// Reads every file that counts.
pub(super) fn read(root: &Path) -> Result<Texts, Vec<FileFinding>> {
    let entries = walk(root)?;
    let total: u64 = entries.iter().map(|entry| entry.metadata.len()).sum();
    if total > LARGEST_SET {
        return Err(vec![FileFinding::whole(
            MARKER,
            format!("the files are larger than {LARGEST_SET} bytes together"),
        )]);
    }
    let mut texts = Texts::new();
    let mut findings = Vec::new();
    for entry in entries {
        match read_one(&entry) {
            Ok(text) => {
                texts.insert(entry.name, text);
            }
            Err(message) => findings.push(FileFinding::whole(&entry.name, message)),
        }
    }
    if findings.is_empty() { Ok(texts) } else { Err(findings) }
}

/// What the directory looks like now.
pub(super) fn stamp(root: &Path) -> Result<Stamp, Vec<FileFinding>> {
    let mut stamp = Stamp::default();
    for entry in walk(root)? {
        stamp.add(entry.name, &entry.metadata);
    }
    Ok(stamp)
}

fn read_one(entry: &Entry) -> Result<String, String> {
    if entry.metadata.len() > LARGEST_FILE {
        return Err(format!("the file is larger than {LARGEST_FILE} bytes"));
    }
    let bytes = fs::read(&entry.path).map_err(|error| format!("cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())
}

fn walk(root: &Path) -> Result<Vec<Entry>, Vec<FileFinding>> {
    let unreadable =
        |name: &str, error: &io::Error| vec![FileFinding::whole(name, format!("cannot be read: {error}"))];
    let real_root = fs::canonicalize(root).map_err(|error| vec![FileFinding::of_directory(&error)])?;
    let mut entries = Vec::new();
    let mut folders = vec![(real_root.clone(), String::new(), 0)];
    // Links may lead to the same folder many times.
    let mut looked_into = 0;
    while let Some((folder, prefix, depth)) = folders.pop() {
        let shown = if prefix.is_empty() { "." } else { prefix.trim_end_matches('/') };
        let listing = fs::read_dir(&folder).map_err(|error| match depth {
            0 => vec![FileFinding::of_directory(&error)],
            _ => unreadable(shown, &error),
        })?;
        for item in listing {
            let item = item.map_err(|error| unreadable(shown, &error))?;
            let file_name = item.file_name();
            let Some(file_name) = file_name.to_str() else {
                return Err(vec![FileFinding::whole(
                    shown,
                    format!("{} is not a UTF-8 name", file_name.display()),
                )]);
            };
            if file_name.starts_with('.') {
                continue;
            }
            let name = format!("{prefix}{file_name}");
            let mut path = item.path();
            if item.file_type().is_ok_and(|kind| kind.is_symlink()) {
                path = fs::canonicalize(&path).map_err(|error| unreadable(&name, &error))?;
                if !path.starts_with(&real_root) {
                    return Err(vec![FileFinding::whole(&name, "leads out of the policy directory")]);
                }
            }
            let metadata = fs::metadata(&path).map_err(|error| unreadable(&name, &error))?;
            if metadata.is_dir() {
                if depth == DEEPEST {
                    return Err(vec![FileFinding::whole(
                        &name,
                        format!("lies deeper than {DEEPEST} folders"),
                    )]);
                }
                folders.push((path, format!("{name}/"), depth + 1));
                looked_into += 1;
            } else if file_name.ends_with(".json") {
                if !metadata.is_file() {
                    // Reading a pipe would wait for ever.
                    return Err(vec![FileFinding::whole(&name, "is not a regular file")]);
                }
                entries.push(Entry { name, path, metadata });
            }
            if entries.len().max(looked_into) > MOST_FILES {
                return Err(vec![FileFinding::whole(
                    MARKER,
                    format!("more than {MOST_FILES} files or folders"),
                )]);
            }
        }
    }
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}
