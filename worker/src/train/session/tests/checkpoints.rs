//! Checkpoints that must be refused, and folders that cannot be written.

use super::*;
use crate::checkpoint::SharedStore;

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

#[test]
fn a_worker_of_another_machine_restores_from_the_shared_store() {
    let root = tempfile::tempdir().unwrap();
    let mut recipe = recipe("adamw_8bit");
    recipe.training.storage = Some(format!("file://{}", root.path().join("store").display()));
    let job = "job-1".parse().unwrap();
    let on = |machine: &str| {
        let shared = SharedStore::open(&job, &recipe, &folder(&root, machine)).unwrap();
        assert!(shared.is_some());
        super::trainer(&recipe).with_store(shared)
    };
    let written = folder(&root, "0000000000");
    let mut writer = on("one");
    save(&mut writer, 0, &written);
    std::fs::remove_dir_all(&written).unwrap();

    let mut reader = on("two");
    assert_eq!(reader.restore(&written).unwrap(), Step(0));
    assert_eq!(reader.info().state_digest, writer.info().state_digest);
    let absent = reader.restore(&folder(&root, "0000000007")).unwrap_err();
    assert_eq!(absent.kind, ErrorKind::Checkpoint);
    assert!(
        absent.message.contains("cannot be fetched"),
        "{}",
        absent.message
    );
}

#[test]
fn a_checkpoint_that_the_store_does_not_take_is_a_storage_error_and_complete_on_the_disk() {
    let root = tempfile::tempdir().unwrap();
    let mut recipe = recipe("adamw_8bit");
    let store = root.path().join("store");
    recipe.training.storage = Some(format!("file://{}", store.display()));
    let job = "job-1".parse().unwrap();
    let shared = SharedStore::open(&job, &recipe, root.path()).unwrap();
    let mut trainer = super::trainer(&recipe).with_store(shared);
    std::fs::remove_dir(&store).unwrap();
    std::fs::write(&store, "no folder").unwrap();

    let written = folder(&root, "0000000000");
    let snapshot = trainer.snapshot(&snapshot_meta(0)).unwrap();
    let error = snapshot.write(&written).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Storage);
    assert!(
        error.message.contains("only on this machine"),
        "{}",
        error.message
    );
    weft_common::checkpoint::open(&written).unwrap();
}
