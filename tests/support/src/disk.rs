//! A file system in a file, whose power can be cut.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use tempfile::TempDir;

use crate::command::{run, try_run};

/// Bytes that are copied at once.
const PIECE: usize = 1 << 20;

/// A mounted file system. What its image holds is what had reached the disk; what the system still keeps in memory is
/// not in it.
pub struct Disk {
    folder: TempDir,
    kind: String,
    image: PathBuf,
    at: PathBuf,
    pictures: u32,
}

impl Disk {
    /// Makes a file system of the kind that `mkfs.KIND` knows, and mounts it.
    pub fn format(kind: &str, mebibytes: u64, at: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("disk").tempdir().unwrap();
        let image = folder.path().join("image-0");
        File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image));
        let disk = Self { folder, kind: kind.to_owned(), image, at: at.to_owned(), pictures: 0 };
        disk.mount();
        disk
    }

    /// Cuts the power: what is on the disk at this moment is all that will ever be read from it. The programs that
    /// write to it are to be paused; [`Disk::restore_power`] comes when they are dead.
    pub fn cut_power(&mut self) -> Picture {
        self.pictures += 1;
        let picture = self.folder.path().join(format!("image-{}", self.pictures));
        // The kernel may write while the copy is taken; of two moments it would show no state that there was.
        while !copy_at_rest(&self.image, &picture).unwrap() {}
        Picture(picture)
    }

    /// Mounts what the picture shows, as after a restart of the machine.
    pub fn restore_power(&mut self, picture: Picture) {
        self.unmount();
        std::fs::remove_file(&self.image).unwrap();
        self.image = picture.0;
        self.mount();
    }

    fn mount(&self) {
        // An engine that another test started meanwhile may have the image before this one mounted still, in a
        // namespace of its own, and XFS mounts no two of one UUID.
        let options = if self.kind == "xfs" { "loop,nouuid" } else { "loop" };
        run(Command::new("mount").args(["-o", options]).arg(&self.image).arg(&self.at));
    }

    fn unmount(&self) {
        run(Command::new("umount").arg(&self.at));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = try_run(Command::new("umount").arg("--lazy").arg(&self.at));
        // Whoever made the folder could not remove it while something was mounted there.
        let _ = std::fs::remove_dir(&self.at);
    }
}

/// What was on a disk when its power was cut.
pub struct Picture(PathBuf);

/// Copies an image, of which most are holes. Whether it stayed as it was meanwhile.
fn copy_at_rest(image: &Path, copy: &Path) -> io::Result<bool> {
    let image = File::open(image)?;
    // What an attempt before this one copied may be a hole by now.
    let copy = File::options().read(true).write(true).create(true).truncate(true).open(copy)?;
    copy.set_len(image.metadata()?.len())?;
    let written = stretches(&image)?;
    for_each_piece(&image, &written, |piece, at| copy.write_all_at(piece, at).map(|()| true))?;
    let mut copied = vec![0; PIECE];
    let same = for_each_piece(&image, &written, |piece, at| {
        copy.read_exact_at(&mut copied[..piece.len()], at)?;
        Ok(copied[..piece.len()] == *piece)
    })?;
    Ok(same && stretches(&image)? == written)
}

/// What of a file is no hole.
fn stretches(file: &File) -> io::Result<Vec<Range<u64>>> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        at = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(found),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(at))?;
        found.push(at..end);
        at = end;
    }
}

/// Reads stretches of a file piece by piece, as long as `look` says true. Whether it always did.
fn for_each_piece(
    file: &File,
    stretches: &[Range<u64>],
    mut look: impl FnMut(&[u8], u64) -> io::Result<bool>,
) -> io::Result<bool> {
    let mut piece = vec![0; PIECE];
    for stretch in stretches {
        for at in stretch.clone().step_by(PIECE) {
            let piece = &mut piece[..PIECE.min((stretch.end - at) as usize)];
            file.read_exact_at(piece, at)?;
            if !look(piece, at)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
