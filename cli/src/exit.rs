//! How a command ends: its exit code and what it says on the way out.

use std::fmt;
use std::process::ExitCode;

/// Why a command failed, as a number that scripts can tell apart. The table in `docs/exit-codes.md` is checked against this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something that weft does not expect; worth a bug report.
    Internal = 1,
    /// The recipe cannot be read or contradicts itself.
    Recipe = 10,
    /// The dataset, tokenizer or chat template cannot give what the recipe asks for.
    Data = 11,
    /// The base model or adapter cannot be read or does not suit the recipe.
    Model = 12,
    /// The machine refuses: folder, port, disk, memory; or nobody answers at an address.
    Environment = 13,
    /// The job started and failed; the newest checkpoint is intact.
    Job = 20,
    /// The coordinator refused this worker, or what it was asked for; or the hub did.
    Refused = 21,
    /// This worker's training thread did not get on.
    Hung = 22,
    /// The GPU of this worker cannot be relied on.
    Sick = 23,
    /// Stopped on request after writing a checkpoint; `--resume` goes on.
    Interrupted = 30,
    /// The ledger of a run contradicts itself, its plan, or what lies beside it.
    Ledger = 40,
    /// Nothing speaks against the ledger of a run, but not all of it could be proven.
    Unproven = 41,
    /// Stopped at once on a second request; `--resume` goes on from the last checkpoint. Or no longer watching.
    Aborted = 130,
}

impl Exit {
    /// What stands on what: a model that cannot be read has no tokenizer, without which no data can be prepared.
    fn rank(self) -> u8 {
        match self {
            Self::Model => Self::Data as u8,
            Self::Data => Self::Model as u8,
            other => other as u8,
        }
    }
}

/// A failed command: every problem found, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    problems: Vec<String>,
}

impl Failure {
    /// A failure with one problem.
    pub(crate) fn new(exit: Exit, problem: impl fmt::Display) -> Self {
        Self {
            exit,
            problems: vec![problem.to_string()],
        }
    }

    /// What went wrong, without the word `error`.
    pub(crate) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Without the word `error`; several problems are numbered.
    pub(crate) fn text(&self) -> String {
        let text = self.to_string();
        let text = text.strip_prefix("error: ");
        text.map_or_else(|| self.to_string(), str::to_owned)
    }

    /// Why the command failed.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// What the process returns.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Internal, format_args!("{error:#}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [problem] => write!(f, "error: {problem}"),
            problems => {
                write!(f, "error: {} problems", problems.len())?;
                for (index, problem) in problems.iter().enumerate() {
                    write!(f, "\n  {}. {problem}", index + 1)?;
                }
                Ok(())
            }
        }
    }
}

/// Collects problems of several kinds, so that a user sees all of them at once.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<(Exit, String)>);

impl Problems {
    /// Notes a problem and goes on. One that several checks run into is told once.
    pub(crate) fn push(&mut self, exit: Exit, problem: impl fmt::Display) {
        let problem = problem.to_string();
        if !self.0.iter().any(|(_, known)| *known == problem) {
            self.0.push((exit, problem));
        }
    }

    /// Keeps the value of a check that passed, notes the problem of one that did not.
    pub(crate) fn keep<T, E: fmt::Display>(
        &mut self,
        exit: Exit,
        checked: Result<T, E>,
    ) -> Option<T> {
        checked.map_err(|error| self.push(exit, error)).ok()
    }

    /// Fails with everything noted; the problem that others stand on decides the code.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let Some(exit) = self
            .0
            .iter()
            .map(|(exit, _)| *exit)
            .min_by_key(|exit| exit.rank())
        else {
            return Ok(());
        };
        Err(Failure {
            exit,
            problems: self.0.into_iter().map(|(_, problem)| problem).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_told_and_the_most_basic_one_decides_the_code() {
        let mut problems = Problems::default();
        problems.push(Exit::Environment, "output folder is a file");
        problems.push(Exit::Data, "no rows");
        problems.push(Exit::Model, "truncated");
        problems.push(Exit::Model, "truncated");

        let failure = problems.finish().unwrap_err();

        assert_eq!(failure.exit, Exit::Model);
        let text = failure.to_string();
        assert!(
            text.contains("3 problems") && text.contains("is a file") && text.contains("no rows"),
            "{text}"
        );
    }

    #[test]
    fn the_documented_codes_are_the_real_ones() {
        let all = [
            Exit::Internal,
            Exit::Recipe,
            Exit::Data,
            Exit::Model,
            Exit::Environment,
            Exit::Job,
            Exit::Refused,
            Exit::Hung,
            Exit::Sick,
            Exit::Interrupted,
            Exit::Ledger,
            Exit::Unproven,
            Exit::Aborted,
        ];
        let real = all.map(|exit| (exit as u8, format!("{exit:?}").to_lowercase()));
        let table = include_str!("../../docs/exit-codes.md");
        let documented: Vec<(u8, String)> = table
            .lines()
            .filter_map(|line| {
                let mut cells = line.split('|').map(str::trim).skip(1);
                let code = cells.next()?.parse().ok()?;
                Some((code, cells.next()?.to_owned()))
            })
            .filter(|(code, _)| ![0, 2].contains(code))
            .collect();
        assert_eq!(documented, real);
    }

    #[test]
    fn a_process_that_nccl_hangs_ends_with_the_code_of_a_worker_that_hangs() {
        assert_eq!(
            Exit::Hung as i32,
            weft_worker::collective::nccl::HUNG_EXIT_CODE
        );
    }

    #[test]
    fn no_problem_is_no_failure() {
        assert!(Problems::default().finish().is_ok());
    }
}
