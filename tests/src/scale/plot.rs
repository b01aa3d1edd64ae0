//! A plot of how cost grows with the number of nodes, as SVG. Pure.

use std::fmt::Write as _;

use crate::{
    measure::Figures,
    report::{FAN_OUT_MS, GROWTH},
};

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 260.0;
const MARGIN: f64 = 56.0;

/// One line of a panel.
struct Line {
    name: &'static str,
    colour: &'static str,
    points: Vec<(f64, f64)>,
    dashed: bool,
}

/// Both panels: growth per change, and the time to all nodes.
pub(crate) fn svg(all: &[Figures]) -> String {
    let (width, height) = (2.0 * (WIDTH + MARGIN) + MARGIN, HEIGHT + 2.0 * MARGIN);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    panel(&mut text, 0.0, "cost per change, as a multiple of the smallest size's", &growth(all));
    panel(&mut text, WIDTH + MARGIN, "one endpoint until all nodes acknowledged it, ms", &fan_out(all));
    text.push_str("</svg>\n");
    text
}

fn ends(all: &[Figures]) -> impl Iterator<Item = f64> {
    [all.first(), all.last()].into_iter().flatten().map(|figures| figures.nodes as f64)
}

fn growth(all: &[Figures]) -> Vec<Line> {
    let line = |name, colour, value: fn(&Figures) -> f64| {
        let base = all.first().map_or(0.0, value);
        let points = all.iter().map(|figures| (figures.nodes as f64, value(figures) / base));
        Line { name, colour, points: drawable(points), dashed: false }
    };
    let goal = drawable(ends(all).map(|nodes| (nodes, GROWTH)));
    vec![
        line("ConfigMap", "#1f77b4", |figures| figures.config_map.cpu_ms),
        line("pod status", "#2ca02c", |figures| figures.pod_status.cpu_ms),
        line("endpoint/node", "#9467bd", |figures| figures.endpoint.cpu_ms / figures.nodes as f64),
        line("heartbeats/node", "#8c564b", |figures| figures.beat_us),
        Line { name: "goal", colour: "#d62728", points: goal, dashed: true },
    ]
}

fn fan_out(all: &[Figures]) -> Vec<Line> {
    let line = |name, colour, value: fn(&Figures) -> f64| Line {
        name,
        colour,
        points: drawable(all.iter().map(|figures| (figures.nodes as f64, value(figures)))),
        dashed: false,
    };
    let goal = drawable(ends(all).map(|nodes| (nodes, FAN_OUT_MS)));
    vec![
        line("median", "#1f77b4", |figures| figures.fan_out_median_ms),
        line("slowest", "#ff7f0e", |figures| figures.fan_out_worst_ms),
        Line { name: "goal", colour: "#d62728", points: goal, dashed: true },
    ]
}

/// Both axes are logarithmic: what is not above zero has no place.
fn drawable(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    points.filter(|(x, y)| *x > 0.0 && *y > 0.0 && y.is_finite()).collect()
}

/// From a value to its place between the ends, by its logarithm.
#[derive(Debug, Clone, Copy)]
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) =
            values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return Self { low: 1.0, high: 10.0 };
        }
        // Some room, also where all values are one.
        Self { low: low / 1.3, high: high * 1.3 }
    }

    fn place(self, value: f64) -> f64 {
        (value / self.low).ln() / (self.high / self.low).ln()
    }

    /// One, two and five of each power of ten.
    fn marks(self) -> Vec<f64> {
        let powers = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let marks = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
        marks.filter(|mark| (self.low..=self.high).contains(mark)).collect()
    }
}

fn panel(text: &mut String, left: f64, title: &str, lines: &[Line]) {
    let points = || lines.iter().flat_map(|line| &line.points);
    let (across, up) = (Axis::of(points().map(|point| point.0)), Axis::of(points().map(|point| point.1)));
    let x = |value| left + MARGIN + across.place(value) * WIDTH;
    let y = |value| MARGIN + (1.0 - up.place(value)) * HEIGHT;
    let (right, bottom) = (left + MARGIN + WIDTH, MARGIN + HEIGHT);
    let _ = writeln!(
        text,
        "<text x=\"{:.0}\" y=\"{:.0}\" font-weight=\"bold\">{title}</text>",
        left + MARGIN,
        MARGIN - 28.0
    );
    for mark in up.marks() {
        let at = y(mark);
        let _ = writeln!(
            text,
            "<line x1=\"{:.1}\" y1=\"{at:.1}\" x2=\"{right:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{mark}</text>",
            left + MARGIN,
            left + MARGIN - 6.0,
            at + 4.0
        );
    }
    for mark in across.marks() {
        let at = x(mark);
        let _ = writeln!(
            text,
            "<line x1=\"{at:.1}\" y1=\"{MARGIN:.1}\" x2=\"{at:.1}\" y2=\"{bottom:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{mark}</text>",
            bottom + 18.0
        );
    }
    let _ =
        writeln!(text, "<text x=\"{right:.1}\" y=\"{:.1}\" text-anchor=\"end\">nodes</text>", bottom + 36.0);
    for (number, line) in lines.iter().enumerate() {
        let path: Vec<_> = line.points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        let dashes = if line.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
        let colour = line.colour;
        let _ = writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>",
            path.join(" ")
        );
        for (a, b) in line.points.iter().filter(|_| !line.dashed) {
            let _ =
                writeln!(text, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>", x(*a), y(*b));
        }
        let at = MARGIN - 10.0;
        let _ = writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{at:.1}\" fill=\"{colour}\" font-size=\"10\">{}</text>",
            left + MARGIN + number as f64 * 88.0,
            line.name
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_within_its_axis() {
        for values in [vec![1.0], vec![0.01, 5_000.0], vec![]] {
            let axis = Axis::of(values.iter().copied());
            assert!(values.iter().all(|value| (0.0..=1.0).contains(&axis.place(*value))), "{axis:?}");
        }
    }

    #[test]
    fn a_plot_of_anything_has_no_places_that_are_no_numbers() {
        let early = Figures { nodes: 100, ended: Some("why".into()), ..Figures::default() };
        let full = Figures { nodes: 5_000, fan_out_median_ms: 120.0, beat_us: 80.0, ..Figures::default() };
        for all in [vec![], vec![early.clone()], vec![early, full]] {
            let text = svg(&all);
            assert!(text.starts_with("<svg") && text.ends_with("</svg>\n"));
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
    }
}
