//! `report.html` of an evaluation.

use super::results::Report;
use crate::output::html::{self, escaped};

/// Answers that are shown.
const SAMPLES: usize = 20;

/// The page.
pub(super) fn html(report: &Report) -> String {
    let mut facts = vec![("Model", report.model.clone())];
    if let Some(adapter) = &report.adapter {
        facts.push(("Adapter", adapter.display().to_string()));
    }
    if let Some(subject) = report.subject() {
        facts.push((
            "Rows",
            format!("{} ({})", subject.loss.rows(), report.split),
        ));
        facts.push(("Supervised tokens", subject.loss.tokens().to_string()));
        facts.push(("Time", format!("{:.1} s", subject.seconds)));
    }
    let body = format!(
        "{}{}{}",
        html::figures(&facts),
        scores(report),
        samples(report)
    );
    html::page("weft: evaluation", &body)
}

fn scores(report: &Report) -> String {
    let heads: String = report
        .columns()
        .iter()
        .map(|(name, _)| format!("<th scope=\"col\">{name}</th>"))
        .collect();
    let rows: String = report
        .table()
        .iter()
        .map(|(name, values)| {
            let cells: String = values
                .iter()
                .map(|value| format!("<td>{value:.4}</td>"))
                .collect();
            format!("<tr><th scope=\"row\">{name}</th>{cells}</tr>\n")
        })
        .collect();
    format!("<h2>Scores</h2>\n<table><tr><td></td>{heads}</tr>\n{rows}</table>\n")
}

/// Questions with the answers of every model, and the wanted ones.
fn samples(report: &Report) -> String {
    let columns = report.columns();
    let Some(subject) = report
        .subject()
        .filter(|subject| !subject.answers.is_empty())
    else {
        return String::new();
    };
    let heads: String = columns
        .iter()
        .map(|(name, _)| format!("<th scope=\"col\">{name}</th>"))
        .collect();
    let rows: String = subject
        .answers
        .iter()
        .enumerate()
        .take(SAMPLES)
        .map(|(row, answer)| {
            let said: String = columns
                .iter()
                .map(|(_, found)| format!("<td>{}</td>", escaped(&found.answers[row].predict)))
                .collect();
            format!(
                "<tr><td>{}</td>{said}<td>{}</td></tr>\n",
                escaped(&answer.prompt),
                escaped(&answer.label)
            )
        })
        .collect();
    format!(
        "<h2>Answers</h2>\n<p>{} of {}</p>\n<table class=\"samples\"><tr><th scope=\"col\">prompt</th>{heads}\
         <th scope=\"col\">wanted</th></tr>\n{rows}</table>\n",
        subject.answers.len().min(SAMPLES),
        subject.answers.len()
    )
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::report;
    use super::*;

    #[test]
    fn the_page_compares_scores_and_answers_and_needs_no_network() {
        let html = html(&report());
        for part in [
            "<tr><th scope=\"row\">loss</th><td>2.0000</td><td>0.5000</td></tr>",
            "<td>What helps?</td><td>zz</td><td>Rest and &lt;water&gt;</td>",
            "prefers-color-scheme:dark",
        ] {
            assert!(html.contains(part), "{part} in\n{html}");
        }
        crate::output::html::reading::read(&html);
        assert!(
            !html.contains("http") && !html.contains("<script"),
            "{html}"
        );
    }
}
