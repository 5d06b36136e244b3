//! A small disk of its own, to be filled.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory with a limit, mounted for one test.
#[derive(Debug)]
pub struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts one of `kibibytes`. `None`, and a loud line, where this user may not mount.
    ///
    /// # Panics
    /// The system gives no temporary folder.
    #[must_use]
    pub fn mount(kibibytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().expect("the system gives a temporary folder");
        let size = format!("size={kibibytes}k");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder.path())
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("NOT RUN: this user may not mount a file system, so no disk can be filled");
            return None;
        }
        Some(Self { folder })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Lets nobody write to it any more. Nobody may be writing to it now.
    ///
    /// # Panics
    /// The system refuses.
    pub fn make_read_only(&self) {
        let remounted = Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(self.path())
            .status()
            .is_ok_and(|status| status.success());
        assert!(
            remounted,
            "a disk that could be mounted can be mounted anew"
        );
    }

    /// Writes until nothing fits any more; gives the file that takes the space.
    ///
    /// # Panics
    /// Not even an empty file can be made.
    #[must_use]
    pub fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = File::create(&path).expect("an empty file takes no space");
        for size in [1 << 16, 1 << 10, 1] {
            let block = vec![0u8; size];
            while file.write_all(&block).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.folder.path())
            .status();
        let _ = fs::remove_dir(self.folder.path());
    }
}
