//! `report.html`: a run on one page that needs no network: figures and charts over its steps.

mod chart;

use super::banner::Banner;
use super::figures::{gib, grouped, percent, rounded};
use super::memory::Hardware;
use super::metrics::StepRecord;
use chart::Chart;

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
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1360px;margin:2em auto;padding:0 1em;\
color:#1c1e21;background:#fff}h1{font-size:1.4em}table{border-collapse:collapse;margin:1em 0}\
th{text-align:left;font-weight:500;padding:.15em 2em .15em 0;color:#555}td{font-variant-numeric:tabular-nums}\
main{display:grid;grid-template-columns:repeat(auto-fit,minmax(480px,1fr));gap:1em 2em}figure{margin:0}\
figcaption{font-weight:600}figcaption small{font-weight:400;color:#555;margin-left:.6em}svg{width:100%;height:auto}\
svg text{font-size:11px;fill:#555}.grid{stroke:#e3e5e8}polyline{fill:none;stroke:#1f6feb;stroke-width:1.6}\
.dot{fill:#1f6feb}@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#16181b}\
th,figcaption small,svg text{color:#a0a4aa;fill:#a0a4aa}.grid{stroke:#33373d}}";

impl Page<'_> {
    /// The page over these steps.
    pub(crate) fn html(&self, records: &[StepRecord]) -> String {
        let title = escaped(&format!("weft: {}", self.banner.base_model));
        let rows: String = self
            .figures(records)
            .into_iter()
            .map(|(name, value)| format!("<tr><th>{name}</th><td>{}</td></tr>\n", escaped(&value)))
            .collect();
        let charts: String = self
            .charts(records)
            .iter()
            .map(ToString::to_string)
            .collect();
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
             <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\n\
             <body><h1>{title}</h1>\n<table>\n{rows}</table>\n<main>\n{charts}</main></body></html>\n"
        )
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

/// Text as HTML holds it.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut html, c| {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            _ => html.push(c),
        }
        html
    })
}

#[cfg(test)]
mod tests {
    use super::super::metrics::sample;
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
        let page = Page {
            banner: &banner,
            hardware: &hardware,
            start_bytes: 1 << 30,
            peak_bytes: 3 << 30,
            train_seconds: 90.0,
        };
        let records: Vec<StepRecord> = (1..=4).map(|step| sample(step, 2.0)).collect();
        let html = page.html(&records);
        for part in [
            "models/&lt;tiny&gt;",
            "Test GPU",
            "3.000 GiB (18.750 % of max memory)",
            "2.000 GiB (12.500 % of max memory)",
            "Memory over time (GiB)",
            "of 16.000 GiB",
        ] {
            assert!(html.contains(part), "{part} is missing in\n{html}");
        }
        assert_eq!(html.matches("<svg").count(), 5);
        assert!(
            !html.contains("http") && !html.contains("<script"),
            "{html}"
        );
    }
}
