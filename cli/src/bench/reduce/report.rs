//! What `weft bench reduce` says to people.

use std::fmt;

use weft_worker::bench::scaling::{Link, Topology};
use weft_worker::bench::{ReduceReport, SumTimes};

use super::super::scale::{WorkArgs, table};
use crate::output::figures::grouped;

/// Worlds for which is told what a step would cost on the measured link.
const WORLDS: [u32; 5] = [2, 4, 8, 16, 64];

/// A report in lines, with what it means for a step.
pub(super) struct Text<'a>(pub(super) &'a ReduceReport, pub(super) &'a WorkArgs);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(report, work) = self;
        let over = if report.over_nccl {
            "NCCL"
        } else {
            "host memory and TCP"
        };
        writeln!(f, "members    {}, over {over}", report.world)?;
        writeln!(
            f,
            "form       {:.4} s, again {:.4} s",
            report.form_seconds, report.form_again_seconds
        )?;
        writeln!(f, "call off   {:.4} s", report.abort_seconds)?;
        sum(f, ("latency", "int64"), &report.small)?;
        sum(f, ("sum", "int64"), &report.large)?;
        for (kind, times) in [("float32", report.float32), ("bfloat16", report.bfloat16)] {
            times
                .iter()
                .try_for_each(|times| sum(f, ("", kind), times))?;
        }
        let Some(link) = report.link else {
            return write!(
                f,
                "link       not told apart: the large sum was no slower than the small one"
            );
        };
        let Link {
            latency_seconds,
            bytes_per_second,
        } = link;
        writeln!(
            f,
            "link       {:.1} us a hop, {:.2} GB/s each way",
            latency_seconds * 1e6,
            bytes_per_second / 1e9
        )?;
        writeln!(f)?;
        write!(f, "{}", table(&work.costs(&Topology::flat(link), &WORLDS)))
    }
}

fn sum(f: &mut fmt::Formatter<'_>, (name, kind): (&str, &str), times: &SumTimes) -> fmt::Result {
    writeln!(
        f,
        "{name:<10} {} {kind}: {:.3} ms ({:.3} to {:.3}), {:.2} GB/s through each member",
        grouped(times.elements as u64),
        times.seconds.median * 1e3,
        times.seconds.min * 1e3,
        times.seconds.max * 1e3,
        times.bus_bytes_per_second / 1e9
    )
}
