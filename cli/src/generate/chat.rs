//! A conversation over standard input: a line is a turn.

use std::io::{self, BufRead, IsTerminal};

use weft_common::data::chat::Message;
use weft_worker::generate::{Prompt, TextModel};

use super::{Args, encode, stream};
use crate::exit::{Exit, Failure};
use crate::output::print;

/// What a person is told at the beginning.
const WELCOME: &str = "A line is a turn. /reset forgets the conversation, /exit or Ctrl-D ends it.";

/// Answers line by line until the input ends. A terminal is shown where to write.
pub(super) fn run(args: &Args, model: &TextModel) -> Result<(), Failure> {
    let input = io::stdin();
    let is_terminal = input.is_terminal();
    if is_terminal {
        print::error(WELCOME);
    }
    let mut turns: Vec<Message> = Vec::new();
    let mut lines = input.lock().lines();
    loop {
        if is_terminal && print::part("> ")?.is_break() {
            return Ok(());
        }
        let line = match lines.next() {
            None => return Ok(()),
            Some(Ok(line)) => line,
            Some(Err(error)) => {
                let problem = format_args!("cannot read standard input: {error}");
                return Err(Failure::new(Exit::Environment, problem));
            }
        };
        match line.trim() {
            "" => {}
            "/exit" => return Ok(()),
            "/reset" => turns.clear(),
            said => answer(args, model, &mut turns, said)?,
        }
    }
}

/// One turn of both. One that does not fit is told, and the conversation stays what it was.
fn answer(
    args: &Args,
    model: &TextModel,
    turns: &mut Vec<Message>,
    said: &str,
) -> Result<(), Failure> {
    turns.push(Message::user(said));
    let prompt = Prompt::Chat(args.after_system(turns.clone()));
    match encode(model, &prompt) {
        Ok(tokens) => {
            let answer = stream(args, model, &tokens)?;
            turns.push(Message::assistant(answer.text));
        }
        Err(failure) if turns.len() > 1 => {
            turns.pop();
            print::error(format_args!("{}; /reset begins anew", failure.text()));
        }
        Err(failure) => return Err(failure),
    }
    Ok(())
}
