//! The file under the store: sealed records, appended, and written anew when most of them are stale.
//!
//! `file id[16] | record…`, a record being `length be32 | sealed(key length be16 | key | 0 or 1 | value)`, sealed
//! for the file and its position in it. A torn last record is what a crash leaves and is cut off; a bad record
//! before others is damage, and opening fails.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use registry_runtime::{Sealer, durable, random_bytes};

use super::Values;

const COLUMN: &str = "agent.state";
const FILE_ID_BYTES: usize = 16;
/// Below this size a log is never written anew.
const COMPACT_ABOVE_BYTES: u64 = 1 << 20;

pub(super) struct Log {
    path: PathBuf,
    sealer: Sealer,
    file: File,
    file_id: [u8; FILE_ID_BYTES],
    /// Number of the next record.
    next: u64,
    length: u64,
    live: Values,
    /// A write failed: what is on disk lacks something, and the next write writes everything.
    incomplete: bool,
}

impl Log {
    pub(super) fn open(path: &Path, sealer: Sealer) -> Result<(Self, Values), String> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error.to_string()),
        };
        let mut log = Self {
            path: path.to_owned(),
            sealer,
            file: File::open("/dev/null").map_err(|error| error.to_string())?,
            file_id: [0; FILE_ID_BYTES],
            next: 0,
            length: 0,
            live: Values::new(),
            incomplete: false,
        };
        if bytes.len() < FILE_ID_BYTES {
            log.rewrite().map_err(|error| error.to_string())?;
        } else {
            log.replay(&bytes)?;
            log.file = OpenOptions::new().append(true).open(path).map_err(|error| error.to_string())?;
            log.file.set_len(log.length).map_err(|error| error.to_string())?;
        }
        let values = log.live.clone();
        Ok((log, values))
    }

    fn replay(&mut self, bytes: &[u8]) -> Result<(), String> {
        let (id, mut rest) = bytes.split_at(FILE_ID_BYTES);
        self.file_id.copy_from_slice(id);
        self.length = FILE_ID_BYTES as u64;
        while !rest.is_empty() {
            let Some((length, tail)) = rest.split_at_checked(4) else { break };
            let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
            let Some((sealed, tail)) = tail.split_at_checked(length) else { break };
            let number = self.next.to_be_bytes();
            let record = match self.sealer.open(COLUMN, &[&self.file_id, &number], sealed) {
                Ok(record) => record,
                // Torn: the last record, or space that was claimed and never written.
                Err(_) if tail.iter().all(|byte| *byte == 0) => break,
                Err(error) => return Err(format!("record {} is damaged: {error}", self.next)),
            };
            let (key, value) = decode(record.expose()).ok_or("a record is malformed")?;
            match value {
                Some(value) => drop(self.live.insert(key, value)),
                None => drop(self.live.remove(&key)),
            }
            self.next += 1;
            self.length += 4 + length as u64;
            rest = tail;
        }
        if !rest.is_empty() {
            tracing::warn!(path = %self.path.display(), lost_bytes = rest.len(), "a torn record was cut off");
        }
        Ok(())
    }

    /// Appends records in order; with `sync`, durable when this returns.
    pub(super) fn append(
        &mut self,
        records: Vec<(String, Option<Vec<u8>>)>,
        sync: bool,
    ) -> Result<(), String> {
        let mut bytes = Vec::new();
        for (key, value) in records {
            self.encode_record(&key, value.as_deref(), &mut bytes);
            match value {
                Some(value) => drop(self.live.insert(key, value)),
                None => drop(self.live.remove(&key)),
            }
        }
        let result = if self.incomplete || self.mostly_stale(bytes.len()) {
            self.rewrite()
        } else {
            self.write(&bytes, sync)
        };
        self.incomplete = result.is_err();
        result.map_err(|error| format!("{}: {error}", self.path.display()))
    }

    fn mostly_stale(&self, more: usize) -> bool {
        let live: usize = self.live.iter().map(|(key, value)| key.len() + value.len() + 64).sum();
        let length = self.length + more as u64;
        length > COMPACT_ABOVE_BYTES && length > 4 * live as u64
    }

    fn write(&mut self, bytes: &[u8], sync: bool) -> io::Result<()> {
        let written =
            self.file.write_all(bytes).and_then(|()| if sync { self.file.sync_data() } else { Ok(()) });
        match written {
            Ok(()) => {
                self.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Half a record in the middle of the file would be damage.
                let _ = self.file.set_len(self.length);
                Err(error)
            }
        }
    }

    /// Writes everything that is live into a new file that takes the place of the old one.
    fn rewrite(&mut self) -> io::Result<()> {
        let (old_id, old_next) = (self.file_id, self.next);
        self.file_id = random_bytes();
        self.next = 0;
        let mut bytes = self.file_id.to_vec();
        for (key, value) in std::mem::take(&mut self.live) {
            self.encode_record(&key, Some(&value), &mut bytes);
            self.live.insert(key, value);
        }
        let replaced = durable::write_file_atomically(&self.path, &bytes, 0o600)
            .and_then(|()| OpenOptions::new().append(true).mode(0o600).open(&self.path));
        match replaced {
            Ok(file) => {
                self.file = file;
                self.length = bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                (self.file_id, self.next) = (old_id, old_next);
                Err(error)
            }
        }
    }

    fn encode_record(&mut self, key: &str, value: Option<&[u8]>, bytes: &mut Vec<u8>) {
        let mut plain = Vec::with_capacity(3 + key.len() + value.map_or(0, <[u8]>::len));
        plain.extend(u16::try_from(key.len()).expect("keys are task ARNs at most").to_be_bytes());
        plain.extend(key.as_bytes());
        plain.push(u8::from(value.is_some()));
        plain.extend(value.unwrap_or_default());
        let sealed = self.sealer.seal(COLUMN, &[&self.file_id, &self.next.to_be_bytes()], &plain);
        self.next += 1;
        bytes.extend(u32::try_from(sealed.len()).expect("a task is far below 4 GiB").to_be_bytes());
        bytes.extend(sealed);
    }
}

fn decode(record: &[u8]) -> Option<(String, Option<Vec<u8>>)> {
    let (length, rest) = record.split_at_checked(2)?;
    let (key, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([length[0], length[1]])))?;
    let (flag, value) = rest.split_first()?;
    let key = String::from_utf8(key.to_vec()).ok()?;
    Some((key, (*flag == 1).then(|| value.to_vec())))
}

#[cfg(test)]
mod tests {
    use registry_runtime::{Sealer, Secret};

    use super::{COMPACT_ABOVE_BYTES, Log};

    fn sealer() -> Sealer {
        Sealer::new(&Secret::new(vec![1; 32]), 1)
    }

    #[test]
    fn a_torn_tail_is_cut_off_and_damage_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.log");
        let (mut log, _) = Log::open(&path, sealer()).unwrap();
        log.append(vec![("a".into(), Some(vec![1])), ("b".into(), Some(vec![2]))], true).unwrap();
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        for cut in 1..20 {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let (mut log, values) = Log::open(&path, sealer()).unwrap();
            assert_eq!(values.keys().collect::<Vec<_>>(), ["a"]);
            log.append(vec![("c".into(), Some(vec![3]))], true).unwrap();
            let (_, values) = Log::open(&path, sealer()).unwrap();
            assert_eq!(values.keys().collect::<Vec<_>>(), ["a", "c"]);
        }
        let mut damaged = whole.clone();
        damaged[30] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        assert!(Log::open(&path, sealer()).is_err());
    }

    #[test]
    fn a_log_of_stale_records_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.log");
        let (mut log, _) = Log::open(&path, sealer()).unwrap();
        for round in 0..80u8 {
            log.append(vec![("task".into(), Some(vec![round; 40_000]))], false).unwrap();
        }
        assert!(std::fs::metadata(&path).unwrap().len() < COMPACT_ABOVE_BYTES * 2);
        let (_, values) = Log::open(&path, sealer()).unwrap();
        assert_eq!(values["task"], vec![79; 40_000]);
    }

    #[test]
    fn records_do_not_move_between_files() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        for path in [&one, &two] {
            let (mut log, _) = Log::open(path, sealer()).unwrap();
            log.append(vec![("a".into(), Some(vec![1])), ("b".into(), Some(vec![2]))], true).unwrap();
        }
        let (mut mixed, other) = (std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
        mixed[16..].copy_from_slice(&other[16..]);
        std::fs::write(&one, &mixed).unwrap();
        assert!(Log::open(&one, sealer()).is_err());
    }
}
