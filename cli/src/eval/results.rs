//! What an evaluation found.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value, json};
use weft_common::id::Digest;
use weft_worker::eval::ExactLoss;
use weft_worker::eval::metrics::Scores;

use crate::output::figures::rounded;

/// A question, what the model said to it, and what it should have said. Keys are LLaMA-Factory's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Answer {
    pub(super) prompt: String,
    pub(super) predict: String,
    pub(super) label: String,
}

/// What one model was found to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Evaluation {
    pub(super) loss: ExactLoss,
    /// None where nothing was asked.
    pub(super) scores: Option<Scores>,
    pub(super) answers: Vec<Answer>,
    /// Wall time.
    pub(super) seconds: f64,
}

impl Evaluation {
    /// Every figure with its name, in the order in which they are shown.
    pub(super) fn figures(&self) -> Vec<(&'static str, f64)> {
        let loss = [
            ("loss", self.loss.mean()),
            ("perplexity", self.loss.perplexity()),
        ];
        let scores = self.scores.iter().flat_map(Scores::named);
        loss.into_iter().chain(scores).collect()
    }

    /// With the keys of Hugging Face's trainer where it has them. Not rounded.
    fn json(&self) -> Map<String, Value> {
        let mut keys: Map<String, Value> = self
            .figures()
            .into_iter()
            .map(|(name, value)| (format!("eval_{name}"), json!(value)))
            .collect();
        let rows = self.loss.rows();
        let rate = if self.seconds > 0.0 {
            rounded(rows as f64 / self.seconds, 3)
        } else {
            0.0
        };
        keys.insert("eval_runtime".into(), rounded(self.seconds, 4).into());
        keys.insert("eval_samples".into(), rows.into());
        keys.insert("eval_samples_per_second".into(), rate.into());
        keys.insert("eval_supervised_tokens".into(), self.loss.tokens().into());
        keys
    }
}

/// What was found of a base model, of an adapter on it, or of both.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Report {
    pub(super) model: String,
    pub(super) adapter: Option<PathBuf>,
    pub(super) split: &'static str,
    pub(super) dataset: Digest,
    pub(super) base: Option<Evaluation>,
    pub(super) adapted: Option<Evaluation>,
}

impl Report {
    /// What the model that was named was found to do.
    pub(super) fn subject(&self) -> Option<&Evaluation> {
        self.adapted.as_ref().or(self.base.as_ref())
    }

    /// Each model that was evaluated, with its name.
    pub(super) fn columns(&self) -> Vec<(&'static str, &Evaluation)> {
        let named = [("base", &self.base), ("adapter", &self.adapted)];
        named
            .into_iter()
            .filter_map(|(name, found)| Some((name, found.as_ref()?)))
            .collect()
    }

    /// `eval_results.json`: figures of the subject, and under `base` those of its base where both were evaluated.
    pub(super) fn json(&self) -> Value {
        let mut keys = self.subject().map(Evaluation::json).unwrap_or_default();
        if let (Some(base), Some(_)) = (&self.base, &self.adapted) {
            keys.insert("base".into(), Value::Object(base.json()));
        }
        keys.insert("model".into(), self.model.clone().into());
        keys.insert("adapter".into(), json!(self.adapter));
        keys.insert("split".into(), self.split.into());
        keys.insert("dataset".into(), json!(self.dataset));
        Value::Object(keys)
    }

    /// A row for each figure, a column for each model.
    pub(super) fn table(&self) -> Vec<(&'static str, Vec<f64>)> {
        let columns = self.columns();
        let names = self.subject().map(Evaluation::figures).unwrap_or_default();
        let value = |row: usize| move |column: &(&str, &Evaluation)| column.1.figures()[row].1;
        names
            .iter()
            .enumerate()
            .map(|(row, (name, _))| (*name, columns.iter().map(value(row)).collect()))
            .collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(subject) = self.subject() {
            let (rows, tokens) = (subject.loss.rows(), subject.loss.tokens());
            writeln!(
                f,
                "{} rows ({}), {tokens} supervised tokens, {} answers",
                rows,
                self.split,
                subject.answers.len()
            )?;
        }
        write!(f, "{:<12}", "")?;
        for (name, _) in self.columns() {
            write!(f, "{name:>12}")?;
        }
        for (name, values) in self.table() {
            write!(f, "\n{name:<12}")?;
            for value in values {
                write!(f, "{value:>12.4}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use weft_worker::eval::metrics::Tally;
    use weft_worker::train::SlotLoss;

    use super::*;

    /// A report on one row, of which the adapter knows the answer and the base does not.
    pub(in super::super) fn report() -> Report {
        let evaluation = |loss_sum: f64, predict: &str| {
            let label = "Rest and <water>".to_owned();
            let mut tally = Tally::default();
            tally.add(predict, &label);
            Evaluation {
                loss: ExactLoss::of_row(SlotLoss {
                    loss_sum,
                    supervised: 4,
                }),
                scores: Some(tally.scores()),
                answers: vec![Answer {
                    prompt: "What helps?".to_owned(),
                    predict: predict.to_owned(),
                    label,
                }],
                seconds: 2.0,
            }
        };
        Report {
            model: "models/tiny".to_owned(),
            adapter: Some("out/adapter".into()),
            split: "validation",
            dataset: Digest([7; 32]),
            base: Some(evaluation(8.0, "zz")),
            adapted: Some(evaluation(2.0, "Rest and <water>")),
        }
    }

    #[test]
    fn the_table_compares_base_and_adapter() {
        let text = report().to_string();
        for line in [
            "1 rows (validation), 4 supervised tokens, 1 answers",
            "                    base     adapter",
            "loss              2.0000      0.5000",
            "rouge-1           0.0000    100.0000",
            "exact_match       0.0000    100.0000",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn the_json_has_the_keys_of_the_trainer_and_the_base_beside() {
        let json = report().json();
        assert_eq!(json["eval_loss"], 0.5);
        assert_eq!(json["eval_samples_per_second"], 0.5);
        assert_eq!(json["eval_bleu-4"], 100.0);
        assert_eq!(json["base"]["eval_loss"], 2.0);
        let alone = Report {
            adapted: None,
            adapter: None,
            ..report()
        };
        assert_eq!(alone.json()["eval_loss"], 2.0);
        assert_eq!(alone.json().get("base"), None);
    }
}
