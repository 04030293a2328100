//! A file system in a file, whose power can be cut.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::command::{run, try_run};

/// A mounted file system. What its image holds is what had reached the disk; what the system still keeps in memory is
/// not in it.
pub struct Disk {
    folder: TempDir,
    image: PathBuf,
    at: PathBuf,
    pictures: u32,
}

impl Disk {
    /// Makes a file system of the kind that `mkfs.KIND` knows, and mounts it.
    pub fn format(kind: &str, mebibytes: u64, at: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("disk").tempdir().unwrap();
        let image = folder.path().join("image-0");
        std::fs::File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image));
        let disk = Self { folder, image, at: at.to_owned(), pictures: 0 };
        disk.mount();
        disk
    }

    /// Cuts the power: what is on the disk at this moment is all that will ever be read from it. The programs that
    /// write to it are to be paused; [`Disk::restore_power`] comes when they are dead.
    pub fn cut_power(&mut self) -> Picture {
        self.pictures += 1;
        let picture = self.folder.path().join(format!("image-{}", self.pictures));
        loop {
            run(Command::new("cp").arg(&self.image).arg(&picture));
            // The kernel may have written while the copy was taken; of two moments it would show no state that
            // there was.
            if try_run(Command::new("cmp").arg("--silent").arg(&self.image).arg(&picture)).is_ok() {
                return Picture(picture);
            }
        }
    }

    /// Mounts what the picture shows, as after a restart of the machine.
    pub fn restore_power(&mut self, picture: Picture) {
        self.unmount();
        std::fs::remove_file(&self.image).unwrap();
        self.image = picture.0;
        self.mount();
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.at));
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
