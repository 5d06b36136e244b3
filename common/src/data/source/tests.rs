//! Every file type, whole and broken.

use std::ops::ControlFlow;

use serde_json::json;

use super::*;

fn read_file(name: &str, content: &str) -> Result<Vec<Value>, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    let mut rows = Vec::new();
    let mut last = 0;
    let mut visit = |row: RawRow, position: u64| {
        assert!(position > last && position <= content.len() as u64);
        last = position;
        rows.push(row.into());
        ControlFlow::Continue(())
    };
    read(&path, &mut visit).map_err(|error| error.to_string())?;
    Ok(rows)
}

#[test]
fn csv_keeps_quoted_newlines_and_makes_empty_cells_null() {
    let rows = read_file("a.csv", "\u{feff}q,a\n\"x\n\"\"y\"\"\",1\n,z\n").unwrap();
    assert_eq!(
        rows,
        [
            json!({"q": "x\n\"y\"", "a": "1"}),
            json!({"q": null, "a": "z"})
        ]
    );
    assert_eq!(
        read_file("a.tsv", "q\ta\nx,y\tz\n").unwrap(),
        [json!({"q": "x,y", "a": "z"})]
    );
}

#[test]
fn every_json_layout_gives_the_same_rows() {
    let expected = [json!({"a": 1, "b": [2]}), json!({"a": "x,]"})];
    let (first, second) = (expected[0].to_string(), expected[1].to_string());
    for (name, content) in [
        ("a.json", format!("[{first},\n {second} ]")),
        (
            "a.json",
            format!("{{\"version\": 1.5, \"data\": [{first},{second}]}}"),
        ),
        ("a.json", format!("{first}\n{second}\n")),
        ("a.jsonl", format!("{first}\n\n{second}")),
        ("a.NDJSON", format!("{first}\r\n{second}\r\n")),
    ] {
        assert_eq!(read_file(name, &content).unwrap(), expected, "{content}");
    }
    assert_eq!(read_file("a.json", "[]").unwrap(), Vec::<Value>::new());
    assert_eq!(read_file("a.json", "").unwrap(), Vec::<Value>::new());
}

#[test]
fn broken_files_name_file_and_line() {
    for (name, content, line, what) in [
        ("a.csv", "q,a\nx,y\nz\n", 3, "1 fields, the header has 2"),
        ("a.jsonl", "{\"a\": 1}\n\n{\"a\": ", 3, "EOF"),
        ("a.jsonl", "{\"a\": 1}\n[1]\n", 2, "invalid type"),
        ("a.json", "[{\"a\": 1}\n{\"a\": 2}]", 2, "expected `,`"),
        ("a.json", "[{\"a\": 1},\n", 2, "the file ends"),
    ] {
        let error = read_file(name, content).unwrap_err();
        assert!(
            error.contains(&format!("{name} line {line}: ")) && error.contains(what),
            "{error}"
        );
    }
    let error = read_file("a.parquet", "").unwrap_err();
    assert!(error.contains("weft reads .csv"), "{error}");
}

#[test]
fn reading_stops_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    std::fs::write(&path, "{}\n{}\nbroken").unwrap();
    let mut seen = 0;
    let mut visit = |_, _| {
        seen += 1;
        if seen == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    read(&path, &mut visit).unwrap();
    assert_eq!(seen, 2);
}
