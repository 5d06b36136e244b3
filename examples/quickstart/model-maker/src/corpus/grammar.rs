//! Rules that tell new documents: lists of alternatives with places to fill, and tables of facts.
//!
//! ```text
//! [document]                          where every document starts; each line below is an alternative
//! {^a animal} lived in {c=country.name}. The capital of {c.name} is {c.capital}.
//! [animal]
//! owl
//! [table country: name, capital]      one row is drawn as a whole
//! France | Paris
//! ```
//!
//! A place names a rule. `x=` keeps what was drawn under the name x for the rest of the document; a kept table row is not
//! drawn again under another name. `.` takes a table's column, `a ` puts the right article before, `^` starts with a capital.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use crate::corpus::arithmetic::capitalized;
use crate::rng::Rng;

/// Rules nest at most this deep; deeper ones would hardly end.
const MAX_DEPTH: usize = 24;

/// A set of rules.
#[derive(Debug, Default)]
pub struct Grammar {
    rules: BTreeMap<String, Rule>,
}

#[derive(Debug)]
enum Rule {
    Lines(Vec<Vec<Part>>),
    Table {
        columns: Vec<String>,
        rows: Vec<Vec<String>>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Place),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    capital: bool,
    article: bool,
    keep: Option<String>,
    name: String,
    column: Option<String>,
}

/// What a document has kept by name: a text, or a row of a table.
#[derive(Debug, Clone)]
enum Kept {
    Text(String),
    Row { table: String, index: usize },
}

impl Grammar {
    /// Reads rules.
    ///
    /// # Errors
    ///
    /// A line outside any rule, an empty rule, a row of the wrong length, or a place that names nothing.
    pub fn parse(text: &str) -> Result<Self> {
        let mut grammar = Self::default();
        let mut current = String::new();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(head) = line
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
            {
                current = grammar.open(head)?;
                continue;
            }
            let rule = grammar
                .rules
                .get_mut(&current)
                .context("a line stands before the first rule")?;
            rule.push(line)
                .with_context(|| format!("in rule {current}, line {line:?}"))?;
        }
        ensure!(
            grammar.rules.contains_key("document"),
            "no rule [document] to start from"
        );
        for (name, rule) in &grammar.rules {
            grammar
                .check(rule)
                .with_context(|| format!("in rule {name}"))?;
        }
        Ok(grammar)
    }

    /// Starts a rule and returns its name.
    fn open(&mut self, head: &str) -> Result<String> {
        let (name, rule) = match head
            .strip_prefix("table ")
            .map(|table| table.split_once(':'))
        {
            None => (head, Rule::Lines(Vec::new())),
            Some(None) => {
                bail!("table {head:?} has no columns; write [table name: column, column]")
            }
            Some(Some((name, columns))) => {
                let columns = columns
                    .split(',')
                    .map(|column| column.trim().to_owned())
                    .collect();
                (
                    name,
                    Rule::Table {
                        columns,
                        rows: Vec::new(),
                    },
                )
            }
        };
        let name = name.trim().to_owned();
        ensure!(
            self.rules.insert(name.clone(), rule).is_none(),
            "rule {name} is written twice"
        );
        Ok(name)
    }

    /// Checks that a rule has alternatives and that their places name rules, columns or kept names.
    fn check(&self, rule: &Rule) -> Result<()> {
        let lines = match rule {
            Rule::Lines(lines) => lines,
            Rule::Table { rows, .. } => {
                ensure!(!rows.is_empty(), "the table has no rows");
                return Ok(());
            }
        };
        ensure!(!lines.is_empty(), "the rule has no alternatives");
        let kept = self.kept_names()?;
        for place in lines.iter().flatten().filter_map(Part::place) {
            let known =
                self.rules.contains_key(&place.name) || kept.contains_key(place.name.as_str());
            ensure!(
                known,
                "place {:?} names no rule and nothing kept",
                place.name
            );
            let target = kept
                .get(place.name.as_str())
                .copied()
                .unwrap_or(&place.name);
            match (self.rules.get(target), &place.column) {
                (Some(Rule::Table { columns, .. }), Some(column)) => {
                    ensure!(
                        columns.contains(column),
                        "table {target} has no column {column:?}"
                    );
                }
                (Some(Rule::Table { .. }), None) => {
                    bail!("place {:?} must name a column of {target}", place.name)
                }
                (_, Some(column)) => bail!(
                    "place {:?} takes column {column:?} of what is no table",
                    place.name
                ),
                (_, None) => {}
            }
        }
        Ok(())
    }

    /// All kept names with the rule that they are drawn from, which is one and the same in all places.
    fn kept_names(&self) -> Result<BTreeMap<&str, &str>> {
        let lines = self.rules.values().filter_map(|rule| match rule {
            Rule::Lines(lines) => Some(lines.iter().flatten()),
            Rule::Table { .. } => None,
        });
        let mut kept = BTreeMap::new();
        for place in lines.flatten().filter_map(Part::place) {
            if let Some(name) = place.keep.as_deref() {
                let before = kept.insert(name, place.name.as_str());
                let same = before.is_none_or(|before| before == place.name);
                ensure!(
                    same,
                    "{name} keeps both {before:?} and {:?}; rename one",
                    place.name
                );
            }
        }
        Ok(kept)
    }

    /// Tells one document.
    ///
    /// # Errors
    ///
    /// Rules that nest too deep, or a kept name that is used before it is kept.
    pub fn expand(&self, rng: &mut Rng) -> Result<String> {
        let mut kept = BTreeMap::new();
        self.tell("document", &mut kept, rng, 0)
    }

    fn tell(
        &self,
        name: &str,
        kept: &mut BTreeMap<String, Kept>,
        rng: &mut Rng,
        depth: usize,
    ) -> Result<String> {
        ensure!(
            depth < MAX_DEPTH,
            "rule {name} nests deeper than {MAX_DEPTH}"
        );
        let Some(Rule::Lines(lines)) = self.rules.get(name) else {
            bail!("{name} is used before it is kept");
        };
        let mut told = String::new();
        for part in rng.pick(lines) {
            match part {
                Part::Text(text) => told.push_str(text),
                Part::Place(place) => told.push_str(&self.fill(place, kept, rng, depth)?),
            }
        }
        Ok(told)
    }

    fn fill(
        &self,
        place: &Place,
        kept: &mut BTreeMap<String, Kept>,
        rng: &mut Rng,
        depth: usize,
    ) -> Result<String> {
        let drawn = match kept.get(&place.name) {
            Some(known) => known.clone(),
            None => match self.rules.get(&place.name) {
                Some(Rule::Table { rows, .. }) => draw_row(&place.name, rows.len(), kept, rng),
                _ => Kept::Text(self.tell(&place.name, kept, rng, depth + 1)?),
            },
        };
        if let Some(name) = &place.keep {
            kept.insert(name.clone(), drawn.clone());
        }
        let mut text = match (drawn, &place.column) {
            (Kept::Row { table, index }, Some(column)) => self.cell(&table, index, column)?,
            (Kept::Text(text), None) => text,
            (drawn, column) => bail!(
                "place {:?} asks for column {column:?} of {drawn:?}",
                place.name
            ),
        };
        if place.article {
            let article = article_of(&text);
            text = format!("{article} {text}");
        }
        Ok(if place.capital {
            capitalized(&text)
        } else {
            text
        })
    }

    fn cell(&self, table: &str, index: usize, column: &str) -> Result<String> {
        let Some(Rule::Table { columns, rows }) = self.rules.get(table) else {
            bail!("{table} is no table");
        };
        let at = columns.iter().position(|name| name == column);
        let at = at.with_context(|| format!("table {table} has no column {column:?}"))?;
        Ok(rows[index][at].clone())
    }
}

/// The indefinite article by the first sound: a useful map, an owl.
fn article_of(text: &str) -> &'static str {
    let consonant_sound = ["use", "uni", "one", "eu"]
        .iter()
        .any(|start| text.starts_with(start));
    let vowel = text.starts_with(['a', 'e', 'i', 'o', 'u', 'A', 'E', 'I', 'O']);
    if vowel && !consonant_sound { "an" } else { "a" }
}

/// Draws a row that the document has not kept yet, where there is one.
fn draw_row(table: &str, rows: usize, kept: &BTreeMap<String, Kept>, rng: &mut Rng) -> Kept {
    let taken = |row: usize| {
        kept.values().any(
            |known| matches!(known, Kept::Row { table: of, index } if of == table && *index == row),
        )
    };
    let free: Vec<usize> = (0..rows).filter(|&row| !taken(row)).collect();
    let index = if free.is_empty() {
        rng.below(rows)
    } else {
        *rng.pick(&free)
    };
    Kept::Row {
        table: table.to_owned(),
        index,
    }
}

impl Rule {
    fn push(&mut self, line: &str) -> Result<()> {
        match self {
            Self::Lines(lines) => lines.push(parse_line(line)?),
            Self::Table { columns, rows } => {
                let row: Vec<String> = line.split('|').map(|cell| cell.trim().to_owned()).collect();
                ensure!(
                    row.len() == columns.len(),
                    "{} cells for {} columns",
                    row.len(),
                    columns.len()
                );
                rows.push(row);
            }
        }
        Ok(())
    }
}

impl Part {
    fn place(&self) -> Option<&Place> {
        match self {
            Self::Place(place) => Some(place),
            Self::Text(_) => None,
        }
    }
}

/// Splits a line into text and places.
fn parse_line(line: &str) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('{') {
        let (inside, after) = after
            .split_once('}')
            .context("a place is not closed with }")?;
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        parts.push(Part::Place(parse_place(inside)));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(parts)
}

fn parse_place(inside: &str) -> Place {
    let (capital, inside) = inside
        .strip_prefix('^')
        .map_or((false, inside), |rest| (true, rest));
    let (article, inside) = inside
        .strip_prefix("a ")
        .map_or((false, inside), |rest| (true, rest));
    let (keep, inside) = inside
        .split_once('=')
        .map_or((None, inside), |(keep, rest)| (Some(keep.to_owned()), rest));
    let (name, column) = inside
        .split_once('.')
        .map_or((inside, None), |(name, column)| {
            (name, Some(column.to_owned()))
        });
    Place {
        capital,
        article,
        keep,
        name: name.to_owned(),
        column,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_row_gives_all_its_columns() {
        let text = "[document]\n{^a animal} saw {c=country.name} and {c.capital}.\n[animal]\nowl\n\
                    [table country: name, capital]\nFrance | Paris\n";

        let told = Grammar::parse(text)
            .unwrap()
            .expand(&mut Rng::new(1))
            .unwrap();

        assert_eq!(told, "An owl saw France and Paris.");
    }

    #[test]
    fn kept_row_is_not_drawn_under_another_name() {
        let text = "[document]\n{x=who.name} met {y=who.name}.\n[table who: name]\nAnn\nBen\n";
        let grammar = Grammar::parse(text).unwrap();
        let mut rng = Rng::new(5);

        let told: Vec<String> = (0..50).map(|_| grammar.expand(&mut rng).unwrap()).collect();

        assert!(
            told.iter()
                .all(|line| line == "Ann met Ben." || line == "Ben met Ann."),
            "{told:?}"
        );
    }

    #[test]
    fn unknown_place_is_refused_with_its_rule() {
        let error = Grammar::parse("[document]\nThe {beast} slept.\n").unwrap_err();

        assert_eq!(
            format!("{error:#}"),
            "in rule document: place \"beast\" names no rule and nothing kept"
        );
    }

    #[test]
    fn endless_rule_is_refused() {
        let grammar = Grammar::parse("[document]\n{document} again\n").unwrap();

        let error = grammar.expand(&mut Rng::new(1)).unwrap_err();

        assert!(error.to_string().contains("nests deeper"), "{error}");
    }
}
