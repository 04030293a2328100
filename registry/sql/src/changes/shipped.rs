//! What a server that stopped in order left elsewhere: a copy of the database and every change behind it.
//!
//! It is noted here, beside what is on its way, and read once. A start whose database stands exactly where it says,
//! and finds exactly these files there, need not carry a whole copy again. Invariant: a note fits one start only,
//! since each begins a new term, and nothing that anybody wrote since; after any other end there is none.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::files::{Position, parse};

const NAME: &str = "shipped";

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shipped {
    /// Where it lies, as an operator writes it.
    place: String,
    /// The term of the server that stopped, and the last group.
    pub(super) at: Position,
    /// Bytes of changes behind the copy of the database.
    pub(super) bytes: u64,
    /// The names of the log's files there.
    files: Vec<String>,
}

impl Shipped {
    pub(super) fn new(place: String, at: Position, bytes: u64, there: Vec<String>) -> Self {
        Self { place, at, bytes, files: of_the_log(there) }
    }

    /// Whether everything up to `at` lies at `place`, where these files are.
    pub(super) fn fits(&self, place: &str, at: Position, there: Vec<String>) -> bool {
        let is_there = !self.files.is_empty() && self.files == of_the_log(there);
        is_there && self.place == place && self.at == at
    }

    /// Leaves the note in `folder`.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let mut text = format!("{} {} {}\n{}\n", self.at.term, self.at.sequence, self.bytes, self.place);
        for file in &self.files {
            text.push_str(file);
            text.push('\n');
        }
        let (path, new) = (path(folder), folder.join(format!("{NAME}.new")));
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(new, path)?;
        File::open(folder)?.sync_all()
    }

    /// Takes the note out of `folder`; `None` where there is none that can be read.
    pub(super) fn take(folder: &Path) -> Option<Self> {
        let path = path(folder);
        let text = fs::read_to_string(&path).ok()?;
        fs::remove_file(path).ok()?;
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let mut numbers = lines.next()?.split(' ').map(|number| number.parse().ok());
        let [term, sequence, bytes] = [numbers.next()??, numbers.next()??, numbers.next()??];
        let place = lines.next()?.to_owned();
        let files = lines.map(str::to_owned).collect();
        Some(Self { place, at: Position { term, sequence }, bytes, files })
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// Those of the names that are the log's, in order.
fn of_the_log(mut names: Vec<String>) -> Vec<String> {
    names.retain(|name| parse(name).is_some());
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::{Position, Shipped};

    #[test]
    fn a_note_is_read_once_and_fits_its_place_alone() {
        let folder = tempfile::tempdir().unwrap();
        let names = |more: &[&str]| -> Vec<String> {
            let both = ["snapshot-0000000001-00000000000000000000", "log-0000000001-00000000000000000000"];
            both.iter().chain(more).map(|name| (*name).to_owned()).collect()
        };
        let at = Position { term: 1, sequence: 7 };
        assert_eq!(Shipped::take(folder.path()), None);
        let note = Shipped::new("here".to_owned(), at, 100, names(&["not of the log"]));
        note.write(folder.path()).unwrap();
        assert_eq!(Shipped::take(folder.path()).as_ref(), Some(&note));
        assert_eq!(Shipped::take(folder.path()), None);
        let mut other_order = names(&["another"]);
        other_order.reverse();
        assert!(!note.fits("there", at, other_order.clone()));
        assert!(note.fits("here", at, other_order));
        assert!(!note.fits("here", at, names(&["log-0000000001-00000000000000000003"])));
        assert!(!note.fits("here", at, names(&[])[..1].to_vec()));
        for (term, sequence) in [(2, 7), (1, 8), (1, 9), (0, 7)] {
            assert!(!note.fits("here", Position { term, sequence }, names(&[])), "{term} {sequence}");
        }
        let nothing = Shipped::new("here".to_owned(), at, 0, Vec::new());
        assert!(!nothing.fits("here", at, Vec::new()), "nothing is no copy");
        for broken in ["", "1 7\n", "1 7 x\nhere\n", "1 7 100\n", "1 7 100\nhere"] {
            std::fs::write(folder.path().join("shipped"), broken).unwrap();
            assert_eq!(Shipped::take(folder.path()), None, "{broken:?}");
        }
    }
}
