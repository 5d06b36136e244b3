//! A disk that is too small, and one that fills up while saving.

#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

use std::fs;

use weft_common::checkpoint::newest_complete;
use weft_tests::disk::SmallDisk;
use weft_tests::files::listing;
use weft_tests::quickstart::Quickstart;

#[test]
fn a_disk_that_is_too_small_is_noticed_before_the_first_step() {
    let Some(disk) = SmallDisk::mount(1024) else {
        return;
    };
    let output = disk.path().join("out");
    let run = Quickstart::new()
        .weft("run")
        .args(["--output"])
        .args([&output])
        .finish();
    run.ended_with(13, &["GiB of disk left", "--output"]);
    assert!(listing(&output).is_empty());
}

#[test]
fn a_disk_that_fills_up_ends_the_run_with_its_last_checkpoint_intact() {
    let Some(disk) = SmallDisk::mount(64 << 10) else {
        return;
    };
    let quickstart = Quickstart::new()
        .set("training.max_steps=100000")
        .set("training.save_total_limit=2");
    let output = disk.path().join("out");
    let run = |extra: &[&str]| {
        quickstart
            .weft("run")
            .args(["--output"])
            .args([&output])
            .args(extra)
            .start()
    };

    let mut first = run(&[]);
    first.wait_for("step 5/");
    let filler = disk.fill();
    first.finish().ended_with(13, &["full"]);

    let newest = newest_complete(&output.join("checkpoints")).unwrap();
    assert!(newest.checkpoint.is_some(), "{:?}", newest.skipped);
    assert!(!output.join("adapter").exists());
    fs::remove_file(filler).unwrap();
    let mut second = run(&["--resume"]);
    second.wait_for("Resuming after step");
    second.wait_for("step ");
    second.interrupt();
    second.finish().ended_with(30, &["--resume"]);
}
