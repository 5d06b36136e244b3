//! `weft audit` on real runs: whole ones are clean, and whatever was changed in them is named.

#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use weft_tests::files::copy_folder;
use weft_tests::process::{Finished, Weft};
use weft_tests::quickstart::Quickstart;
use weft_tests::repository;

const FIRST: &str = "0000000001-000000.jsonl";
const SECOND: &str = "0000000002-000000.jsonl";

/// Six steps of 96 rows: one whole data epoch and two steps of the next. Stopped after the third step at the earliest,
/// and resumed: two segments. Its dataset lies in its own folder.
struct Base {
    quickstart: Quickstart,
    dataset: PathBuf,
}

fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let (quickstart, dataset) = own_dataset();
        let mut stopped = quickstart.run("out", 1).start();
        stopped.wait_for("step 3/6");
        stopped.interrupt();
        stopped.finish().ended_with(30, &["--resume"]);
        quickstart
            .run("out", 2)
            .args(["--resume"])
            .finish()
            .succeeded();
        Base {
            quickstart,
            dataset,
        }
    })
}

fn own_dataset() -> (Quickstart, PathBuf) {
    let quickstart = Quickstart::new().set("training.gradient_accumulation_steps=24");
    let rows = repository().join("examples/quickstart/medical_qa.jsonl");
    let dataset = quickstart.dataset("rows.jsonl", &fs::read_to_string(rows).unwrap());
    let section = format!(
        "datasets=[{{path: '{}', columns: {{question: instruction, answer: output}}}}]",
        dataset.display()
    );
    (quickstart.set(section), dataset)
}

impl Base {
    /// A copy of the output folder that a test may tamper with.
    fn copy(&self) -> Copy {
        let folder = tempfile::tempdir().unwrap();
        copy_folder(&self.quickstart.output("out"), folder.path()).unwrap();
        Copy {
            folder,
            cache: self.quickstart.folder().join("cache"),
        }
    }
}

struct Copy {
    folder: tempfile::TempDir,
    cache: PathBuf,
}

impl Copy {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn segment(&self, name: &str) -> PathBuf {
        self.path("ledger").join(name)
    }

    fn lines(&self, segment: &str) -> Vec<String> {
        let text = fs::read_to_string(self.segment(segment)).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn write(&self, segment: &str, lines: &[String]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(self.segment(segment), text).unwrap();
    }

    /// Changes lines of a segment, and nothing that would hide it.
    fn tamper(self, segment: &str, change: impl FnOnce(&mut Vec<String>)) -> Self {
        let mut lines = self.lines(segment);
        change(&mut lines);
        self.write(segment, &lines);
        self
    }

    /// Changes the record of `step`, from 1, and computes all digests, and ends, anew.
    fn forge(self, step: u64, change: impl Fn(&mut Value)) -> Self {
        let mut digest = [0; 32].to_vec();
        let mut before: Option<(String, usize)> = None;
        for segment in [FIRST, SECOND] {
            let lines = self.lines(segment);
            let forged: Vec<String> = lines
                .iter()
                .map(|line| {
                    let mut entry = serde_json::from_str::<Value>(line).unwrap()["entry"].take();
                    if let (Some(follows), Some((_, bytes))) =
                        (entry.pointer_mut("/segment/follows/bytes"), &before)
                    {
                        *follows = json!(bytes);
                    }
                    if entry.pointer("/commit/step") == Some(&json!(step - 1)) {
                        change(&mut entry["commit"]);
                    }
                    let text = entry.to_string();
                    digest = Sha256::digest([&digest, text.as_bytes()].concat()).to_vec();
                    format!(
                        "{{\"entry\":{text},\"digest\":\"{}\"}}",
                        hex::encode(&digest)
                    )
                })
                .collect();
            self.write(segment, &forged);
            let bytes = fs::metadata(self.segment(segment)).unwrap().len();
            before = Some((segment.to_owned(), usize::try_from(bytes).unwrap()));
        }
        self
    }

    fn audit(&self, arguments: &[&str]) -> Finished {
        Weft::new(&self.cache, ["audit"])
            .args([self.folder.path()])
            .args(arguments)
            .finish()
    }

    /// Demands that the audit fails and says each of `texts`.
    #[track_caller]
    fn is_found(&self, texts: &[&str]) {
        self.audit(&[]).ended_with(40, texts);
    }
}

/// The line of the record of `step`, from 1, in the segment that has it.
fn line_of(copy: &Copy, step: u64) -> (&'static str, usize) {
    let wanted = format!("{{\"entry\":{{\"commit\":{{\"step\":{},", step - 1);
    let mut found = None;
    for segment in [FIRST, SECOND] {
        let at = copy.lines(segment);
        let at = at.iter().position(|line| line.starts_with(&wanted));
        found = at.map(|at| (segment, at + 1)).or(found);
    }
    found.unwrap()
}

fn at(place: (&str, usize)) -> String {
    format!("{}, line {}", place.0, place.1)
}

/// Adds to the number that the record's first slot has as its loss.
fn raise_loss(commit: &mut Value) {
    let loss = commit["slots"][0]["loss_sum"].as_str().unwrap();
    let raised = loss.parse::<f64>().unwrap() + 1.0;
    commit["slots"][0]["loss_sum"] = json!(raised.to_string());
}

#[test]
fn a_run_that_was_stopped_and_resumed_is_clean() {
    let copy = base().copy();
    copy.audit(&[]).ended_with(
        0,
        &[
            "clean: ",
            "6 of 6 planned, committed in 2 terms by 2 memberships",
            "compared with the plan: rows, tokens, supervised tokens",
            "6 of 6 have the digest that those of their slots add up to",
            "379, each counted exactly once in each of 1 data epoch\n",
            "192 different ones in the 2 steps of data epoch 2, which is not complete; each counted once",
            "compared with 6 lines of metrics.jsonl to the last bit",
        ],
    );
    let json = copy.audit(&["--json", "--losses"]);
    let verdict: Value = serde_json::from_str(&json.succeeded().text).unwrap();
    assert_eq!(verdict["verdict"], "clean");
    assert_eq!(verdict["workers"].as_array().unwrap().len(), 3);
    assert_eq!(
        curve(&verdict["losses"]),
        logged(&copy.path("metrics.jsonl"))
    );
}

fn curve(losses: &Value) -> Vec<(u64, f64)> {
    losses.as_array().unwrap().iter().map(point).collect()
}

fn logged(metrics: &Path) -> Vec<(u64, f64)> {
    let text = fs::read_to_string(metrics).unwrap();
    let lines = text.lines();
    lines
        .map(|line| point(&serde_json::from_str(line).unwrap()))
        .collect()
}

fn point(of: &Value) -> (u64, f64) {
    (of["step"].as_u64().unwrap(), of["loss"].as_f64().unwrap())
}

#[test]
fn changed_lines_are_found_and_named() {
    for (from, to) in [
        ("\"loss_sum\":\"", "\"loss_sum\":\"1"),
        ("\"rows\":[", "\"rows\":[1"),
        ("\"slot\":1", "\"slot\":2"),
        ("\"tokens\":", "\"tokens\":1"),
    ] {
        let copy = base().copy().tamper(FIRST, |lines| {
            lines[2] = lines[2].replacen(from, to, 1);
        });
        copy.is_found(&["NOT CLEAN", &at((FIRST, 3)), "was changed"]);
    }
}

#[test]
fn removed_repeated_and_moved_lines_are_found_and_named() {
    let removed = base().copy().tamper(FIRST, |lines| drop(lines.remove(2)));
    removed.is_found(&[&at((FIRST, 3)), "lines were removed or added"]);
    let repeated = base()
        .copy()
        .tamper(FIRST, |lines| lines.insert(2, lines[1].clone()));
    repeated.is_found(&[&at((FIRST, 3))]);
    let swapped = base().copy().tamper(SECOND, |lines| lines.swap(1, 2));
    swapped.is_found(&[&at((SECOND, 2))]);
    let last = base().copy().tamper(FIRST, |lines| drop(lines.pop()));
    let line = last.lines(FIRST).len() + 1;
    last.is_found(&[&at((FIRST, line)), "lines were removed"]);
}

#[test]
fn a_ledger_that_was_cut_short_is_given_away_by_metrics_and_checkpoint() {
    let copy = base().copy();
    let bytes = fs::read(copy.segment(SECOND)).unwrap();
    fs::write(copy.segment(SECOND), &bytes[..bytes.len() - 10]).unwrap();
    copy.is_found(&[
        "left out",
        "metrics.jsonl, line 6: step 6 was reported",
        "the checkpoint holds 6 steps, but the ledger has steps 1 to 5",
    ]);
}

#[test]
fn segments_that_are_missing_or_strange_are_found_and_named() {
    let copy = base().copy();
    fs::remove_file(copy.segment(FIRST)).unwrap();
    copy.is_found(&[FIRST, "is missing"]);

    let copy = base().copy();
    fs::remove_file(copy.segment(SECOND)).unwrap();
    copy.is_found(&["metrics.jsonl, line 6: step 6 was reported"]);

    let copy = base().copy();
    fs::remove_dir_all(copy.path("ledger")).unwrap();
    fs::create_dir(copy.path("ledger")).unwrap();
    copy.is_found(&["step 1 was reported, but is not in the ledger, which has no steps"]);
}

#[test]
fn a_segment_of_another_job_is_found_and_named() {
    let other = Quickstart::new().set("training.max_steps=1");
    other.run("other", 1).finish().succeeded();
    let strange = other.output("other").join("ledger").join(FIRST);

    let copy = base().copy();
    fs::copy(&strange, copy.segment(FIRST)).unwrap();
    copy.is_found(&[&at((SECOND, 1)), "the ledger of job"]);

    let copy = base().copy();
    fs::copy(&strange, copy.segment("0000000003-000000.jsonl")).unwrap();
    copy.is_found(&["0000000003-000000.jsonl, line 1: the segment calls itself"]);
}

#[test]
fn a_forged_chain_is_given_away_by_what_lies_beside_it() {
    let untouched = base().copy().forge(99, raise_loss);
    untouched.audit(&[]).ended_with(0, &["clean"]);

    let loss = base().copy().forge(2, raise_loss);
    loss.is_found(&[
        &at(line_of(&loss, 2)),
        "step 2 has loss",
        "metrics.jsonl, line 2 says",
    ]);

    let row = base().copy().forge(3, |commit| {
        commit["slots"][0]["rows"][0] = commit["slots"][1]["rows"][0].clone();
    });
    row.is_found(&[
        &at(line_of(&row, 3)),
        "counted in step 3 of the same data epoch",
        "slot 0 of step 3 has rows",
        "of its 379 rows never counted",
    ]);

    let state = base().copy().forge(3, |commit| {
        commit["state_digest"] = json!("ab".repeat(32));
    });
    state.is_found(&[
        &at(line_of(&state, 3)),
        "step 3 starts from another state than",
    ]);

    let slot = base().copy().forge(4, |commit| {
        commit["slots"][1]["digest"] = json!("ab".repeat(32));
    });
    slot.is_found(&[
        &at(line_of(&slot, 4)),
        "slots of step 4 add up to",
        "5 of 6 have the digest",
    ]);

    let skipped = base()
        .copy()
        .forge(4, |commit| commit["update"] = json!("skip"));
    skipped.is_found(&[
        &at(line_of(&skipped, 4)),
        "step 4 was skipped, but by the digests of its slots its gradient is finite",
    ]);

    let rate = base()
        .copy()
        .forge(5, |commit| commit["learning_rate"] = json!("1"));
    rate.is_found(&[
        &at(line_of(&rate, 5)),
        "step 5 has learning rate 1, planned is",
    ]);
}

/// Errors come on another stream, and may arrive first.
fn is_error(line: &str) -> bool {
    let numbered = line.trim_start().starts_with(|c: char| c.is_ascii_digit());
    line.starts_with("error") || numbered && line.contains(". ")
}

#[test]
fn what_no_unsigned_chain_can_show_is_not_claimed() {
    let copy = base().copy().forge(2, raise_loss);
    let losses = copy.audit(&["--json", "--losses"]);
    let json: String = losses.text.lines().filter(|line| !is_error(line)).collect();
    let forged = curve(&serde_json::from_str::<Value>(&json).unwrap()["losses"])[1].1;
    let metrics = copy.path("metrics.jsonl");
    let text = fs::read_to_string(&metrics).unwrap();
    let honest = logged(&metrics)[1].1;
    let from = format!("\"loss\":{}", json!(honest));
    assert!(text.contains(&from), "{text}");
    let to = format!("\"loss\":{}", json!(forged));
    fs::write(&metrics, text.replacen(&from, &to, 1)).unwrap();
    copy.audit(&[]).ended_with(0, &["clean"]);
}

#[test]
fn an_adapter_that_was_exchanged_is_found() {
    let copy = base().copy();
    let adapter = copy.path("adapter/adapter_model.safetensors");
    let mut bytes = fs::read(&adapter).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(adapter, bytes).unwrap();
    copy.is_found(&["adapter_model.safetensors: the adapter is not that of"]);
}

#[test]
fn without_its_dataset_a_ledger_is_only_proven_in_part() {
    let (quickstart, dataset) = own_dataset();
    quickstart.run("out", 1).finish().succeeded();
    fs::remove_file(dataset).unwrap();
    let audit = |arguments: &[&str]| {
        Weft::new(&quickstart.folder().join("cache"), ["audit"])
            .args([quickstart.output("out")])
            .args(arguments)
            .finish()
    };
    let texts = [
        "NOT PROVEN   the plan",
        "rows.jsonl",
        "379, each counted exactly once",
    ];
    audit(&[]).ended_with(41, &texts);
    audit(&["--allow-unproven"]).ended_with(0, &texts);
    let recipe = Quickstart::recipe();
    let recipe = ["--recipe", recipe.to_str().unwrap()];
    let sets = [
        "--set",
        "training.max_steps=6",
        "--set",
        "training.gradient_accumulation_steps=24",
    ];
    audit(&[recipe, [sets[0], sets[1]], [sets[2], sets[3]]].concat()).ended_with(0, &["clean"]);
    audit(&[&recipe[..], &sets[..2]].concat())
        .ended_with(41, &["the recipe at hand is not that of the run"]);
}

#[test]
fn a_ledger_can_be_given_alone_and_nothing_is_no_ledger() {
    let base = base();
    let copy = base.copy();
    let alone = Weft::new(&copy.cache, ["audit"])
        .args([copy.path("ledger")])
        .finish();
    alone.ended_with(41, &["there is no recipe.json", "6, committed in 2 terms"]);
    let empty = Weft::new(&copy.cache, ["audit"])
        .args([copy.path("logs")])
        .finish();
    empty.ended_with(13, &["there is no ledger in"]);
    assert!(base.dataset.exists());
}
