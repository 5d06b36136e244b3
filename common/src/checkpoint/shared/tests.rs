use std::fs;
use std::num::NonZeroU32;
use std::path::Path;

use super::*;
use crate::checkpoint::find::tests::save;
use crate::checkpoint::{Checkpoint, Skipped, open};
use crate::store::StoreUrl;
use crate::store::testing::folder_store;

struct Fixture {
    folder: tempfile::TempDir,
    shared: SharedCheckpoints,
}

impl Fixture {
    fn new() -> Self {
        let (folder, store) = folder_store();
        let shared = SharedCheckpoints::new(store, "job-1".parse().unwrap());
        Self { folder, shared }
    }

    fn save(&self, step: u64) -> Checkpoint {
        open(&save(&self.folder.path().join("out"), step)).unwrap()
    }

    fn upload(&self, step: u64) {
        self.shared.upload(&self.save(step)).unwrap();
    }

    /// The folder in the store of a checkpoint.
    fn stored(&self, step: u64) -> std::path::PathBuf {
        let StoreUrl::Folder(root) = self.shared.store.url() else {
            panic!("this store is a folder");
        };
        root.join(self.shared.folder(Step(step)))
    }

    fn cache(&self) -> std::path::PathBuf {
        self.folder.path().join("cache")
    }

    /// The step that is fetched, and the defects of those passed over.
    fn newest(&self, after: Option<u64>) -> (Option<u64>, Vec<String>) {
        let newest = self
            .shared
            .fetch_newest(&self.cache(), after.map(Step), None)
            .unwrap();
        let step = newest
            .checkpoint
            .map(|checkpoint| checkpoint.manifest.meta.step.0);
        (
            step,
            newest.skipped.iter().map(Skipped::to_string).collect(),
        )
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_uploaded_comes_back_byte_for_byte() {
    let fixture = Fixture::new();
    let original = fixture.save(50);
    fixture.shared.upload(&original).unwrap();
    let fetched = fixture.shared.fetch(Step(50), &fixture.cache()).unwrap();
    assert_eq!(fetched.manifest, original.manifest);
    for name in names(&original.folder) {
        let bytes = |folder: &Path| fs::read(folder.join(&name)).unwrap();
        assert_eq!(bytes(&fetched.folder), bytes(&original.folder), "{name}");
    }
}

#[test]
fn one_without_a_manifest_or_with_a_cut_file_is_passed_over() {
    let fixture = Fixture::new();
    for step in [50, 100, 150, 200] {
        fixture.upload(step);
    }
    fs::remove_file(fixture.stored(200).join(MANIFEST_FILE)).unwrap();
    fs::write(fixture.stored(150).join("state.json"), "short").unwrap();
    let (step, skipped) = fixture.newest(None);
    assert_eq!(step, Some(100));
    assert!(
        skipped[0].contains("0000000200") && skipped[0].contains("interrupted"),
        "{skipped:?}"
    );
    assert!(
        skipped[1].contains("0000000150") && skipped[1].contains("5 bytes"),
        "{skipped:?}"
    );
}

#[test]
fn only_a_later_checkpoint_than_the_own_is_fetched() {
    let fixture = Fixture::new();
    fixture.upload(50);
    assert_eq!(fixture.newest(Some(50)), (None, vec![]));
    assert_eq!(fixture.newest(Some(49)), (Some(50), vec![]));
    assert!(
        !fixture
            .cache()
            .join("checkpoints/job-1/0000000049")
            .exists()
    );
}

#[test]
fn an_upload_that_broke_off_is_started_over_and_a_finished_one_is_left_alone() {
    let fixture = Fixture::new();
    let checkpoint = fixture.save(50);
    fixture.shared.upload(&checkpoint).unwrap();
    let manifest = fixture.stored(50).join(MANIFEST_FILE);
    let written = fs::metadata(&manifest).unwrap().modified().unwrap();
    fixture.shared.upload(&checkpoint).unwrap();
    assert_eq!(
        fs::metadata(&manifest).unwrap().modified().unwrap(),
        written
    );

    fs::remove_file(&manifest).unwrap();
    fs::write(fixture.stored(50).join("stale.bin"), "from before").unwrap();
    fixture.shared.upload(&checkpoint).unwrap();
    assert_eq!(names(&fixture.stored(50)), names(&checkpoint.folder));
}

#[test]
fn one_that_was_damaged_in_the_store_is_sent_again() {
    let fixture = Fixture::new();
    let checkpoint = fixture.save(50);
    fixture.shared.upload(&checkpoint).unwrap();
    let damaged = fixture.stored(50).join("adapter_model.safetensors");
    fs::write(&damaged, [8; 100]).unwrap();
    fixture.shared.upload(&checkpoint).unwrap();
    assert_eq!(fs::read(&damaged).unwrap(), [7; 100]);
    assert_eq!(fixture.newest(None), (Some(50), vec![]));
}

#[test]
fn two_workers_that_fetch_at_once_both_get_it() {
    let fixture = Fixture::new();
    fixture.upload(50);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| fixture.shared.fetch(Step(50), &fixture.cache()).unwrap()))
            .collect();
        for thread in threads {
            open(&thread.join().unwrap().folder).unwrap();
        }
    });
    assert_eq!(
        names(&fixture.cache().join("checkpoints/job-1")),
        ["0000000050"]
    );
}

#[test]
fn one_that_the_ledger_does_not_lead_to_is_passed_over() {
    let fixture = Fixture::new();
    for step in [10, 20] {
        fixture.upload(step);
    }
    let found = |until| {
        let newest = fixture
            .shared
            .fetch_newest(&fixture.cache(), None, Some(Step(until)));
        let newest = newest.unwrap();
        let step = newest.checkpoint.map(|found| found.manifest.meta.step.0);
        (
            step,
            newest
                .skipped
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
        )
    };
    let (step, skipped) = found(19);
    assert_eq!(step, Some(10));
    assert!(skipped[0].contains("ends before step 19"), "{skipped:?}");
    assert_eq!(found(20), (Some(20), vec![]));
}

#[test]
fn old_checkpoints_go_and_the_newest_stays() {
    let fixture = Fixture::new();
    for step in [10, 20, 30] {
        fixture.upload(step);
    }
    let removed = fixture.shared.retain(NonZeroU32::MIN, Step(30)).unwrap();
    assert_eq!(removed, [Step(10), Step(20)]);
    let steps: Vec<Step> = fixture.shared.steps().unwrap().into_keys().collect();
    assert_eq!(steps, [Step(30)]);
    assert_eq!(fixture.newest(None), (Some(30), vec![]));
}

#[test]
fn the_newest_job_of_the_same_recipe_is_found() {
    let fixture = Fixture::new();
    let checkpoint = fixture.save(10);
    let recipe = checkpoint.manifest.meta.inputs.recipe;
    let store = fixture.shared.store.clone();
    assert!(
        SharedCheckpoints::of_recipe(&store, &recipe)
            .unwrap()
            .is_none()
    );
    for job in ["job-1", "job-2"] {
        let shared = SharedCheckpoints::new(store.clone(), job.parse().unwrap());
        shared.upload(&checkpoint).unwrap();
    }
    let found = SharedCheckpoints::of_recipe(&store, &recipe)
        .unwrap()
        .unwrap();
    assert_eq!(found.job().as_str(), "job-2");
    let other = Digest::of(b"another recipe");
    assert!(
        SharedCheckpoints::of_recipe(&store, &other)
            .unwrap()
            .is_none()
    );
}
