//! Checkpoints that must be refused, and folders that cannot be written.

use super::*;

#[test]
fn a_checkpoint_of_another_recipe_or_a_damaged_one_is_refused_and_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (ours, other) = (recipe("adamw_8bit"), recipe("adamw_torch"));
    let mut trainer = trainer(&ours);
    let before = trainer.info().state_digest;

    let foreign = folder(&root, "foreign");
    save(&mut super::trainer(&other), 0, &foreign);
    let error = trainer.restore(&foreign).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Checkpoint);
    assert!(error.message.contains("recipe"), "{}", error.message);

    let damaged = folder(&root, "damaged");
    save(&mut trainer, 0, &damaged);
    let file = damaged.join("optimizer.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let error = trainer.restore(&damaged).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Checkpoint);
    assert!(
        error.message.contains("optimizer.safetensors"),
        "{}",
        error.message
    );
    assert_eq!(trainer.info().state_digest, before);
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_a_storage_error_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), "").unwrap();
    let mut trainer = trainer(&recipe("adamw_torch"));
    let snapshot = trainer.snapshot(&snapshot_meta(0)).unwrap();
    let error = snapshot
        .write(&root.path().join("file/0000000000"))
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Storage);
    let names: Vec<_> = std::fs::read_dir(root.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["file"]);
}

#[test]
fn a_snapshot_for_another_step_is_refused() {
    let mut trainer = trainer(&recipe("adamw_torch"));
    let error = trainer.snapshot(&snapshot_meta(1)).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Internal);
}
