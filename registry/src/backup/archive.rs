//! The parts inside a sealed stream: files by name, objects by file id, and an end that counts them.
//!
//! `1 | name length be16 | name | mode be32 | length be64 | bytes`, `2 | file id[16] | length be64 | bytes`,
//! `3 | files be64 | objects be64 | missing be64`. Invariant: a stream without its end is not whole.

use std::io::{self, Read, Write};
use std::path::Path;

use registry_blob::FileId;
use registry_runtime::{SealedReader, SealedWriter, StreamKey, StreamKind};
use tokio::sync::mpsc;

use super::error::BackupError;

const FILE: u8 = 1;
const OBJECT: u8 = 2;
const END: u8 = 3;
const LONGEST_NAME: usize = 4096;
/// Bytes handed on at once.
const CHUNK: usize = 256 * 1024;
/// Chunks on their way between the threads.
const QUEUE: usize = 16;

/// What the end says: it must agree with what came before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) files: u64,
    pub(super) objects: u64,
    /// Objects that no replica held whole when the backup was made.
    pub(super) missing: u64,
}

/// One part of an archive as it is read; chunks follow the part they belong to.
#[derive(Debug)]
pub(super) enum Part {
    File { name: String, mode: u32, len: u64 },
    Object { file_id: FileId, len: u64 },
    Chunk(Vec<u8>),
    End(Counts),
}

/// Sends bytes to the thread that seals and writes them.
pub(super) struct ArchiveWriter {
    sender: mpsc::Sender<Vec<u8>>,
    thread: tokio::task::JoinHandle<io::Result<std::fs::File>>,
    counts: Counts,
}

impl ArchiveWriter {
    pub(super) fn start(file: std::fs::File, key: &StreamKey) -> io::Result<ArchiveWriter> {
        let mut out = SealedWriter::new(io::BufWriter::new(file), key, StreamKind::Backup)?;
        let (sender, mut chunks) = mpsc::channel::<Vec<u8>>(QUEUE);
        let thread = tokio::task::spawn_blocking(move || {
            while let Some(chunk) = chunks.blocking_recv() {
                out.write_all(&chunk)?;
            }
            let file = out.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            Ok(file)
        });
        Ok(ArchiveWriter { sender, thread, counts: Counts::default() })
    }

    pub(super) async fn begin_file(&mut self, name: &str, mode: u32, len: u64) -> io::Result<()> {
        let mut head = vec![FILE];
        let name_len = u16::try_from(name.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        head.extend(name_len.to_be_bytes());
        head.extend(name.as_bytes());
        head.extend(mode.to_be_bytes());
        head.extend(len.to_be_bytes());
        self.counts.files += 1;
        self.chunk(head).await
    }

    pub(super) async fn begin_object(&mut self, file_id: FileId, len: u64) -> io::Result<()> {
        let mut head = vec![OBJECT];
        head.extend(file_id.as_bytes());
        head.extend(len.to_be_bytes());
        self.counts.objects += 1;
        self.chunk(head).await
    }

    /// Bytes of the part that was begun last.
    pub(super) async fn chunk(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        // A closed channel means that the thread ended, and `finish` says why.
        self.sender.send(bytes).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// A whole file from the disk; what is appended to it meanwhile is not taken.
    pub(super) async fn file(&mut self, name: &str, path: &Path) -> Result<u64, BackupError> {
        let failed = |error| BackupError::file(path)(error);
        let (file, mode, len) = open(path).await.map_err(failed)?;
        self.begin_file(name, mode, len).await.map_err(failed)?;
        let mut reader = tokio::io::AsyncReadExt::take(tokio::fs::File::from_std(file), len);
        let mut left = len;
        while left > 0 {
            let mut chunk = Vec::with_capacity(CHUNK);
            let read = tokio::io::AsyncReadExt::read_buf(&mut reader, &mut chunk).await.map_err(failed)?;
            if read == 0 {
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
            left -= read as u64;
            self.chunk(chunk).await.map_err(failed)?;
        }
        Ok(len)
    }

    /// Writes the end and makes the file durable; what was written, in counts.
    pub(super) async fn finish(mut self, missing: u64) -> io::Result<Counts> {
        self.counts.missing = missing;
        let counts = self.counts;
        let mut end = vec![END];
        for count in [counts.files, counts.objects, counts.missing] {
            end.extend(count.to_be_bytes());
        }
        let sent = self.chunk(end).await;
        drop(self.sender);
        self.thread.await.map_err(io::Error::other)??;
        sent.map(|()| counts)
    }

    /// The error that ended the writing thread, after a send has failed.
    pub(super) async fn failure(self) -> io::Error {
        drop(self.sender);
        match self.thread.await {
            Ok(Err(error)) => error,
            Ok(Ok(_)) => io::ErrorKind::BrokenPipe.into(),
            Err(panic) => io::Error::other(panic),
        }
    }
}

async fn open(path: &Path) -> io::Result<(std::fs::File, u32, u64)> {
    use std::os::unix::fs::PermissionsExt;
    let path = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::open(path)?;
        let metadata = file.metadata()?;
        Ok((file, metadata.permissions().mode() & 0o777, metadata.len()))
    });
    opened.await.map_err(io::Error::other)?
}

/// Reads an archive in a thread of its own. The channel ends after `End`, or after an error.
pub(super) fn read<R: Read + Send + 'static>(mut input: SealedReader<R>) -> mpsc::Receiver<io::Result<Part>> {
    let (sender, parts) = mpsc::channel(QUEUE);
    tokio::task::spawn_blocking(move || {
        let result = read_parts(&mut input, &mut |part| sender.blocking_send(Ok(part)).is_ok());
        if let Err(error) = result {
            // Nobody listens any more: then the error is of no use.
            drop(sender.blocking_send(Err(error)));
        }
    });
    parts
}

fn read_parts(input: &mut impl Read, give: &mut dyn FnMut(Part) -> bool) -> io::Result<()> {
    let mut seen = Counts::default();
    loop {
        let (part, len) = match byte(input)? {
            FILE => {
                seen.files += 1;
                let name_len = usize::from(u16::from_be_bytes(array(input)?));
                if name_len > LONGEST_NAME {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                let mut name = vec![0; name_len];
                input.read_exact(&mut name)?;
                let name = String::from_utf8(name).map_err(|_| io::ErrorKind::InvalidData)?;
                let mode = u32::from_be_bytes(array(input)?);
                let len = u64::from_be_bytes(array(input)?);
                (Part::File { name, mode, len }, len)
            }
            OBJECT => {
                seen.objects += 1;
                let file_id = FileId::from_bytes(array(input)?);
                let len = u64::from_be_bytes(array(input)?);
                (Part::Object { file_id, len }, len)
            }
            END => {
                let mut count = || Ok::<_, io::Error>(u64::from_be_bytes(array(input)?));
                let counts = Counts { files: count()?, objects: count()?, missing: count()? };
                let nothing_follows = input.read(&mut [0])? == 0;
                if counts != (Counts { missing: counts.missing, ..seen }) || !nothing_follows {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                give(Part::End(counts));
                return Ok(());
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        if !give(part) {
            return Ok(());
        }
        let mut left = len;
        while left > 0 {
            let mut chunk = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK)];
            input.read_exact(&mut chunk)?;
            left -= chunk.len() as u64;
            if !give(Part::Chunk(chunk)) {
                return Ok(());
            }
        }
    }
}

fn byte(input: &mut impl Read) -> io::Result<u8> {
    array::<1>(input).map(|[byte]| byte)
}

fn array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}
