//! The whole way from files to rows, the cache, and the lint.

use std::cell::RefCell;

use serde_json::json;

use super::*;
use crate::data::lint::{DropReason, Suspicion};
use crate::data::testing::{self, Folder};
use crate::data::{Marking, preview};
use crate::recipe::DatasetSection;

/// A recipe over the given JSON lines, its tokenizer, and a cache.
struct Job {
    folder: Folder,
    recipe: Recipe,
}

impl Job {
    fn new(rows: &[serde_json::Value]) -> Self {
        let folder = testing::tokenizer_folder();
        let lines: Vec<_> = rows.iter().map(ToString::to_string).collect();
        std::fs::write(folder.path().join("rows.jsonl"), lines.join("\n")).unwrap();
        let section = DatasetSection {
            path: folder.path().join("rows.jsonl").display().to_string(),
            ..DatasetSection::default()
        };
        let recipe = Recipe {
            model: Default::default(),
            lora: Default::default(),
            datasets: vec![section],
            eval_datasets: Vec::new(),
            training: Default::default(),
            resources: Default::default(),
        };
        Self { folder, recipe }
    }

    fn cache(&self) -> std::path::PathBuf {
        self.folder.path().join("cache")
    }

    fn tokenizer(&self) -> ChatTokenizer {
        self.folder.load("chatml").unwrap()
    }

    fn prepare(&self) -> Result<Prepared, DataError> {
        prepare(&self.recipe, &self.tokenizer(), &self.cache(), &|_| {})
    }
}

fn question(question: &str, answer: &str) -> serde_json::Value {
    json!({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})
}

fn supervised_text(job: &Job, prepared: &Prepared, index: u32) -> String {
    let row = prepared.row(index);
    let pairs = row
        .tokens
        .iter()
        .zip(&row.supervised)
        .filter(|(_, on)| **on);
    job.tokenizer()
        .decode(&pairs.map(|(id, _)| *id).collect::<Vec<_>>(), false)
}

#[test]
fn exactly_the_assistant_text_and_its_end_are_supervised_in_row_order() {
    let rows: Vec<_> = (0..100)
        .map(|index| question("hello?", &format!("answer {index} é")))
        .collect();
    let job = Job::new(&rows);
    let prepared = job.prepare().unwrap();
    assert_eq!(prepared.stats().len(), 100);
    for index in 0..100 {
        assert_eq!(
            supervised_text(&job, &prepared, index),
            format!("answer {index} é<|im_end|>")
        );
        let (row, stat) = (prepared.row(index), prepared.stats()[index as usize]);
        assert_eq!(row.tokens.len() as u32, stat.tokens);
        assert_eq!(
            row.supervised.iter().filter(|on| **on).count() as u32,
            stat.supervised
        );
    }
    let report = prepared.report();
    assert_eq!(
        (report.rows_read, report.rows, report.drops.len()),
        (100, 100, 0)
    );
    assert_eq!(
        report.tokens,
        prepared
            .stats()
            .iter()
            .map(|stat| u64::from(stat.tokens))
            .sum::<u64>()
    );
}

#[test]
fn without_responses_only_every_token_but_the_first_is_supervised() {
    let mut job = Job::new(&[question("a", "b")]);
    job.recipe.training.train_on_responses_only = false;
    let row = job.prepare().unwrap().row(0);
    assert!(!row.supervised[0] && row.supervised[1..].iter().all(|on| *on));
}

#[test]
fn texts_and_completions_end_with_eos() {
    let job = Job::new(&[
        json!({"prompt": "hello:", "completion": "a"}),
        json!({"prompt": "x", "completion": "b<|im_end|>"}),
    ]);
    let prepared = job.prepare().unwrap();
    assert_eq!(supervised_text(&job, &prepared, 0), "a<|im_end|>");
    assert_eq!(supervised_text(&job, &prepared, 1), "b<|im_end|>");
}

#[test]
fn a_second_run_reads_the_cache_and_any_change_makes_it_anew() {
    let mut job = Job::new(&[question("a", "b"), question("c", "d")]);
    let first = job.prepare().unwrap();
    let steps = RefCell::new(0);
    let again = prepare(&job.recipe, &job.tokenizer(), &job.cache(), &|_| {
        *steps.borrow_mut() += 1
    })
    .unwrap();
    assert_eq!(
        (again.dir(), again.digest(), *steps.borrow()),
        (first.dir(), first.digest(), 0)
    );
    job.recipe.datasets[0].limit = Some(1);
    let shorter = job.prepare().unwrap();
    assert_ne!(shorter.digest(), first.digest());
    assert_eq!(shorter.stats().len(), 1);
}

#[test]
fn a_torn_or_flipped_cache_is_made_again() {
    let job = Job::new(&[question("a", "b"), question("c", "d")]);
    let first = job.prepare().unwrap();
    let (dir, digest, row) = (first.dir().to_owned(), first.digest(), first.row(0));
    drop(first);
    let good = std::fs::read(dir.join(ROWS_BIN)).unwrap();
    let mut flipped = good.clone();
    flipped[0] ^= 1;
    for (name, content) in [
        (ROWS_BIN, &good[1..]),
        (ROWS_BIN, &flipped),
        (MANIFEST, b"{"),
        (ROWS_IDX, b""),
    ] {
        std::fs::write(dir.join(name), content).unwrap();
        let again = job.prepare().unwrap();
        again.verify().unwrap();
        assert_eq!(
            (again.digest(), again.row(0)),
            (digest, row.clone()),
            "{name}"
        );
    }
    std::fs::remove_file(dir.join(MANIFEST)).unwrap();
    assert!(
        Prepared::open(&dir)
            .unwrap_err()
            .to_string()
            .contains("incomplete or damaged")
    );
    assert_eq!(job.prepare().unwrap().digest(), digest);
}

#[test]
fn processes_that_prepare_at_once_agree_and_leave_nothing_behind() {
    let rows: Vec<_> = (0..300)
        .map(|index| question("hello", &index.to_string()))
        .collect();
    let job = Job::new(&rows);
    let digests: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| job.prepare().unwrap().digest()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(digests.iter().all(|digest| *digest == digests[0]));
    assert_eq!(std::fs::read_dir(job.cache()).unwrap().count(), 1);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let rows: Vec<_> = (0..200)
        .map(|index| question("hello", &"x".repeat(index)))
        .collect();
    let mut job = Job::new(&rows);
    let digest = |threads: u32, job: &mut Job| {
        job.recipe.training.dataset_num_proc = threads;
        std::fs::remove_dir_all(job.cache()).ok();
        job.prepare().unwrap().digest()
    };
    assert_eq!(digest(1, &mut job), digest(3, &mut job));
}

#[test]
fn drops_and_suspicions_are_counted() {
    let long = "word ".repeat(40);
    let mut job = Job::new(&[
        question("fine", "answer"),
        question(&long, "never reached"),
        question("cut", &long),
        json!({"messages": [{"role": "alien", "content": "x"}]}),
        json!({"messages": null}),
        question("spelled <|im_end|>", "line\\nBreak"),
        question("fine", "answer"),
    ]);
    job.recipe.model.max_seq_length = 48;
    job.recipe.datasets[0].drop_duplicates = true;
    let report = job.prepare().unwrap().report().clone();
    let drops: Vec<_> = report
        .drops
        .iter()
        .map(|dropped| (dropped.reason, dropped.rows))
        .collect();
    let expected = [
        DropReason::EmptyField,
        DropReason::Duplicate,
        DropReason::Malformed,
        DropReason::NothingSupervised,
    ];
    assert_eq!(drops, expected.map(|reason| (reason, 1)));
    assert_eq!(
        report.drops[2].to_string(),
        "cannot be read (the first: unknown role `alien`)"
    );
    let warnings: Vec<_> = report
        .warnings
        .iter()
        .map(|warning| (warning.suspicion, warning.rows))
        .collect();
    let expected = [
        (Suspicion::LiteralNewline, 1),
        (Suspicion::LiteralSpecial, 1),
        (Suspicion::Truncated, 1),
    ];
    assert_eq!(warnings, expected);
    assert_eq!((report.rows_read, report.rows, report.longest), (7, 3, 48));
}

#[test]
fn nothing_left_is_an_error_that_says_what_became_of_the_rows_and_leaves_no_folder() {
    let mut job = Job::new(&[
        question("a long question indeed", "b"),
        json!({"messages": []}),
    ]);
    job.recipe.model.max_seq_length = 8;
    let error = job.prepare().unwrap_err().to_string();
    assert!(error.contains("2 rows read; 1 dropped: a field that is needed is empty; 1 dropped: no supervised token"), "{error}");
    assert_eq!(std::fs::read_dir(job.cache()).unwrap().count(), 0);
    let empty = Job::new(&[]);
    assert!(
        empty
            .prepare()
            .unwrap_err()
            .to_string()
            .contains("0 rows read")
    );
}

#[test]
fn a_conversation_without_a_template_is_an_error_not_a_dropped_row() {
    let job = Job::new(&[question("a", "b")]);
    let bare = job.folder.load("auto").unwrap();
    let error = prepare(&job.recipe, &bare, &job.cache(), &|_| {}).unwrap_err();
    assert!(error.to_string().contains("no chat template"), "{error}");
}

#[test]
fn progress_reaches_the_end_of_the_files() {
    let job = Job::new(&[question("a", "b"), question("c", "d")]);
    let last = RefCell::new(None);
    prepare(&job.recipe, &job.tokenizer(), &job.cache(), &|progress| {
        *last.borrow_mut() = Some(progress)
    })
    .unwrap();
    let last = last.borrow().unwrap();
    assert_eq!(last.done, last.total);
}

#[test]
fn a_preview_marks_supervised_tokens_and_joins_split_characters() {
    let job = Job::new(&[question("hello", "日")]);
    let rows = preview(&job.prepare().unwrap(), &job.tokenizer(), 0..9);
    assert_eq!(rows.len(), 1);
    let text = rows[0].format(Marking::Brackets);
    assert!(text.contains("|hello|<|im_end|>|"), "{text}");
    assert!(text.contains("⟦日|<|im_end|>⟧"), "{text}");
    assert!(
        rows[0]
            .format(Marking::Colour)
            .contains("\u{1b}[32m日|<|im_end|>\u{1b}[0m")
    );
}
