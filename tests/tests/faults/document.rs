//! `docs/failures.md` names tests that exist.

use std::fs;

use weft_tests::repository;

#[test]
fn every_test_that_the_document_of_failures_names_exists() {
    let docs = repository().join("docs");
    let text = fs::read_to_string(docs.join("failures.md")).unwrap();
    let links: Vec<(&str, &str)> = text
        .split("[`")
        .skip(1)
        .filter_map(|rest| rest.split_once("`]("))
        .filter_map(|(name, rest)| Some((name, rest.split_once(')')?.0)))
        .filter(|(_, path)| path.ends_with(".rs"))
        .collect();
    assert!(links.len() > 20, "{links:?}");
    for (name, path) in links {
        let source = fs::read_to_string(docs.join(path))
            .unwrap_or_else(|error| panic!("docs/failures.md names {path}: {error}"));
        let names: Vec<&str> = source
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .collect();
        assert!(names.contains(&name), "{path} has no test {name}");
    }
}
