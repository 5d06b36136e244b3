//! Tables as `ps` and `kubectl get` print them: a line of capitals, columns that are as wide as they must be.

use std::fmt;

use unicode_width::UnicodeWidthStr;

const GAP: &str = "   ";
/// What a cell says that has nothing to say.
const NOTHING: &str = "-";

/// Which side of a column is even.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Of text.
    Left,
    /// Of numbers.
    Right,
}

/// Rows under a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table<const COLUMNS: usize> {
    head: [(&'static str, Side); COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// An empty table.
    pub(super) fn new(head: [(&'static str, Side); COLUMNS]) -> Self {
        Self {
            head,
            rows: Vec::new(),
        }
    }

    /// Appends a row. Whatever would break the line or move the cursor is replaced.
    pub(super) fn push(&mut self, row: [String; COLUMNS]) {
        self.rows.push(row.map(|cell| match plain(&cell) {
            cell if cell.is_empty() => NOTHING.to_owned(),
            cell => cell,
        }));
    }

    fn widths(&self) -> [usize; COLUMNS] {
        let mut widths = self.head.map(|(name, _)| name.width());
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        widths
    }
}

impl<const COLUMNS: usize> fmt::Display for Table<COLUMNS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let line = |cells: [&str; COLUMNS]| {
            let mut line = String::new();
            for ((cell, (_, side)), width) in cells.into_iter().zip(self.head).zip(widths) {
                let blank = " ".repeat(width - cell.width());
                match side {
                    Side::Left => line.extend([cell, &blank, GAP]),
                    Side::Right => line.extend([&blank, cell, GAP]),
                }
            }
            line.truncate(line.trim_end().len());
            line
        };
        f.write_str(&line(self.head.map(|(name, _)| name)))?;
        for row in &self.rows {
            write!(f, "\n{}", line(row.each_ref().map(String::as_str)))?;
        }
        Ok(())
    }
}

/// Text on one line, without characters that a terminal obeys.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The beginning of a text that is too long for a cell.
pub(super) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.truncate(short.trim_end().len());
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be_and_lines_end_with_text() {
        let mut table = Table::new([
            ("JOB", Side::Left),
            ("STEP", Side::Right),
            ("WHY", Side::Left),
        ]);
        table.push(["job-1".into(), "7".into(), "".into()]);
        table.push(["日本".into(), "12345".into(), "waits\nlong\x1b".into()]);
        let text = "JOB      STEP   WHY\n\
                    job-1       7   -\n\
                    日本    12345   waits long";
        assert_eq!(table.to_string(), text);
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(shortened("größer", 6), "größer");
        assert_eq!(shortened("größer als", 6), "größe…");
    }
}
