//! `report.html`: a run on one page that needs no network: figures and charts over its steps.

mod chart;
mod members;

use super::banner::Banner;
use super::figures::{gib, grouped, percent, rounded};
use super::html;
use super::memory::Hardware;
use super::metrics::StepRecord;
use super::timeline::Entry;
use chart::Chart;
use members::Members;

/// What the page says beside the steps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page<'a> {
    /// What ran.
    pub(crate) banner: &'a Banner,
    /// Where.
    pub(crate) hardware: &'a Hardware,
    /// Memory before the first step, in bytes.
    pub(crate) start_bytes: u64,
    /// The most that was in use, in bytes.
    pub(crate) peak_bytes: u64,
    /// Wall time of the training loop.
    pub(crate) train_seconds: f64,
    /// Who was a member when, and what went wrong.
    pub(crate) timeline: &'a [Entry],
}

impl Page<'_> {
    /// The page over these steps.
    pub(crate) fn html(&self, records: &[StepRecord]) -> String {
        let charts: String = self
            .charts(records)
            .iter()
            .map(ToString::to_string)
            .collect();
        let members = Members::new(self.timeline, records.last().map_or(0, |last| last.step));
        let workers = match members.is_empty() {
            true => String::new(),
            false => members.to_string(),
        };
        let incidents = match members.incidents().as_slice() {
            [] => String::new(),
            incidents => format!("<h2>Incidents</h2>\n{}", html::figures(incidents)),
        };
        let body = format!(
            "{}<main>\n{charts}{workers}</main>\n{incidents}",
            html::figures(&self.figures(records))
        );
        html::page(&format!("weft: {}", self.banner.base_model), &body)
    }

    fn figures(&self, records: &[StepRecord]) -> Vec<(&'static str, String)> {
        let Self {
            banner, hardware, ..
        } = self;
        let last = records.last();
        let tokens: u64 = records.iter().map(|record| record.tokens).sum();
        let training_bytes = self.peak_bytes.saturating_sub(self.start_bytes);
        let share = |bytes| percent(bytes, hardware.total_bytes);
        vec![
            (
                "Steps",
                format!(
                    "{} of {}",
                    grouped(records.len() as u64),
                    banner.total_steps
                ),
            ),
            ("Examples", grouped(banner.examples)),
            (
                "Last loss",
                last.map_or_else(String::new, |last| rounded(last.loss, 4).to_string()),
            ),
            ("Tokens", grouped(tokens)),
            ("Training time", format!("{:.1} s", self.train_seconds)),
            ("Workers", banner.workers.to_string()),
            (hardware.kind, hardware.name.clone()),
            (
                "Max memory",
                format!("{:.3} GiB", gib(hardware.total_bytes)),
            ),
            (
                "Peak memory",
                format!(
                    "{:.3} GiB ({:.3} % of max memory)",
                    gib(self.peak_bytes),
                    share(self.peak_bytes)
                ),
            ),
            (
                "Peak memory for training",
                format!(
                    "{:.3} GiB ({:.3} % of max memory)",
                    gib(training_bytes),
                    share(training_bytes)
                ),
            ),
        ]
    }

    fn charts(&self, records: &[StepRecord]) -> Vec<Chart> {
        let chart = |title, from_zero, value: fn(&StepRecord) -> f64| Chart {
            title,
            note: None,
            points: records
                .iter()
                .map(|record| (record.step as f64, value(record)))
                .collect(),
            from_zero,
        };
        let memory = Chart {
            note: Some(format!("of {:.3} GiB", gib(self.hardware.total_bytes))),
            ..chart("Memory over time (GiB)", true, |record| {
                gib(record.memory_bytes)
            })
        };
        vec![
            chart("Loss", false, |record| record.loss),
            chart("Learning rate", true, |record| record.learning_rate),
            chart("Gradient norm", true, |record| record.grad_norm),
            chart("Tokens per second", true, |record| record.tokens_per_second),
            memory,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::html::reading::{Node, read};
    use super::super::metrics::sample;
    use super::super::timeline::sample_epoch;
    use super::*;

    #[test]
    fn the_page_shows_figures_and_memory_over_time_and_needs_no_network() {
        let banner = Banner {
            base_model: "models/<tiny>".to_owned(),
            examples: 2000,
            epochs: 1.0,
            total_steps: 4,
            resumed_steps: 0,
            batch_size: 2,
            accumulation_steps: 4,
            total_batch_size: 8,
            trainable_parameters: 10,
            parameters: 1000,
            workers: 2,
            gpus: Vec::new(),
            threads_per_worker: Some(1),
            memory_plan: "auto".to_owned(),
            output: "outputs".to_owned(),
        };
        let hardware = Hardware {
            kind: "GPU",
            name: "Test GPU".to_owned(),
            total_bytes: 16 << 30,
        };
        let timeline = [sample_epoch(0, 1, &["w-aaaa", "w-bbbb"])];
        let page = Page {
            banner: &banner,
            hardware: &hardware,
            start_bytes: 1 << 30,
            peak_bytes: 3 << 30,
            train_seconds: 90.0,
            timeline: &timeline,
        };
        let records: Vec<StepRecord> = (1..=4)
            .map(|step| sample(step, 5.0 - step as f64))
            .collect();
        let html = page.html(&records);
        for part in [
            "models/&lt;tiny&gt;",
            "Test GPU",
            "3.000 GiB (18.750 % of max memory)",
            "2.000 GiB (12.500 % of max memory)",
            "of 16.000 GiB",
        ] {
            assert!(html.contains(part), "{part} is missing in\n{html}");
        }
        assert!(
            !html.contains("http") && !html.contains("<script"),
            "{html}"
        );
        let nodes = read(&html);
        let of = |name: &'static str| {
            let ends = move |node: &&Node| node.path.last().is_some_and(|last| last == name);
            nodes.iter().filter(ends)
        };
        let pictures = of("svg").count();
        assert_eq!((pictures, of("figure").count()), (6, 6));
        let titles = of("title").filter(|node| !node.text.is_empty());
        let titles: Vec<&str> = titles.map(|node| node.text.as_str()).collect();
        assert!(
            titles.contains(&"Loss, step 1 to 4: from 4.00 to 1.00"),
            "{titles:?}"
        );
        assert!(
            titles.contains(&"w-bbbb: epoch 1, steps 1 to 4"),
            "{titles:?}"
        );
        // The first line is the loss: it falls by equal steps from one edge to the other.
        let line = of("polyline").next().unwrap();
        let points = line.attributes.split('"').nth(1).unwrap();
        let at = |point: &str| -> (f64, f64) {
            let (x, y) = point.split_once(',').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        };
        let points: Vec<(f64, f64)> = points.split(' ').map(at).collect();
        assert_eq!(points.len(), 4);
        for pair in points.windows(2) {
            let (dx, dy) = (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1);
            assert!((dx - 556.0 / 3.0).abs() < 0.2 && dy > 50.0, "{points:?}");
        }
        let figures = of("td").filter(|node| !node.text.is_empty());
        assert!(
            figures.clone().any(|node| node.text == "4 of 4"),
            "{figures:?}"
        );
    }
}
