//! Cleaning, selection and every row kind.

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::data::DataError;
use crate::data::chat::Message;
use crate::recipe::{DatasetSection, RowKind, SliceRange};

/// A dataset in a file of its own.
struct Data {
    _dir: tempfile::TempDir,
    section: DatasetSection,
}

impl Data {
    fn new(name: &str, content: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let section = DatasetSection {
            path: path.display().to_string(),
            ..DatasetSection::default()
        };
        Self { _dir: dir, section }
    }

    fn rows(rows: &[Value]) -> Self {
        let lines: Vec<_> = rows.iter().map(Value::to_string).collect();
        Self::new("rows.jsonl", &lines.join("\n"))
    }

    fn with(mut self, change: impl FnOnce(&mut DatasetSection)) -> Self {
        change(&mut self.section);
        self
    }

    fn select(&self) -> Result<(Vec<Result<Example, Malformed>>, CleanTally), DataError> {
        let mut examples = Vec::new();
        let tally = select(&self.section, &mut |row, layout, _| {
            examples.push(layout.example(&row));
            ControlFlow::Continue(())
        })?;
        Ok((examples, tally))
    }

    fn only(&self) -> Result<Example, Malformed> {
        self.select().unwrap().0.remove(0)
    }

    fn error(&self) -> String {
        self.select().unwrap_err().to_string()
    }
}

fn texts(data: &Data) -> Vec<String> {
    let (examples, _) = data.select().unwrap();
    examples
        .into_iter()
        .map(|example| match example.unwrap() {
            Example::Text(text) => text,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn chat(messages: &[Message]) -> Result<Example, Malformed> {
    Ok(Example::Chat {
        messages: messages.to_vec(),
        learnt_from: 0,
    })
}

fn numbered(count: usize) -> Data {
    let rows: Vec<_> = (0..count)
        .map(|index| json!({"text": index.to_string()}))
        .collect();
    Data::rows(&rows)
}

#[test]
fn the_instruction_table_of_a_csv_is_built_in_the_documented_order() {
    let csv = "question,answer,source,focus_area\nq1,a1,s,f\nq2,,s,f\n,a3,s,f\nq1,a1,other,f\nq4,a4,s,f\n";
    let data = Data::new("medquad.csv", csv).with(|section| {
        section.drop_columns = vec![
            "source".to_owned(),
            "focus_area".to_owned(),
            "absent".to_owned(),
        ];
        section.columns = [("question", "input"), ("answer", "output")]
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .into();
        section.instruction = Some("Be truthful.".to_owned());
        section.drop_duplicates = true;
        section.user_prefix = Some("This is the question: ".to_owned());
    });
    let (examples, tally) = data.select().unwrap();
    let expected = |q: &str, a: &str| {
        chat(&[
            Message::system("Be truthful."),
            Message::user(format!("This is the question: {q}")),
            Message::assistant(a),
        ])
    };
    assert_eq!(examples, [expected("q1", "a1"), expected("q4", "a4")]);
    assert_eq!(
        tally,
        CleanTally {
            read: 5,
            empty: 2,
            duplicate: 1
        }
    );
}

#[test]
fn slices_count_as_python_does_and_come_in_their_own_order() {
    let take = |slices: &[(Option<i64>, Option<i64>)], limit| {
        let data = numbered(10).with(|section| {
            section.slices = slices
                .iter()
                .map(|(start, end)| SliceRange(*start, *end))
                .collect();
            section.limit = limit;
        });
        texts(&data).concat()
    };
    assert_eq!(take(&[], Some(3)), "012");
    assert_eq!(take(&[(None, Some(2)), (Some(-5), Some(-4))], None), "015");
    assert_eq!(take(&[(Some(8), None), (None, Some(1))], None), "890");
    assert_eq!(
        take(&[(Some(-100), Some(2)), (Some(9), Some(100))], None),
        "019"
    );
    assert_eq!(take(&[(Some(5), Some(2))], None), "");
    assert_eq!(take(&[(Some(4), Some(7)), (None, None)], Some(5)), "45601");
}

#[test]
fn kinds_are_found_from_columns() {
    let question = || [Message::user("q"), Message::assistant("a")];
    let turns = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]);
    let shared = json!([{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]);
    for row in [
        json!({"messages": turns}),
        json!({"conversations": shared, "source": "s", "score": 1.0}),
        json!({"conversations": shared.to_string()}),
        json!({"instruction": "q", "output": "a"}),
        json!({"instruction": "q", "input": "", "output": "a"}),
        json!({"input": "q", "output": "a"}),
    ] {
        assert_eq!(
            Data::rows(std::slice::from_ref(&row)).only(),
            chat(&question()),
            "{row}"
        );
    }
    assert_eq!(
        Data::rows(&[json!({"text": "t"})]).only(),
        Ok(Example::Text("t".to_owned()))
    );
    let pair = Data::rows(&[json!({"prompt": "p", "completion": "c"})]).only();
    assert_eq!(
        pair,
        Ok(Example::Completion {
            prompt: "p".to_owned(),
            completion: "c".to_owned()
        })
    );
    let named = Data::rows(&[json!({"prompt": "x"})])
        .with(|section| section.text_field = Some("prompt".to_owned()));
    assert_eq!(named.only(), Ok(Example::Text("x".to_owned())));
}

#[test]
fn an_instruction_of_the_row_itself_belongs_to_the_user() {
    let data =
        Data::rows(&[json!({"instruction": "Translate.", "input": "chat", "output": "cat"})]);
    assert_eq!(
        data.only(),
        chat(&[
            Message::user("Translate.\n\nchat"),
            Message::assistant("cat")
        ])
    );
}

#[test]
fn conversational_pairs_learn_the_completion_only() {
    let data = Data::rows(&[json!({
        "prompt": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"}],
        "completion": [{"role": "assistant", "content": "4"}],
    })])
    .with(|section| section.system = Some("S".to_owned()));
    let messages = [
        Message::system("S"),
        Message::user("1"),
        Message::assistant("2"),
        Message::user("3"),
        Message::assistant("4"),
    ];
    assert_eq!(
        data.only(),
        Ok(Example::Chat {
            messages: messages.to_vec(),
            learnt_from: 4
        })
    );
}

#[test]
fn two_speakers_become_turns() {
    let text = "Patient: I cough.\nPatient: Badly. Doctor: How long?\nPatient: A week: daily. Doctor: Rest.";
    let data = Data::rows(&[json!({"text": text})])
        .with(|section| section.kind = Some(RowKind::TwoSpeaker));
    let expected = [
        Message::user("I cough.\nBadly."),
        Message::assistant("How long?"),
        Message::user("A week: daily."),
        Message::assistant("Rest."),
    ];
    assert_eq!(data.only(), chat(&expected));
    let other = Data::rows(&[json!({"text": "Title. Patient: x Doctor: y"})])
        .with(|section| section.kind = Some(RowKind::TwoSpeaker));
    assert!(
        other
            .only()
            .unwrap_err()
            .to_string()
            .contains("does not start with `Patient:`")
    );
}

#[test]
fn rows_that_cannot_be_read_say_why() {
    let turn = |role: &str| json!({"messages": [{"role": role, "content": "x"}]});
    let reason = |row: Value| Data::rows(&[row]).only().unwrap_err().to_string();
    assert_eq!(reason(turn("alien")), "unknown role `alien`");
    assert_eq!(reason(turn("user")), "the assistant says nothing");
    assert_eq!(reason(json!({"messages": [1]})), "a turn is not an object");
    assert_eq!(
        reason(json!({"messages": [{"text": "x"}]})),
        "a turn has neither `role` nor `from`"
    );
    assert_eq!(
        reason(json!({"instruction": ["q"], "output": "a"})),
        "`instruction` is a list or an object, expected text"
    );
}

#[test]
fn a_missing_column_is_named_with_file_present_and_nearest() {
    let error = Data::new("qa.csv", "instruction,outputs\nq,a\n").error();
    for part in [
        "qa.csv",
        "no column `output`",
        "`instruction`, `outputs`",
        "did you mean `outputs`?",
        "datasets[].columns",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let error = Data::new("qa.csv", "foo,bar\nq,a\n").error();
    assert!(
        error.contains("fit no kind of row") && error.contains("`foo`, `bar`"),
        "{error}"
    );
}

#[test]
fn a_rename_onto_an_existing_column_is_refused() {
    let data = Data::new("qa.csv", "input,question,output\na,b,c\n")
        .with(|section| section.columns = [("question".to_owned(), "input".to_owned())].into());
    assert!(
        data.error()
            .contains("renaming column `question` to `input` would overwrite")
    );
}

/// First rows of one table joined with last rows of another, each cut where it lies.
#[test]
fn the_medical_tables_give_two_thousand_rows() {
    let folder = std::env::var("WEFT_TEST_DATA").unwrap_or_else(|_| "../../shared/data".to_owned());
    let section = |name: &str, slice| DatasetSection {
        path: Path::new(&folder).join(name).display().to_string(),
        drop_columns: vec!["source".to_owned(), "focus_area".to_owned()],
        columns: [("question", "input"), ("answer", "output")]
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .into(),
        instruction: Some(
            "Answer the question truthfully, you are a medical professional.".to_owned(),
        ),
        drop_duplicates: true,
        slices: vec![slice],
        ..DatasetSection::default()
    };
    let sections = [
        section("medical_meadow_wikidoc.csv", SliceRange(None, Some(1000))),
        section("medquad.csv", SliceRange(Some(-5000), None)),
    ];
    if !sections
        .iter()
        .all(|section| Path::new(&section.path).is_file())
    {
        eprintln!(
            "SKIPPED: no medical tables in {folder}; set WEFT_TEST_DATA to the folder that has them"
        );
        return;
    }
    let mut rows = 0;
    for section in &sections {
        let tally = select(section, &mut |row, layout, _| {
            rows += 1;
            assert!(matches!(layout.example(&row), Ok(Example::Chat { .. })));
            ControlFlow::Continue(())
        });
        assert_eq!(tally.unwrap().read, 1000);
    }
    assert!(rows > 1900, "{rows}");
}
