//! What an audit tells people and programs.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use weft_common::ledger::audit::{Audit, DataEpoch};

use crate::exit::{Exit, Failure};
use crate::output::figures::grouped;

/// Workers that are listed by name.
const LISTED_WORKERS: usize = 8;

/// An audit, judged.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    verdict: Word,
    path: PathBuf,
    #[serde(flatten)]
    audit: Audit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Clean,
    NotClean,
    NotProven,
}

impl Verdict {
    /// Judges; the loss curve is long, and kept only where it is asked for.
    pub(super) fn new(path: &Path, mut audit: Audit, losses: bool) -> Self {
        let verdict = match (audit.is_clean(), audit.unproven.is_empty()) {
            (false, _) => Word::NotClean,
            (true, false) => Word::NotProven,
            (true, true) => Word::Clean,
        };
        if !losses {
            let (first, last) = (audit.losses.first().copied(), audit.losses.last().copied());
            audit.losses = first.into_iter().chain(last).collect();
        }
        Self {
            verdict,
            path: path.to_owned(),
            audit,
        }
    }

    /// Fails where the ledger is not clean or, unless that is allowed, something could not be proven.
    pub(super) fn judge(&self, allow_unproven: bool) -> Result<(), Failure> {
        let path = self.path.display();
        match self.verdict {
            Word::Clean => Ok(()),
            Word::NotProven if allow_unproven => Ok(()),
            Word::NotProven => Err(Failure::new(
                Exit::Unproven,
                format_args!(
                    "nothing speaks against the ledger of {path}, but not all of it could be proven; provide what is \
                     missing, or say --allow-unproven"
                ),
            )),
            Word::NotClean => Err(Failure::new(
                Exit::Ledger,
                format_args!(
                    "the ledger of {path} is not clean: {}; restore the folder from a copy, or run again in another",
                    number(self.audit.findings.count as u64, "finding")
                ),
            )),
        }
    }

    fn is_broken(&self) -> bool {
        self.audit.job.is_none() && self.verdict == Word::NotClean
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.verdict {
            Word::Clean => write!(f, "clean: the ledger of {path} proves what follows")?,
            Word::NotProven => write!(
                f,
                "not proven in full: nothing speaks against the ledger of {path}"
            )?,
            Word::NotClean => write!(f, "NOT CLEAN: the ledger of {path}")?,
        }
        if !self.is_broken() {
            figures(&self.audit, f)?;
        }
        for text in &self.audit.left_out {
            write!(f, "\nleft out     {text}")?;
        }
        for text in &self.audit.unproven {
            write!(f, "\nNOT PROVEN   {text}")?;
        }
        for finding in &self.audit.findings.first {
            write!(f, "\nFINDING      {finding}")?;
        }
        let more = self.audit.findings.count - self.audit.findings.first.len();
        if more > 0 {
            write!(f, "\n             and {} more", grouped(more as u64))?;
        }
        if self.audit.losses.len() > 2 {
            for point in &self.audit.losses {
                write!(f, "\nloss         step {} {}", point.step, point.loss)?;
            }
        }
        Ok(())
    }
}

fn figures(audit: &Audit, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let Some(job) = &audit.job {
        write!(f, "\njob          {job}")?;
    }
    write!(f, "\nsteps        {}", grouped(audit.steps))?;
    if let Some(planned) = audit.planned_steps {
        write!(f, " of {} planned", grouped(planned))?;
    }
    write!(
        f,
        ", committed in {} by {}",
        number(audit.terms, "term"),
        number(audit.membership_epochs, "membership")
    )?;
    if audit.skipped_steps > 0 {
        let skipped = grouped(audit.skipped_steps);
        write!(
            f,
            "; {skipped} of them changed nothing, their gradient was not finite"
        )?;
    }
    write!(f, "\nslots        {}", grouped(audit.slots))?;
    f.write_str(match audit.plan_compared {
        true => ", compared with the plan: rows, tokens, supervised tokens",
        false => ", not compared with the plan",
    })?;
    write!(
        f,
        "\ngradients    {} of {} have the digest that those of their slots add up to",
        grouped(audit.proven_sums),
        grouped(audit.steps)
    )?;
    rows(audit, f)?;
    workers(audit, f)?;
    again(audit, f)?;
    if let (Some(first), Some(last)) = (audit.losses.first(), audit.losses.last()) {
        write!(
            f,
            "\nlosses       {:.4} to {:.4}, compared with {} of metrics.jsonl to the last bit",
            first.loss,
            last.loss,
            number(audit.logged_steps, "line")
        )?;
    }
    write!(
        f,
        "\ncheckpoints  {} of {} compared with the state that the next step started from",
        grouped(audit.compared_checkpoints),
        grouped(audit.checkpoints)
    )
}

fn rows(audit: &Audit, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let all = audit.rows.unwrap_or_default();
    let whole = |epoch: &&DataEpoch| epoch.complete && epoch.repeated == 0 && epoch.rows == all;
    let exact = audit.data_epochs.iter().filter(whole).count() as u64;
    if exact > 0 {
        let (all, exact) = (grouped(all), number(exact, "data epoch"));
        write!(
            f,
            "\nrows         {all}, each counted exactly once in each of {exact}"
        )?;
    }
    for epoch in audit.data_epochs.iter().filter(|epoch| !whole(epoch)) {
        let (rows, steps) = (grouped(epoch.rows), number(epoch.steps, "step"));
        write!(
            f,
            "\nrows         {rows} different ones in the {steps} of data epoch {}",
            epoch.data_epoch + 1
        )?;
        f.write_str(if epoch.complete {
            ""
        } else {
            ", which is not complete"
        })?;
        if epoch.repeated == 0 {
            f.write_str("; each counted once")?;
        } else {
            write!(f, "; {} counted again", grouped(epoch.repeated))?;
        }
    }
    Ok(())
}

fn workers(audit: &Audit, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for share in audit.workers.iter().take(LISTED_WORKERS) {
        write!(
            f,
            "\nworker       {} counted {}",
            share.worker,
            number(share.slots, "slot")
        )?;
    }
    let more = audit.workers.len().saturating_sub(LISTED_WORKERS);
    if more > 0 {
        write!(f, "\nworker       and {} more", grouped(more as u64))?;
    }
    Ok(())
}

fn again(audit: &Audit, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let again = &audit.recomputed;
    if again.records == 0 {
        return Ok(());
    }
    let records = number(again.records, "record");
    write!(
        f,
        "\nagain        {records} replaced, because the steps were computed again from a checkpoint; "
    )?;
    match again.different.first() {
        None => f.write_str("the sums are the same"),
        Some(step) => write!(
            f,
            "the sums of {} are others, first in step {step}",
            number(again.different.len() as u64, "step")
        ),
    }
}

/// `1 step`, `2 steps`.
fn number(count: u64, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {what}{s}", grouped(count))
}
