//! A folder as a disk has it: what was synced is on it, what was not may be gone after a crash.
//!
//! Strict as the standard is, and stricter than any file system here: a name is kept once its folder was synced, bytes
//! once their file was, and a file whose sync failed never keeps anything again.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, OsStr, OsString};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use parking_lot::{Mutex, RwLock};
use rustix::io::Errno;
use tempfile::TempDir;

/// What a program asks of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    Read,
    Create,
    Write,
    Resize,
    Sync,
    Rename,
    Remove,
}

impl Call {
    fn only_reads(self) -> bool {
        matches!(self, Self::Open | Self::Read)
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process ends, in the midst of a write if it comes to one; what it wrote stays.
    Kill,
    /// The machine ends; what was not synced is gone.
    PowerCut,
    /// One call fails.
    Error,
    /// From one call on there is no space left.
    NoSpace,
    /// Half of one write is written, and from then on there is no space left.
    ShortWrite,
    /// From one call on every call fails.
    Dead,
    /// One sync fails.
    SyncError,
}

/// A folder is a disk of its own where it is a replica's; everything else is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    Main,
    Replica(usize),
}

/// What the folder of a replica is called.
pub(crate) fn replica_folder(number: usize) -> String {
    format!("replica{number}")
}

impl Fault {
    pub(crate) const ALL: [Self; 5] =
        [Self::Kill, Self::PowerCut, Self::Error, Self::NoSpace, Self::ShortWrite];

    /// Whether it makes a difference there.
    fn strikes(self, call: Call) -> bool {
        match self {
            Self::Error | Self::Dead => true,
            Self::Kill | Self::PowerCut => !call.only_reads(),
            Self::NoSpace => {
                matches!(call, Call::Create | Call::Write | Call::Resize | Call::Rename)
            }
            Self::ShortWrite => call == Call::Write,
            Self::SyncError => call == Call::Sync,
        }
    }

    /// Whether the program is there no more.
    pub(crate) fn is_crash(self) -> bool {
        matches!(self, Self::Kill | Self::PowerCut)
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Go,
    Half,
    Fail(Errno),
}

/// Where a call goes.
pub(crate) enum Place<'a> {
    Name(&'a CStr),
    File(BorrowedFd<'a>),
}

impl Place<'_> {
    fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Name(name) => Some(Path::new(OsStr::from_bytes(name.to_bytes())).to_owned()),
            Self::File(file) => std::fs::read_link(own_link(*file)).ok(),
        }
    }
}

fn own_link(file: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// A folder that is a disk under test for as long as this lives.
pub(crate) struct Disk {
    watched: Arc<Watched>,
    _folder: TempDir,
}

struct Watched {
    root: PathBuf,
    state: Mutex<State>,
}

/// What is to go wrong.
#[derive(Clone, Copy)]
struct Plan {
    fault: Fault,
    /// Where alone, if it is not to be everywhere. What goes on for good goes on in all of them.
    within: &'static [Device],
    /// Calls that it could strike and lets go, and those that it has let go.
    good: usize,
    passed: usize,
    struck: Option<Device>,
}

#[derive(Default)]
struct State {
    plan: Option<Plan>,
    /// Whether the program is there no more: nothing it still does has an effect.
    is_over: bool,
    /// Durable names by folder.
    names: HashMap<PathBuf, BTreeMap<OsString, Entry>>,
    files: Vec<Content>,
    /// Which file an inode is, for a number may be given anew.
    inodes: HashMap<u64, usize>,
    /// How often each place was synced.
    syncs: HashMap<PathBuf, usize>,
}

#[derive(Clone, Copy)]
enum Entry {
    Folder,
    File(usize),
}

/// Durable bytes of a file.
#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    /// A sync failed: what is written counts as clean and is not.
    is_lost: bool,
}

impl Watched {
    fn device(&self, path: &Path) -> Device {
        let first = path.strip_prefix(&self.root).ok().and_then(|path| path.components().next());
        let name = first.and_then(|first| first.as_os_str().to_str()).unwrap_or_default();
        let number = name.strip_prefix("replica").and_then(|number| number.parse().ok());
        number.map_or(Device::Main, Device::Replica)
    }
}

/// Every disk under test, and how many there are: most calls of a program go elsewhere.
static DISKS: RwLock<Vec<Arc<Watched>>> = RwLock::new(Vec::new());
static COUNT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread works for a disk: its own calls are not the program's.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Does `work` for the disk under test that the place is on, if it is on one.
fn on_disk<T>(place: &Place<'_>, work: impl FnOnce(&Watched, &Path) -> T) -> Option<T> {
    if COUNT.load(Ordering::SeqCst) == 0 || INSIDE.get() {
        return None;
    }
    INSIDE.set(true);
    let disk_and_path = place.path().and_then(|path| {
        let disks = DISKS.read();
        let disk = disks.iter().find(|disk| path.starts_with(&disk.root)).cloned();
        disk.map(|disk| (disk, path))
    });
    let done = disk_and_path.map(|(disk, path)| work(&disk, &path));
    INSIDE.set(false);
    done
}

/// What becomes of a call that the program is about to make.
pub(crate) fn asked(call: Call, place: &Place<'_>) -> Verdict {
    on_disk(place, |disk, path| {
        let mut state = disk.state.lock();
        let verdict = state.verdict(call, disk.device(path));
        if let (Verdict::Go, Call::Remove | Call::Rename) = (verdict, call) {
            state.forget(path);
        }
        if let (Verdict::Fail(_), Call::Sync, Place::File(file)) = (verdict, call, place) {
            state.lose(*file);
        }
        verdict
    })
    .unwrap_or(Verdict::Go)
}

/// A call went well.
pub(crate) fn finished(call: Call, place: &Place<'_>) {
    if let (Call::Sync, Place::File(file)) = (call, place) {
        on_disk(place, |disk, path| {
            let mut state = disk.state.lock();
            *state.syncs.entry(path.to_owned()).or_default() += 1;
            state.keep(*file, path).expect("a disk under test can be read");
        });
    }
}

impl State {
    fn verdict(&mut self, call: Call, device: Device) -> Verdict {
        if self.is_over {
            return if call.only_reads() { Verdict::Go } else { Verdict::Fail(Errno::IO) };
        }
        let Some(plan) = &mut self.plan else { return Verdict::Go };
        let fault = plan.fault;
        if let Some(struck) = plan.struck {
            let is_there = struck == device || plan.within.contains(&device);
            return match fault {
                Fault::NoSpace | Fault::ShortWrite if is_there && Fault::NoSpace.strikes(call) => {
                    Verdict::Fail(Errno::NOSPC)
                }
                Fault::Dead if is_there => Verdict::Fail(Errno::IO),
                _ => Verdict::Go,
            };
        }
        if !fault.strikes(call) || !(plan.within.is_empty() || plan.within.contains(&device)) {
            return Verdict::Go;
        }
        if plan.passed < plan.good {
            plan.passed += 1;
            return Verdict::Go;
        }
        plan.struck = Some(device);
        self.is_over = fault.is_crash();
        match (fault, call) {
            (Fault::Kill | Fault::ShortWrite, Call::Write) => Verdict::Half,
            (Fault::NoSpace, _) => Verdict::Fail(Errno::NOSPC),
            _ => Verdict::Fail(Errno::IO),
        }
    }

    fn file(&mut self, inode: u64) -> usize {
        *self.inodes.entry(inode).or_insert_with(|| {
            self.files.push(Content::default());
            self.files.len() - 1
        })
    }

    /// The last name of a file goes: its inode may be another file's from now on.
    fn forget(&mut self, path: &Path) {
        if let Ok(metadata) = std::fs::symlink_metadata(path)
            && metadata.nlink() == 1
        {
            self.inodes.remove(&metadata.ino());
        }
    }

    fn lose(&mut self, file: BorrowedFd<'_>) {
        if let Ok(stat) = rustix::fs::fstat(file) {
            let file = self.file(stat.st_ino);
            self.files[file].is_lost = true;
        }
    }

    /// Keeps what a file or folder holds at this moment.
    fn keep(&mut self, file: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
        let link = own_link(file);
        let metadata = std::fs::metadata(&link)?;
        if metadata.is_dir() {
            return self.keep_names(path);
        }
        let file = self.file(metadata.ino());
        if !self.files[file].is_lost {
            self.files[file].bytes = std::fs::read(link)?;
        }
        Ok(())
    }

    fn keep_names(&mut self, folder: &Path) -> io::Result<()> {
        let mut names = BTreeMap::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let is_folder = metadata.is_dir();
            let entry_of = if is_folder { Entry::Folder } else { Entry::File(self.file(metadata.ino())) };
            names.insert(entry.file_name(), entry_of);
        }
        self.names.insert(folder.to_owned(), names);
        Ok(())
    }

    /// Keeps everything below a folder.
    fn keep_all(&mut self, folder: &Path) -> io::Result<()> {
        self.keep_names(folder)?;
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                self.keep_all(&path)?;
            } else {
                self.keep(std::fs::File::open(&path)?.as_fd(), &path)?;
            }
        }
        Ok(())
    }

    /// What is durable below a folder.
    fn durable(&self, folder: &Path) -> Tree {
        let names = self.names.get(folder).into_iter().flatten().map(|(name, entry)| match entry {
            Entry::Folder => (name.clone(), Node::Folder(self.durable(&folder.join(name)))),
            Entry::File(file) => (name.clone(), Node::File(self.files[*file].bytes.clone())),
        });
        names.collect()
    }

    /// Makes a folder hold what a tree says, all of it durable.
    fn fill(&mut self, folder: &Path, tree: &Tree) -> io::Result<()> {
        let mut names = BTreeMap::new();
        for (name, node) in tree {
            let path = folder.join(name);
            let entry = match node {
                Node::Folder(tree) => {
                    std::fs::DirBuilder::new().mode(0o700).create(&path)?;
                    self.fill(&path, tree)?;
                    Entry::Folder
                }
                Node::File(bytes) => {
                    let file = self.file(write_file(&path, bytes)?);
                    self.files[file].bytes.clone_from(bytes);
                    Entry::File(file)
                }
            };
            names.insert(name.clone(), entry);
        }
        self.names.insert(folder.to_owned(), names);
        Ok(())
    }
}

/// What a folder holds.
type Tree = BTreeMap<OsString, Node>;

#[derive(Clone)]
enum Node {
    Folder(Tree),
    File(Vec<u8>),
}

/// What a disk held at some moment.
pub(crate) struct Picture(Tree);

impl Picture {
    /// A disk on which the files whose names begin so are as they were in `older`, and everything else is as it is here.
    pub(crate) fn with(&self, older: &Self, files: &str) -> Disk {
        let is_older = |name: &OsString| name.as_bytes().starts_with(files.as_bytes());
        let mut tree = self.0.clone();
        tree.retain(|name, _| !is_older(name));
        let of_older = older.0.iter().filter(|(name, _)| is_older(name));
        tree.extend(of_older.map(|(name, node)| (name.clone(), node.clone())));
        Disk::holding(&tree)
    }
}

/// What a folder holds, durable or not.
fn written(folder: &Path) -> io::Result<Tree> {
    let mut tree = Tree::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let is_folder = entry.file_type()?.is_dir();
        let node = if is_folder { Node::Folder(written(&path)?) } else { Node::File(std::fs::read(&path)?) };
        tree.insert(entry.file_name(), node);
    }
    Ok(tree)
}

/// Writes a file as if that were long ago; its inode.
fn write_file(path: &Path, bytes: &[u8]) -> io::Result<u64> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.set_modified(SystemTime::UNIX_EPOCH)?;
    Ok(file.metadata()?.ino())
}

impl Disk {
    /// An empty disk, in memory where there is such a place.
    pub(crate) fn new() -> Self {
        Self::holding(&Tree::new())
    }

    fn holding(tree: &Tree) -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.expect("a folder");
        let root = folder.path().canonicalize().expect("the folder is there");
        let mut state = State::default();
        state.fill(&root, tree).expect("the folder can be filled");
        let watched = Arc::new(Watched { root, state: Mutex::new(state) });
        DISKS.write().push(Arc::clone(&watched));
        COUNT.fetch_add(1, Ordering::SeqCst);
        Self { watched, _folder: folder }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.watched.root
    }

    /// Lets the fault strike after `good` calls that it could strike, of some devices or, where none is named, of all.
    pub(crate) fn plan(&self, fault: Fault, within: &'static [Device], good: usize) {
        self.watched.state.lock().plan = Some(Plan { fault, within, good, passed: 0, struck: None });
    }

    /// Where the fault struck, if it did; there is none any more.
    pub(crate) fn calm(&self) -> Option<Device> {
        self.watched.state.lock().plan.take().and_then(|plan| plan.struck)
    }

    /// How many calls the fault could have struck and has let go.
    pub(crate) fn passed(&self) -> usize {
        self.watched.state.lock().plan.map_or(0, |plan| plan.passed)
    }

    /// How often a file was synced, by its name.
    pub(crate) fn syncs(&self, name: &str) -> usize {
        let syncs = &self.watched.state.lock().syncs;
        syncs.get(&self.root().join(name)).copied().unwrap_or_default()
    }

    /// Everything that is written at this moment, synced or not.
    pub(crate) fn picture(&self) -> Picture {
        Picture(written(self.root()).expect("the folder can be read"))
    }

    /// Puts everything that is written at this moment on the disk, unasked.
    pub(crate) fn write_out(&self) {
        INSIDE.set(true);
        self.watched.state.lock().keep_all(self.root()).expect("the folder can be read");
        INSIDE.set(false);
    }

    /// Whether the program on it is there no more.
    pub(crate) fn is_over(&self) -> bool {
        self.watched.state.lock().is_over
    }

    /// What another program finds when this one has ended, or the whole machine.
    pub(crate) fn after(&self, crash: Fault) -> Self {
        let mut state = self.watched.state.lock();
        state.is_over = true;
        let tree = match crash {
            Fault::Kill => {
                drop(state);
                written(self.root()).expect("the folder can be read")
            }
            _ => state.durable(self.root()),
        };
        Self::holding(&tree)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What a program that is over still does has no effect on whatever comes to lie here. A call that it was about
        // to make may put something into a folder that is being removed.
        self.watched.state.lock().is_over = true;
        let removed = (0..10).any(|_| std::fs::remove_dir_all(self.root()).is_ok() || !self.root().exists());
        if !removed {
            println!("{} was not removed", self.root().display());
        }
        DISKS.write().retain(|disk| !Arc::ptr_eq(disk, &self.watched));
        COUNT.fetch_sub(1, Ordering::SeqCst);
    }
}
