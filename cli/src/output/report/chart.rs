//! One quantity over the steps of a run, as an SVG that needs nothing around it.

use std::fmt;

/// Points that a line has at most; of more, neighbours are averaged.
const MOST_POINTS: usize = 800;
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 220.0;
/// Room for numbers at the left and at the bottom, and for half a line of them at the top.
const LEFT: f64 = 72.0;
const BOTTOM: f64 = 24.0;
const TOP: f64 = 10.0;
const RIGHT: f64 = 12.0;
/// Lines across.
const TICKS: u32 = 4;

/// A line chart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chart {
    /// What it shows, with its unit.
    pub(super) title: &'static str,
    /// What else is to be said of it.
    pub(super) note: Option<String>,
    /// Step and value, by step.
    pub(super) points: Vec<(f64, f64)>,
    /// Whether the vertical axis begins at 0.
    pub(super) from_zero: bool,
}

impl Chart {
    /// Few enough points to draw, the finite ones.
    fn drawn(&self) -> Vec<(f64, f64)> {
        let finite = self.points.iter().filter(|(_, value)| value.is_finite());
        let finite: Vec<(f64, f64)> = finite.copied().collect();
        let together = finite.len().div_ceil(MOST_POINTS).max(1);
        let mean = |points: &[(f64, f64)]| {
            let count = points.len() as f64;
            let (x, y) = points
                .iter()
                .fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
            (x / count, y / count)
        };
        finite.chunks(together).map(mean).collect()
    }

    /// Ends of the vertical axis, apart even where all values are the same.
    fn range(&self, points: &[(f64, f64)]) -> (f64, f64) {
        let values = || points.iter().map(|&(_, value)| value);
        let mut low = values().fold(f64::INFINITY, f64::min);
        let high = values().fold(f64::NEG_INFINITY, f64::max);
        if self.from_zero {
            low = low.min(0.0);
        }
        let room = match high - low {
            0.0 => high.abs().max(1e-9) * 0.1,
            apart => apart * 0.05,
        };
        let below = if self.from_zero && low == 0.0 {
            0.0
        } else {
            room
        };
        (low - below, high + room)
    }
}

/// Where steps and values lie in the picture.
struct Plane {
    first_step: f64,
    steps: f64,
    low: f64,
    high: f64,
}

impl Plane {
    fn x(&self, step: f64) -> f64 {
        LEFT + (step - self.first_step) / self.steps * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        TOP + (self.high - value) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)
    }

    /// Lines across, each with its value.
    fn draw_grid(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for tick in 0..=TICKS {
            let value = self.low + (self.high - self.low) * f64::from(tick) / f64::from(TICKS);
            let (at, right) = (self.y(value), WIDTH - RIGHT);
            writeln!(
                f,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                number(value)
            )?;
        }
        Ok(())
    }

    /// A line through the points, or a dot where there is one.
    fn draw_line(&self, f: &mut fmt::Formatter<'_>, points: &[(f64, f64)]) -> fmt::Result {
        if let [(step, value)] = points {
            let (at, value) = (self.x(*step), self.y(*value));
            writeln!(
                f,
                "<circle class=\"dot\" cx=\"{at:.1}\" cy=\"{value:.1}\" r=\"3\"/>"
            )?;
        }
        let line: Vec<String> = points
            .iter()
            .map(|&(step, value)| format!("{:.1},{:.1}", self.x(step), self.y(value)))
            .collect();
        write!(f, "<polyline points=\"{}\"/>", line.join(" "))
    }
}

impl fmt::Display for Chart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points = self.drawn();
        writeln!(f, "<figure><figcaption>{}", self.title)?;
        if let Some(note) = &self.note {
            writeln!(f, "<small>{}</small>", super::html::escaped(note))?;
        }
        writeln!(f, "</figcaption>")?;
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            return writeln!(f, "<p>no step was recorded</p></figure>");
        };
        let (low, high) = self.range(&points);
        let plane = Plane {
            first_step: first.0,
            steps: (last.0 - first.0).max(f64::MIN_POSITIVE),
            low,
            high,
        };
        writeln!(
            f,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{}, step {} to {}: from {} to {}</title>",
            self.title,
            first.0,
            last.0,
            number(first.1),
            number(last.1)
        )?;
        plane.draw_grid(f)?;
        let base = HEIGHT - 6.0;
        writeln!(
            f,
            "<text x=\"{LEFT}\" y=\"{base}\">step {}</text><text x=\"{:.1}\" y=\"{base}\" text-anchor=\"end\">{}</text>",
            self.points.first().map_or(0.0, |point| point.0),
            WIDTH - RIGHT,
            self.points.last().map_or(0.0, |point| point.0)
        )?;
        plane.draw_line(f, &points)?;
        writeln!(f, "</svg></figure>")
    }
}

/// A number beside an axis.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.1e}"),
        size if size < 1.0 => format!("{value:.4}"),
        size if size < 100.0 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> Chart {
        Chart {
            title: "Loss",
            note: None,
            points,
            from_zero: false,
        }
    }

    #[test]
    fn a_line_goes_from_edge_to_edge() {
        let text = chart(vec![(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]).to_string();
        assert!(text.contains("<polyline points=\"72.0,18"), "{text}");
        assert!(text.contains(" 628.0,187"), "{text}");
        assert!(
            text.contains("step 1<") && text.contains(">3</text>"),
            "{text}"
        );
    }

    #[test]
    fn nothing_one_point_and_equal_values_can_be_drawn() {
        assert!(chart(Vec::new()).to_string().contains("no step"));
        assert!(chart(vec![(7.0, 0.0)]).to_string().contains("<circle"));
        let text = chart(vec![(1.0, 2.0), (2.0, f64::NAN), (3.0, 2.0)]).to_string();
        assert!(!text.contains("NaN") && text.contains("polyline"), "{text}");
    }

    #[test]
    fn a_long_run_is_drawn_with_few_points() {
        let points = (0..10_000).map(|step| (f64::from(step), 1.0)).collect();
        assert_eq!(chart(points).drawn().len(), 770);
    }
}
