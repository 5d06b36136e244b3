//! A file of prompts: read and checked as a whole, then answered one by one.

use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use weft_common::data::chat::Message;
use weft_worker::generate::{Prompt, TextModel};

use super::{Args, described, encode};
use crate::exit::{Exit, Failure};
use crate::output::print;

/// A line of a .jsonl file.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Messages { messages: Vec<Turn> },
    Prompt { prompt: String },
}

#[derive(Debug, Deserialize)]
struct Turn {
    role: String,
    content: String,
}

/// A prompt, its tokens, and as what it comes back.
struct Asked {
    echo: (&'static str, Value),
    tokens: Vec<u32>,
}

/// Answers all of them. Nothing is generated where one of them cannot be used, and no output file is there before all are
/// answered.
pub(super) fn run(args: &Args, model: &TextModel, path: &Path) -> Result<(), Failure> {
    let prompts = read(args, model, path)?;
    let mut lines = String::new();
    for (index, asked) in prompts.iter().enumerate() {
        let answer = args.generate(model, &asked.tokens, &mut |_| ControlFlow::Continue(()))?;
        let mut line = json!({ "index": index, (asked.echo.0): asked.echo.1 });
        if let (Value::Object(line), Value::Object(answer)) = (&mut line, described(&answer)) {
            line.extend(answer);
        }
        match &args.output {
            None => {
                if print::line(line)?.is_break() {
                    return Ok(());
                }
            }
            Some(_) => {
                lines.push_str(&line.to_string());
                lines.push('\n');
            }
        }
    }
    match &args.output {
        None => Ok(()),
        Some(output) => write(output, &lines),
    }
}

fn read(args: &Args, model: &TextModel, path: &Path) -> Result<Vec<Asked>, Failure> {
    let refused = |problem: &dyn std::fmt::Display| {
        Failure::new(Exit::Data, format_args!("{}: {problem}", path.display()))
    };
    let text = fs::read_to_string(path).map_err(|error| refused(&error))?;
    let lines = (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty());
    let is_json = path
        .extension()
        .is_some_and(|extension| extension == "jsonl");
    let asked = |(number, line): (usize, &str)| -> Result<Asked, Failure> {
        let at_line =
            |problem: &dyn std::fmt::Display| refused(&format_args!("line {number}: {problem}"));
        let (echo, prompt) = match is_json {
            false => (("prompt", line.into()), args.prompt_of(line)),
            true => json_prompt(args, line).map_err(|error| {
                at_line(&format_args!(
                    "{error}; an object with `prompt`, a text, or `messages`, each with role and content, is expected"
                ))
            })?,
        };
        let tokens = encode(model, &prompt).map_err(|failure| at_line(&failure.text()))?;
        Ok(Asked { echo, tokens })
    };
    let prompts = lines.map(asked).collect::<Result<Vec<_>, _>>()?;
    match prompts.is_empty() {
        true => Err(refused(&"it holds no prompt")),
        false => Ok(prompts),
    }
}

fn json_prompt(
    args: &Args,
    line: &str,
) -> Result<((&'static str, Value), Prompt), serde_json::Error> {
    let parsed: Line = serde_json::from_str(line)?;
    Ok(match parsed {
        Line::Prompt { prompt } => (("prompt", prompt.as_str().into()), args.prompt_of(&prompt)),
        Line::Messages { messages } => {
            let echo = messages
                .iter()
                .map(|turn| json!({"role": turn.role, "content": turn.content}));
            let echo = ("messages", echo.collect());
            let messages = messages
                .into_iter()
                .map(|turn| Message::new(turn.role, turn.content));
            (echo, Prompt::Chat(args.after_system(messages.collect())))
        }
    })
}

/// Writes beside the place and moves there.
fn write(output: &Path, lines: &str) -> Result<(), Failure> {
    let folder = output
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let written = || {
        let for_everyone = fs::Permissions::from_mode(0o644);
        let mut file = tempfile::Builder::new()
            .permissions(for_everyone)
            .tempfile_in(folder.unwrap_or(Path::new(".")))?;
        file.write_all(lines.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(output)?;
        Ok::<_, std::io::Error>(())
    };
    written().map_err(|error| {
        let problem = format_args!("cannot write {}: {error}", output.display());
        Failure::new(Exit::Environment, problem)
    })
}
