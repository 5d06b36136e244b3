//! Comma- or tab-separated values with a header; quoted fields may hold newlines.

use std::ops::ControlFlow;

use serde_json::Value;

use super::{Fault, RawRow, Visitor};

pub(super) fn read(bytes: &[u8], delimiter: u8, visit: &mut Visitor<'_>) -> Result<(), Fault> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .from_reader(bytes);
    let header = reader.headers().map_err(fault)?.clone();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(fault)? {
        let cells = header.iter().zip(&record);
        let row: RawRow = cells
            .map(|(name, cell)| (name.to_owned(), value(cell)))
            .collect();
        if let ControlFlow::Break(()) = visit(row, reader.position().byte()) {
            break;
        }
    }
    Ok(())
}

fn value(cell: &str) -> Value {
    if cell.is_empty() {
        Value::Null
    } else {
        cell.into()
    }
}

fn fault(error: csv::Error) -> Fault {
    let line = error.position().map_or(1, csv::Position::line);
    let detail = match error.kind() {
        csv::ErrorKind::Utf8 { err, .. } => format!("text is not UTF-8: {err}"),
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => {
            format!("{len} fields, the header has {expected_len}; is a quote or a comma missing?")
        }
        _ => error.to_string(),
    };
    (line, detail)
}
