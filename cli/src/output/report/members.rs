//! Who was a member when, as an SVG: a line for each worker, a bar for each membership, a mark for each incident.

use std::fmt;

use super::super::html::escaped;
use super::super::timeline::{Entry, Member};

/// Workers that have a line of their own.
const MOST_WORKERS: usize = 48;
const WIDTH: f64 = 1300.0;
const LEFT: f64 = 230.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 18.0;
const LINE: f64 = 18.0;
const BOTTOM: f64 = 22.0;

/// The timeline of a run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Members<'a> {
    workers: Vec<&'a Member>,
    spans: Vec<Span>,
    incidents: Vec<&'a Entry>,
    last: u64,
}

/// One worker in one membership, from one number of committed steps to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    worker: usize,
    epoch: u64,
    from: u64,
    to: u64,
}

impl<'a> Members<'a> {
    /// From what happened in a run of `last` committed steps.
    pub(super) fn new(entries: &'a [Entry], last: u64) -> Self {
        let mut found = Self {
            workers: Vec::new(),
            spans: Vec::new(),
            incidents: Vec::new(),
            last: entries.iter().map(Entry::step).fold(last, u64::max),
        };
        for (index, entry) in entries.iter().enumerate() {
            match entry {
                Entry::Incident { .. } => found.incidents.push(entry),
                Entry::Epoch {
                    step,
                    epoch,
                    members,
                } => {
                    let to = ends(&entries[index + 1..], *step, last);
                    for member in members {
                        let worker = found.line_of(member);
                        let (epoch, from) = (*epoch, *step);
                        found.spans.push(Span {
                            worker,
                            epoch,
                            from,
                            to,
                        });
                    }
                }
            }
        }
        found
    }

    fn line_of(&mut self, member: &'a Member) -> usize {
        let known = self
            .workers
            .iter()
            .position(|worker| worker.id == member.id);
        known.unwrap_or_else(|| {
            self.workers.push(member);
            self.workers.len() - 1
        })
    }

    /// Whether there is nothing to show.
    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Incidents as rows of a table, which a screen reader can read out.
    pub(super) fn incidents(&self) -> Vec<(String, String)> {
        let row = |entry: &&Entry| match entry {
            Entry::Incident { step, text, .. } => {
                Some((format!("after step {step}"), text.clone()))
            }
            Entry::Epoch { .. } => None,
        };
        self.incidents.iter().filter_map(row).collect()
    }

    fn x(&self, step: u64) -> f64 {
        LEFT + step as f64 / self.last.max(1) as f64 * (WIDTH - LEFT - RIGHT)
    }

    fn draw_workers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (line, worker) in self.workers.iter().take(MOST_WORKERS).enumerate() {
            let y = TOP + LINE * line as f64 + 13.0;
            let name = format!(
                "{} · {} · {}",
                worker.host,
                worker.device,
                short(&worker.id)
            );
            let name = escaped(&name);
            let x = LEFT - 8.0;
            writeln!(
                f,
                "<text x=\"{x}\" y=\"{y:.0}\" text-anchor=\"end\">{name}</text>"
            )?;
        }
        for span in self.spans.iter().filter(|span| span.worker < MOST_WORKERS) {
            let (x, y) = (self.x(span.from), TOP + LINE * span.worker as f64 + 2.0);
            let width = (self.x(span.to) - x).max(1.5);
            let parity = if span.epoch % 2 == 0 { " even" } else { "" };
            writeln!(
                f,
                "<rect class=\"span{parity}\" x=\"{x:.1}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{}\" rx=\"2\">\
                 <title>{}: epoch {}, steps {} to {}</title></rect>",
                LINE - 4.0,
                escaped(&self.workers[span.worker].id),
                span.epoch,
                span.from + 1,
                span.to
            )?;
        }
        Ok(())
    }

    fn draw_incidents(&self, f: &mut fmt::Formatter<'_>, height: f64) -> fmt::Result {
        for entry in &self.incidents {
            let Entry::Incident {
                step, worker, text, ..
            } = entry
            else {
                continue;
            };
            let x = self.x(*step);
            let known = |id: &String| self.workers.iter().position(|worker| worker.id == *id);
            let line = worker.as_ref().and_then(known);
            let shown = line.filter(|line| *line < MOST_WORKERS);
            let y = shown.map_or(TOP - 6.0, |line| TOP + LINE * (line as f64 + 0.5));
            writeln!(
                f,
                "<g class=\"incident\"><title>after step {step}: {}</title>\
                 <line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.0}\"/><circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"/></g>",
                escaped(text),
                height - BOTTOM
            )?;
        }
        Ok(())
    }
}

/// Where a membership ends that began with `from`: at the next one, or where the run went back, or at the end.
fn ends(later: &[Entry], from: u64, last: u64) -> u64 {
    let end = later.iter().find_map(|entry| match entry {
        Entry::Epoch { step, .. } => Some(*step),
        Entry::Incident { step, what, .. } => (what == "rolled_back").then_some(*step),
    });
    end.unwrap_or(last).max(from)
}

/// The end of an id: ids of processes that started together begin alike.
fn short(id: &str) -> &str {
    let from = id.char_indices().rev().nth(3).map_or(0, |(at, _)| at);
    &id[from..]
}

impl fmt::Display for Members<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.workers.len().min(MOST_WORKERS);
        let height = TOP + LINE * lines as f64 + BOTTOM;
        writeln!(
            f,
            "<figure class=\"wide\"><figcaption>Workers<small>{} in all; a bar is a membership, a dot an incident{}</small>\
             </figcaption>",
            self.workers.len(),
            if lines < self.workers.len() {
                format!("; the first {lines} are shown")
            } else {
                String::new()
            }
        )?;
        writeln!(
            f,
            "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\"><title>Workers over the steps of the run</title>"
        )?;
        self.draw_workers(f)?;
        self.draw_incidents(f, height)?;
        let base = height - 6.0;
        writeln!(
            f,
            "<text x=\"{LEFT}\" y=\"{base}\">start</text><text x=\"{}\" y=\"{base}\" text-anchor=\"end\">step {}</text>\
             </svg></figure>",
            WIDTH - RIGHT,
            self.last
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::timeline::sample_epoch;
    use super::*;

    fn incident(step: u64, what: &str, worker: Option<&str>) -> Entry {
        Entry::Incident {
            step,
            what: what.to_owned(),
            worker: worker.map(str::to_owned),
            text: format!("{what} <b>"),
        }
    }

    #[test]
    fn a_membership_lasts_until_the_next_one() {
        let entries = [
            sample_epoch(0, 1, &["w-aaaa", "w-bbbb"]),
            incident(4, "member_lost", Some("w-bbbb")),
            sample_epoch(4, 2, &["w-aaaa"]),
            sample_epoch(7, 3, &["w-aaaa", "w-cccc"]),
        ];
        let members = Members::new(&entries, 10);
        let spans: Vec<_> = members
            .spans
            .iter()
            .map(|span| (span.worker, span.epoch, span.from, span.to))
            .collect();
        assert_eq!(
            spans,
            [
                (0, 1, 0, 4),
                (1, 1, 0, 4),
                (0, 2, 4, 7),
                (0, 3, 7, 10),
                (2, 3, 7, 10)
            ]
        );
        let svg = members.to_string();
        assert!(svg.contains("epoch 2, steps 5 to 7"), "{svg}");
        assert!(
            svg.contains("member_lost &lt;b&gt;") && !svg.contains("<b>"),
            "{svg}"
        );
        assert_eq!(svg.matches("<rect").count(), 5);
        assert_eq!(members.incidents()[0].0, "after step 4");
    }

    #[test]
    fn steps_that_were_computed_again_belong_to_both_memberships() {
        let entries = [
            sample_epoch(0, 1, &["w-aaaa"]),
            incident(8, "rolled_back", None),
            sample_epoch(5, 2, &["w-bbbb"]),
        ];
        let members = Members::new(&entries, 6);
        let spans: Vec<_> = members
            .spans
            .iter()
            .map(|span| (span.from, span.to))
            .collect();
        assert_eq!((spans, members.last), (vec![(0, 8), (5, 6)], 8));
        assert!(Members::new(&[], 3).is_empty());
    }
}
