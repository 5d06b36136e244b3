//! The documents that the model reads: hand-written prose and questions, and what the grammars tell.
//!
//! `prose/*.txt` holds one document a paragraph, `questions/*.txt` one conversation a paragraph (`Q:` and `A:` lines),
//! `grammar/*.grammar` rules (see [`grammar`]), `instructions.txt` the lines that may stand before a question.

pub mod arithmetic;
pub mod grammar;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::corpus::grammar::Grammar;
use crate::rng::Rng;
use crate::tokenizer::{END_OF_TEXT, END_OF_TURN, START_OF_TURN};

/// One document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// Running text.
    Text(String),
    /// A conversation.
    Chat {
        /// What the assistant is told beforehand.
        system: Option<String>,
        /// Turns of user and assistant, the user first.
        turns: Vec<String>,
    },
}

impl Document {
    /// The document as the model reads it, special tokens spelled out; a chat has the form of the chat template.
    #[must_use]
    pub fn render(&self) -> String {
        match self {
            Self::Text(text) => format!("{text}{END_OF_TEXT}"),
            Self::Chat { system, turns } => {
                let system = system.iter().map(|text| ("system", text));
                let roles = ["user", "assistant"].into_iter().cycle();
                let turn = |(role, text)| format!("{START_OF_TURN}{role}\n{text}{END_OF_TURN}\n");
                system.chain(roles.zip(turns)).map(turn).collect()
            }
        }
    }

    /// The document's words alone.
    #[must_use]
    pub fn plain(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Chat { turns, .. } => turns.join("\n"),
        }
    }

    /// Reads a grammar's line: turns of a chat are set apart by ` => `.
    fn from_line(line: &str) -> Self {
        let turns: Vec<String> = line.split(" => ").map(str::to_owned).collect();
        match turns.len() {
            1 => Self::Text(line.to_owned()),
            _ => Self::Chat {
                system: None,
                turns,
            },
        }
    }
}

/// All sources of documents.
#[derive(Debug)]
pub struct Corpus {
    prose: Vec<String>,
    questions: Vec<Vec<String>>,
    grammars: Vec<Grammar>,
    instructions: Vec<String>,
}

impl Corpus {
    /// Reads a corpus folder; files are taken in the order of their names.
    ///
    /// # Errors
    ///
    /// A missing or empty folder, or a mistake in a file, which is named.
    pub fn load(folder: &Path) -> Result<Self> {
        let mut corpus = Self {
            prose: Vec::new(),
            questions: Vec::new(),
            grammars: Vec::new(),
            instructions: read(&folder.join("instructions.txt"))?
                .lines()
                .map(str::to_owned)
                .collect(),
        };
        for path in files(&folder.join("prose"))? {
            corpus
                .prose
                .extend(paragraphs(&read(&path)?).map(|text| text.replace('\n', " ")));
        }
        for path in files(&folder.join("questions"))? {
            for paragraph in paragraphs(&read(&path)?) {
                corpus.questions.push(
                    conversation(paragraph).with_context(|| format!("in {}", path.display()))?,
                );
            }
        }
        for path in files(&folder.join("grammar"))? {
            let grammar =
                Grammar::parse(&read(&path)?).with_context(|| format!("in {}", path.display()))?;
            corpus.grammars.push(grammar);
        }
        Ok(corpus)
    }

    /// Every hand-written document as plain text.
    #[must_use]
    pub fn hand_written(&self) -> Vec<String> {
        let questions = self.questions.iter().map(|turns| turns.join("\n"));
        self.prose.iter().cloned().chain(questions).collect()
    }

    /// Draws a document: in twenty, three of prose, five hand-written conversations, one of sums, eleven from grammars.
    ///
    /// # Errors
    ///
    /// A grammar that never ends.
    pub fn document(&self, rng: &mut Rng) -> Result<Document> {
        let document = match rng.below(20) {
            0..3 => Document::Text(rng.pick(&self.prose).clone()),
            3..8 => Document::Chat {
                system: None,
                turns: rng.pick(&self.questions).clone(),
            },
            8 => Document::Chat {
                system: None,
                turns: arithmetic::conversation(rng),
            },
            _ => Document::from_line(&rng.pick(&self.grammars).expand(rng)?),
        };
        Ok(self.instructed(document, rng))
    }

    /// Gives every third conversation an instruction, as system message or before the question, as fine-tuning sets do.
    fn instructed(&self, document: Document, rng: &mut Rng) -> Document {
        let Document::Chat { mut turns, .. } = document else {
            return document;
        };
        let instruction = rng.pick(&self.instructions);
        let system = match rng.below(6) {
            0 => Some(instruction.clone()),
            1 => {
                turns[0] = format!("{instruction}\n\n{}", turns[0]);
                None
            }
            _ => None,
        };
        Document::Chat { system, turns }
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    ensure!(!paths.is_empty(), "{} holds no files", folder.display());
    Ok(paths)
}

fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n\n")
        .map(str::trim)
        .filter(|paragraph| !paragraph.is_empty())
}

/// Reads `Q:` and `A:` lines in turn.
fn conversation(paragraph: &str) -> Result<Vec<String>> {
    let labels = ["Q: ", "A: "].into_iter().cycle();
    let turns = paragraph
        .lines()
        .zip(labels)
        .map(|(line, label)| {
            let turn = line.strip_prefix(label).map(str::to_owned);
            turn.with_context(|| format!("{line:?} should start with {label:?}"))
        })
        .collect::<Result<Vec<_>>>()?;
    ensure!(
        turns.len() % 2 == 0,
        "{paragraph:?} ends with a question; add its answer"
    );
    Ok(turns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chat_is_rendered_in_the_form_of_the_chat_template() {
        let chat = Document::from_line("Hello. => Good day.");

        assert_eq!(
            chat.render(),
            "<|im_start|>user\nHello.<|im_end|>\n<|im_start|>assistant\nGood day.<|im_end|>\n"
        );
    }

    #[test]
    fn question_without_answer_is_refused() {
        let error = conversation("Q: Why?\nA: Because.\nQ: Really?").unwrap_err();

        assert!(
            error.to_string().contains("ends with a question"),
            "{error}"
        );
    }
}
