//! Standard output and standard error: the one place that prints.
//!
//! A reader that has seen enough closes its end of the pipe, as in `weft plan recipe.yaml | head -5`. That is no
//! failure, although the system calls it one and `println!` panics over it: a command that only prints ends quietly,
//! and a training run goes on without a listener.

use std::fmt::Display;
use std::io::{self, Write};
use std::ops::ControlFlow;

use crate::exit::{Exit, Failure};

/// Whether anyone still reads: `Break` once the pipe is closed.
pub(crate) type Listening = ControlFlow<()>;

/// Prints a line that the command exists for.
///
/// # Errors
/// If the output can no longer be taken for another reason than that nobody reads it.
pub(crate) fn line(text: impl Display) -> Result<Listening, Failure> {
    part(format_args!("{text}\n"))
}

/// As [`line()`], without the line feed; it is there when this returns.
///
/// # Errors
/// As [`line()`].
pub(crate) fn part(text: impl Display) -> Result<Listening, Failure> {
    listening(print(&mut io::stdout().lock(), text))
}

/// Prints a line beside what matters: whether it arrives does not decide anything.
pub(crate) fn aside(text: impl Display) {
    let _ = print(&mut io::stdout().lock(), format_args!("{text}\n"));
}

/// Prints a line to standard error; one that does not arrive is lost.
pub(crate) fn error(text: impl Display) {
    let _ = print(&mut io::stderr().lock(), format_args!("{text}\n"));
}

/// In one piece, so that lines of several processes do not run into each other.
fn print(to: &mut impl Write, text: impl Display) -> io::Result<()> {
    to.write_all(text.to_string().as_bytes())?;
    to.flush()
}

fn listening(printed: io::Result<()>) -> Result<Listening, Failure> {
    match printed {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(Failure::new(
            Exit::Environment,
            format_args!(
                "cannot write to standard output: {error}; make room there, or send it elsewhere"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_an_end_and_a_full_disk_a_failure() {
        let failed = |kind: io::ErrorKind| listening(Err(kind.into()));
        assert_eq!(
            failed(io::ErrorKind::BrokenPipe).unwrap(),
            ControlFlow::Break(())
        );
        let failure = failed(io::ErrorKind::StorageFull).unwrap_err();
        assert!(failure.to_string().contains("standard output"), "{failure}");
    }
}
