//! A state folder that nobody may write to.

use std::fs;

use weft_tests::disk::SmallDisk;
use weft_tests::process::Weft;

/// What `weft coordinator` says when it is to keep its state on `disk`.
#[track_caller]
fn is_refused(disk: &SmallDisk) {
    let cache = tempfile::tempdir().unwrap();
    let listen = weft_tests::cluster::own_loopback() + ":0";
    let refused = Weft::new(cache.path(), ["coordinator", "--listen", &listen])
        .arg_path("--state", &disk.path().join("state"))
        .finish();
    let said = ["the file system is read-only; choose another folder or mount it writable"];
    refused.ended_with(13, &said);
}

#[test]
fn a_queue_is_refused_at_its_start_where_its_state_folder_cannot_be_made() {
    let Some(disk) = SmallDisk::mount(1 << 10) else {
        return;
    };
    disk.make_read_only();
    is_refused(&disk);
}

#[test]
fn a_queue_is_refused_at_its_start_where_its_state_folder_has_become_read_only() {
    let Some(disk) = SmallDisk::mount(16 << 10) else {
        return;
    };
    let cache = tempfile::tempdir().unwrap();
    let listen = weft_tests::cluster::own_loopback() + ":0";
    let mut first = Weft::new(cache.path(), ["coordinator", "--listen", &listen])
        .arg_path("--state", &disk.path().join("state"))
        .start();
    first.wait_for("listening on http://");
    first.interrupt();
    first.await_end();
    first.exit_code();
    let before = fs::read(disk.path().join("state/records.db")).unwrap();
    disk.make_read_only();
    is_refused(&disk);
    let after = fs::read(disk.path().join("state/records.db")).unwrap();
    assert_eq!(before, after, "nothing is lost");
}
