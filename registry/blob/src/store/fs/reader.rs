//! Reading: inline what is in the page cache, on the blocking pool what is not.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags};

use super::blocking;
use crate::buffer::Buffer;
use crate::store::{ObjectReader, StoreError};

/// Reads of at least this many bytes are taken for parts of a sequential one.
const READ_AHEAD_FROM: u64 = 256 * 1024;

pub(super) struct FsReader {
    file: Arc<File>,
    len: u64,
    /// Cleared where the filesystem knows no RWF_NOWAIT.
    inline: AtomicBool,
    is_cold: bool,
}

impl FsReader {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file: Arc::new(file), len, inline: AtomicBool::new(true), is_cold: false })
    }

    /// A reader that asks the medium: what the kernel has cached of the file is dropped first, and again
    /// behind each read, so that a walk over everything pushes nothing else out of the cache.
    pub(super) fn cold(file: File) -> io::Result<Self> {
        let reader = Self::new(file)?;
        reader.inline.store(false, Ordering::Relaxed);
        fadvise(&*reader.file, 0, None, Advice::DontNeed)?;
        Ok(Self { is_cold: true, ..reader })
    }

    #[cfg(test)]
    pub(super) fn never_inline(&self) {
        self.inline.store(false, Ordering::Relaxed);
    }
}

#[async_trait]
impl ObjectReader for FsReader {
    fn len(&self) -> u64 {
        self.len
    }

    fn try_read_at(&self, offset: u64, target: &mut [u8]) -> Result<usize, StoreError> {
        let mut filled = 0;
        while filled < target.len() && self.inline.load(Ordering::Relaxed) {
            let rest = &mut [IoSliceMut::new(&mut target[filled..])];
            let at = offset + filled as u64;
            match rustix::io::preadv2(&*self.file, rest, at, ReadWriteFlags::NOWAIT) {
                Ok(0) => return Err(StoreError::Short),
                Ok(read) => filled += read,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    self.inline.store(false, Ordering::Relaxed);
                }
                Err(error) => return Err(StoreError::Io(error.into())),
            }
        }
        Ok(filled)
    }

    async fn read_at(
        &self,
        offset: u64,
        mut buffer: Buffer,
        from: usize,
        to: usize,
    ) -> Result<Buffer, StoreError> {
        let (file, is_cold) = (Arc::clone(&self.file), self.is_cold);
        blocking(move || match file.read_exact_at(&mut buffer[from..to], offset) {
            Ok(()) => {
                let read = (to - from) as u64;
                if is_cold {
                    let _ = fadvise(&*file, offset, NonZeroU64::new(read), Advice::DontNeed);
                } else if read >= READ_AHEAD_FROM {
                    // Only advice: whoever reads a large stretch of a cold file wants the next one too,
                    // and then finds it in the page cache.
                    let _ = fadvise(&*file, offset + read, NonZeroU64::new(read), Advice::WillNeed);
                }
                Ok(buffer)
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(StoreError::Short),
            Err(error) => Err(StoreError::Io(error)),
        })
        .await
    }
}
