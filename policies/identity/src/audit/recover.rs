//! Where the chain stands when a server starts: its last checkpoint, and the lines that the log has since.
//!
//! Changes nothing but half a line that a crash left at the end. What does not fit is told, and the chain goes on
//! from what is there: to find out what is missing is for `verify`.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::chain::{Checkpoint, LineKey, Linked, Position};

/// Longest line that is read; longer ones are none of ours.
const LONGEST_LINE: u64 = 1024 * 1024;

/// What was found.
pub(super) struct Found {
    pub(super) position: Position,
    /// The number of the checkpoint's line; None when the log does not have it.
    pub(super) checkpoint_number: Option<u64>,
    /// Numbers of the records of changes that the lines since then hold.
    pub(super) records: HashSet<i64>,
}

/// Cuts half a line off the end of the file.
pub(super) fn cut_half_line(file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut end = length;
    let mut reader = file;
    while end > 0 {
        let begin = end.saturating_sub(LONGEST_LINE);
        reader.seek(SeekFrom::Start(begin))?;
        let mut block = vec![0; usize::try_from(end - begin).unwrap_or_default()];
        io::Read::read_exact(&mut reader, &mut block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            end = begin + at as u64 + 1;
            break;
        }
        end = begin;
    }
    if end < length {
        tracing::warn!(bytes = length - end, "half a line at the end of the audit log was cut off");
        file.set_len(end)?;
        file.sync_data()?;
    }
    Ok(())
}

/// Reads what the log has since `checkpoint`, whose line began at `offset`, or in the file that was moved away
/// while no server ran. `key` is that of the line of the checkpoint.
pub(super) fn find(path: &Path, checkpoint: &Checkpoint, offset: u64, key: &LineKey) -> io::Result<Found> {
    let mut moved = path.as_os_str().to_owned();
    moved.push(".1");
    for (file, offset) in [(path.to_owned(), offset), (path.to_owned(), 0), (PathBuf::from(moved), offset)] {
        if let Some(found) = find_in(&file, checkpoint, offset, key)? {
            return Ok(found);
        }
    }
    let position = Position { number: checkpoint.covers, head: checkpoint.head, key: key.clone() };
    Ok(Found { position, checkpoint_number: None, records: HashSet::new() })
}

fn find_in(path: &Path, checkpoint: &Checkpoint, offset: u64, key: &LineKey) -> io::Result<Option<Found>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    file.seek(SeekFrom::Start(offset))?;
    let mut reader = BufReader::with_capacity(256 * 1024, file);
    let begin = checkpoint.begun_line();
    let mut position = Position { number: checkpoint.covers, head: checkpoint.head, key: key.clone() };
    let mut found: Option<Found> = None;
    let (mut line, mut told) = (Vec::new(), false);
    while read_line(&mut reader, &mut line)? {
        if found.is_none() && !line.starts_with(begin.as_bytes()) {
            continue;
        }
        let Some(linked) = Linked::parse(&line) else {
            tracing::error!(path = %path.display(), "a line of the audit log is damaged; verify it");
            continue;
        };
        let fits = follow(&mut position, &linked);
        if !fits && !told {
            told = true;
            tracing::error!(seq = linked.number, "the audit log is not what was written; verify it");
        }
        let found = found.get_or_insert_with(|| Found {
            position: position.clone(),
            checkpoint_number: Some(linked.number),
            records: HashSet::new(),
        });
        found.records.extend(record_of(linked.covered));
    }
    if let Some(found) = &mut found {
        found.position = position;
    }
    Ok(found)
}

/// Moves on over a line that lies in the log, whatever it is. Whether it is what was written there.
fn follow(position: &mut Position, linked: &Linked<'_>) -> bool {
    // As far as a minute of lines; a number from nowhere must not keep a server from starting.
    let skipped = linked.number.saturating_sub(position.number + 1).min(10_000_000);
    (0..skipped).for_each(|_| position.key.advance());
    let mac = position.key.mac(&position.head, linked.covered);
    let fits = mac == linked.mac && linked.number == position.number + 1;
    (position.number, position.head) = (linked.number, linked.mac);
    fits
}

/// The number of the change that a line records.
fn record_of(covered: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(covered).ok()?;
    let (before, _) = text.rsplit_once(",\"seq\":")?;
    let (_, record) = before.rsplit_once(",\"change\":")?;
    record.parse().ok()
}

/// Reads a line without its break; false at the end.
pub(super) fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    if io::Read::take(&mut *reader, LONGEST_LINE).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(true)
}
