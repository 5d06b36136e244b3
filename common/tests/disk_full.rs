//! What is left when the disk fills up while a checkpoint is being written.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic; its helpers too")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use weft_common::checkpoint::{self, CheckpointMeta, CheckpointWriter, InputDigests};
use weft_common::id::{Digest, Epoch, Step, Term};
use weft_common::storage::{StorageFault, write_atomic};

/// A file system of one megabyte; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where the system does not let this process mount.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(folder.path())
            .output();
        mount
            .is_ok_and(|mount| mount.status.success())
            .then(|| Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(
            unmounted.is_ok_and(|status| status.success()),
            "{} stays mounted",
            self.0.path().display()
        );
    }
}

fn save(root: &Path, step: u64, bytes: usize) -> Result<(), weft_common::storage::StorageError> {
    let meta = CheckpointMeta {
        job: "job-1".parse().unwrap(),
        step: Step(step),
        epoch: Epoch(0),
        term: Term(0),
        inputs: InputDigests {
            recipe: Digest::of(b"recipe"),
            base_model: Digest::of(b"base"),
            dataset: Digest::of(b"dataset"),
            tokenizer: Digest::of(b"tokenizer"),
            template: Digest::of(b"template"),
        },
        fixed_point_bits: 40,
        seed: 3407,
        world_size: 1,
    };
    let mut writer = CheckpointWriter::create(&checkpoint::folder(root, Step(step)), meta)?;
    writer.add("adapter_model.safetensors", |file| {
        file.write_all(&vec![7; bytes])
    })?;
    writer.finish(Digest::of(b"state")).map(|_| ())
}

#[test]
fn a_full_disk_is_named_and_leaves_the_checkpoint_before_and_nothing_half_written() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!(
            "SKIPPED: this process may not mount a small disk (it takes root); the case was not tested"
        );
        return;
    };
    let root = disk.0.path().join("checkpoints");
    save(&root, 50, 300_000).unwrap();

    let error = save(&root, 100, 2_000_000).unwrap_err();

    assert_eq!(error.fault, StorageFault::DiskFull);
    for part in ["0000000100", "adapter_model.safetensors"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let newest = checkpoint::newest_complete(&root).unwrap();
    assert_eq!(newest.checkpoint.unwrap().manifest.meta.step, Step(50));
    assert!(newest.skipped.is_empty(), "{:?}", newest.skipped);
    // What the attempt took is free again; the kernel may take a moment to count it.
    let end = Instant::now() + Duration::from_secs(10);
    while let Err(error) = save(&root, 100, 300_000) {
        assert!(Instant::now() < end, "{error}");
        std::thread::yield_now();
    }
}

#[test]
fn a_file_is_as_before_when_its_new_content_does_not_fit() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!(
            "SKIPPED: this process may not mount a small disk (it takes root); the case was not tested"
        );
        return;
    };
    let path = disk.0.path().join("trainer_state.json");
    write_atomic(&path, b"old").unwrap();
    let error = write_atomic(&path, &vec![0; 2_000_000]).unwrap_err();
    assert_eq!(error.fault, StorageFault::DiskFull);
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(disk.0.path()).unwrap().count(), 1);
}
