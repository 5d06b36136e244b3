use super::super::testing::{fresh, meta, recipe, state};
use weft_common::id::{Digest, Step};

use super::*;
use crate::train::optimizer::UpdateScalars;

#[test]
fn a_state_survives_the_folder_bit_for_bit() {
    for optim in ["adamw_torch", "adamw_8bit"] {
        let root = tempfile::tempdir().unwrap();
        let folder = checkpoint::folder(root.path(), Step(3));
        let recipe = recipe(optim);
        let saved = state(&recipe);
        let manifest = write(&folder, &saved, &recipe, meta()).unwrap();
        assert_eq!(manifest.state_digest, saved.digest());

        let mut read_back = fresh(&recipe);
        read(&checkpoint::open(&folder).unwrap(), &mut read_back).unwrap();
        assert!(read_back == saved, "{optim}");
    }
}

#[test]
fn the_folder_holds_what_peft_loads_and_nothing_that_depends_on_the_run() {
    let root = tempfile::tempdir().unwrap();
    let recipe = recipe("adamw_8bit");
    let write_at = |name: &str, world_size: u32| {
        let folder = root.path().join(name);
        write(
            &folder,
            &state(&recipe),
            &recipe,
            CheckpointMeta {
                world_size,
                ..meta()
            },
        )
        .unwrap();
        folder
    };
    let (one, other) = (write_at("one", 1), write_at("other", 3));
    for name in [
        ADAPTER_MODEL_FILE,
        ADAPTER_CONFIG_FILE,
        MOMENTS_FILE,
        PROGRESS_FILE,
    ] {
        assert!(
            fs::read(one.join(name)).unwrap() == fs::read(other.join(name)).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn a_state_that_is_not_the_manifest_s_is_refused_and_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let recipe = recipe("adamw_torch");
    let folder = checkpoint::folder(root.path(), Step(3));
    write(&folder, &state(&recipe), &recipe, meta()).unwrap();
    let mut opened = checkpoint::open(&folder).unwrap();
    opened.manifest.state_digest = Digest::of(b"another");
    let mut target = fresh(&recipe);
    let refused = read(&opened, &mut target);
    assert!(matches!(refused, Err(CheckpointError::State { .. })));
    assert!(target == fresh(&recipe));
}

#[test]
fn every_part_of_the_state_is_in_its_digest() {
    let recipe = recipe("adamw_8bit");
    let original = state(&recipe);
    let mut changed = original.clone();
    changed.adapter.values_mut()[7] += 1e-3;
    assert_ne!(changed.digest(), original.digest());
    let mut changed = original.clone();
    changed.progress.updates += 1;
    assert_ne!(changed.digest(), original.digest());
    let mut changed = original.clone();
    let grads = vec![0.0; changed.adapter.layout().len()];
    let mut values = changed.adapter.values().clone();
    let scalars = UpdateScalars {
        learning_rate: 0.0,
        clip: 1.0,
    };
    changed.optimizer.update(&mut values, &grads, scalars);
    assert_ne!(changed.digest(), original.digest());
}
