//! What is wrong with a recipe, said so that it can be put right.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the key, such as `training.learning_rate` or `datasets[0].path`; empty for the recipe as a whole.
    pub key: String,
    /// The value that was found, as JSON, where one value is to blame.
    pub found: Option<String>,
    /// What is wrong with it.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Problem {
    pub(super) fn new(
        key: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            key: key.into(),
            found: None,
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    /// Names the value that is to blame, shortened where it is long.
    pub(super) fn found(mut self, value: impl fmt::Display) -> Self {
        const SHOWN_CHARS: usize = 60;
        let text = value.to_string();
        let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        self.found = Some(shown);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(found) = &self.found {
            write!(f, " = {found}")?;
        }
        if !self.key.is_empty() {
            f.write_str(": ")?;
        }
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// Everything that is wrong with a recipe, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipeErrors {
    /// The recipe's file, or what stands for it.
    pub source: String,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for RecipeErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "recipe {} has {count} {noun}", self.source)?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for RecipeErrors {}
