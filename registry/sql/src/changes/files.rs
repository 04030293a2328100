//! The files on a replica: `snapshot-TERM-SEQUENCE` and `log-TERM-BASE`, both frames behind a sealed head.
//!
//! A frame is its sealed length be32 and its bytes. A log ends where its last whole frame ends: what a power
//! cut left behind it was never acknowledged. Invariant: a file is begun once and never opened for writing again.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::record::Preface;
use super::{FrameSeal, LogFile, LogSeal};

/// The folder of the log in a replica's root.
pub const LOG_FOLDER: &str = "database";
/// What a snapshot is called before it is whole; behind it comes the writer's term.
const UNFINISHED: &str = "unfinished-";
/// More than any group or piece of a snapshot has.
const LONGEST_FRAME: u32 = 1 << 30;
/// Bytes of the database in one frame of a snapshot.
const PIECE: usize = 1 << 20;

pub(super) fn folder(root: &Path) -> PathBuf {
    root.join(LOG_FOLDER)
}

/// Whether the folder of a replica holds the changes of a database. Blocks.
pub fn holds_change_log(root: &Path) -> bool {
    list(root, LogFile::Snapshot).is_ok_and(|found| !found.is_empty())
}

/// Whether a file of that name is a whole copy of a database.
pub fn is_snapshot(name: &str) -> bool {
    parse(name).is_some_and(|(kind, _)| kind == LogFile::Snapshot)
}

/// Where a file belongs: logs and snapshots sort by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) term: u64,
    pub(super) sequence: u64,
}

pub(super) fn name(kind: LogFile, at: Position) -> String {
    let kind = match kind {
        LogFile::Snapshot => "snapshot",
        LogFile::Changes => "log",
    };
    format!("{kind}-{:010}-{:020}", at.term, at.sequence)
}

/// What a file is, by its name; `None` when it is none of a log.
pub(super) fn parse(name: &str) -> Option<(LogFile, Position)> {
    let (kind, rest) = match name.strip_prefix("snapshot-") {
        Some(rest) => (LogFile::Snapshot, rest),
        None => (LogFile::Changes, name.strip_prefix("log-")?),
    };
    let (term, sequence) = rest.split_once('-')?;
    Some((kind, Position { term: term.parse().ok()?, sequence: sequence.parse().ok()? }))
}

/// The files of one kind, in the order of their positions. None when the folder is not there.
pub(super) fn list(root: &Path, kind: LogFile) -> io::Result<Vec<(Position, PathBuf)>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(folder(root)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some((of, at)) = parse(name)
            && of == kind
        {
            found.push((at, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Removes files that newer ones stand for: logs that begin before `log`, snapshots before `snapshot`, and
/// what was never finished.
pub(super) fn remove_older(root: &Path, log: Position, snapshot: Position) -> io::Result<()> {
    remove_all(&folder(root), UNFINISHED)?;
    for (kind, keep) in [(LogFile::Changes, log), (LogFile::Snapshot, snapshot)] {
        for (_, path) in list(root, kind)?.into_iter().filter(|(at, _)| *at < keep) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Removes the files of a folder whose names begin so.
pub(super) fn remove_all(folder: &Path, beginning: &str) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(beginning.as_bytes()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// A file that is being written, frame by frame.
pub(super) struct FrameWriter {
    path: PathBuf,
    file: File,
    /// Device and inode of the file.
    identity: (u64, u64),
    frames: Box<dyn FrameSeal>,
    pub(super) len: u64,
}

impl FrameWriter {
    fn create(
        path: &Path,
        kind: LogFile,
        at: Position,
        seal: &dyn LogSeal,
        preface: &Preface,
    ) -> io::Result<FrameWriter> {
        // A file that an earlier attempt left there was never counted on: its term was not begun.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let (head, frames) = seal.begin(kind);
        let (path, identity) = (path.to_owned(), identity(&file.metadata()?));
        let mut writer = FrameWriter { path, file, identity, frames, len: head.len() as u64 };
        writer.file.write_all(&head)?;
        let preface = Preface { at: (at.term, at.sequence), ..preface.clone() };
        writer.write(&preface.encode(), false)?;
        Ok(writer)
    }

    /// Begins a log, durably.
    pub(super) fn begin_log(
        root: &Path,
        at: Position,
        seal: &dyn LogSeal,
        preface: &Preface,
    ) -> io::Result<FrameWriter> {
        let folder = folder(root);
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => File::open(root)?.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let path = folder.join(name(LogFile::Changes, at));
        let writer = FrameWriter::create(&path, LogFile::Changes, at, seal, preface)?;
        writer.sync()?;
        File::open(&folder)?.sync_all()?;
        Ok(writer)
    }

    /// Adds a frame; durable after [`FrameWriter::sync`].
    pub(super) fn write(&mut self, plaintext: &[u8], last: bool) -> io::Result<()> {
        let sealed = self.frames.seal(plaintext, last);
        let mut bytes = Vec::with_capacity(4 + sealed.len());
        bytes.extend((sealed.len() as u32).to_be_bytes());
        bytes.extend(sealed);
        self.file.write_all(&bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Makes what was written durable, under its name.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.check_name()
    }

    /// Whether the name still stands for the file: what is written to one that was removed, or lies below another
    /// disk by now, nobody ever reads.
    pub(super) fn check_name(&self) -> io::Result<()> {
        match std::fs::metadata(&self.path) {
            Ok(named) if identity(&named) == self.identity => Ok(()),
            Ok(_) => Err(io::Error::other(format!("{} is another file by now", self.path.display()))),
            Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))),
        }
    }
}

/// Writes a copy of the database as a snapshot: whole and durable, or not there. `term` is the writer's, of whom there
/// may be an earlier one that hangs still.
pub(super) fn write_snapshot(
    root: &Path,
    at: Position,
    database: &Path,
    term: u64,
    seal: &dyn LogSeal,
    preface: &Preface,
) -> io::Result<()> {
    let folder = folder(root);
    let unfinished = folder.join(format!("{UNFINISHED}{term}"));
    let path = folder.join(name(LogFile::Snapshot, at));
    let mut writer = FrameWriter::create(&unfinished, LogFile::Snapshot, at, seal, preface)?;
    let mut source = File::open(database)?;
    let mut left = source.metadata()?.len();
    loop {
        let mut piece = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(PIECE)];
        source.read_exact(&mut piece)?;
        left -= piece.len() as u64;
        writer.write(&piece, left == 0)?;
        if left == 0 {
            break;
        }
    }
    writer.file.sync_all()?;
    std::fs::rename(unfinished, path)?;
    File::open(&folder)?.sync_all()
}

/// What comes next in a file.
pub(super) enum Next {
    Frame(Vec<u8>),
    /// The frame that was marked as the last.
    Last(Vec<u8>),
    /// Nothing more, but for a frame whose writing was cut off.
    End,
    /// A whole frame that does not open.
    Damaged,
}

/// Reads one file from its front.
pub(super) struct FrameReader {
    file: BufReader<File>,
    frames: Box<dyn FrameSeal>,
    left: u64,
    pub(super) preface: Preface,
}

impl FrameReader {
    /// `Ok(None)` for a file that was cut within its head: nothing was ever written to it.
    pub(super) fn open(
        path: &Path,
        kind: LogFile,
        at: Position,
        seal: &dyn LogSeal,
    ) -> Result<Option<FrameReader>, String> {
        let shown = |error: io::Error| format!("{}: {error}", path.display());
        let file = File::open(path).map_err(shown)?;
        let len = file.metadata().map_err(shown)?.len();
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut head = vec![0; seal.head_len()];
        if (len as usize) < head.len() {
            return Ok(None);
        }
        file.read_exact(&mut head).map_err(shown)?;
        let frames = seal.open(kind, &head).map_err(|reason| format!("{}: {reason}", path.display()))?;
        let left = len - head.len() as u64;
        let mut reader = FrameReader { file, frames, left, preface: Preface::default() };
        match reader.next().map_err(shown)? {
            Next::Frame(frame) => {
                let preface = Preface::decode(&frame).filter(|one| one.at == (at.term, at.sequence));
                reader.preface = preface.ok_or_else(|| shown(io::ErrorKind::InvalidData.into()))?;
                Ok(Some(reader))
            }
            Next::End => Ok(None),
            Next::Last(_) | Next::Damaged => Err(shown(io::ErrorKind::InvalidData.into())),
        }
    }

    pub(super) fn next(&mut self) -> io::Result<Next> {
        let mut len = [0; 4];
        if self.left < 4 {
            return Ok(Next::End);
        }
        self.file.read_exact(&mut len)?;
        self.left -= 4;
        let len = u32::from_be_bytes(len);
        if u64::from(len) > self.left || len > LONGEST_FRAME {
            return Ok(Next::End);
        }
        let mut sealed = vec![0; len as usize];
        self.file.read_exact(&mut sealed)?;
        self.left -= u64::from(len);
        if let Some(frame) = self.frames.open(&sealed, false) {
            return Ok(Next::Frame(frame));
        }
        Ok(self.frames.open(&sealed, true).map_or(Next::Damaged, Next::Last))
    }

    /// Whether bytes are left behind the last frame.
    pub(super) fn has_more(&self) -> bool {
        self.left > 0
    }
}

/// Writes the database that a snapshot holds to `target`, which must not be there.
pub(super) fn read_snapshot(
    path: &Path,
    at: Position,
    seal: &dyn LogSeal,
    target: &Path,
) -> Result<(), String> {
    let shown = |error: io::Error| format!("{}: {error}", path.display());
    let damaged = || format!("{} is damaged or was cut off", path.display());
    let mut reader = FrameReader::open(path, LogFile::Snapshot, at, seal)?.ok_or_else(damaged)?;
    let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target);
    let mut out = out.map_err(|error| format!("{}: {error}", target.display()))?;
    loop {
        let (piece, last) = match reader.next().map_err(shown)? {
            Next::Frame(piece) => (piece, false),
            Next::Last(piece) => (piece, true),
            Next::End | Next::Damaged => return Err(damaged()),
        };
        out.write_all(&piece).map_err(|error| format!("{}: {error}", target.display()))?;
        if last {
            return if reader.has_more() { Err(damaged()) } else { Ok(()) };
        }
    }
}
