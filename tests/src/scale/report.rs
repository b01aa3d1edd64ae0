//! The figures beside their goals: for the terminal, and as a page with a plot.

use std::{fmt::Write as _, path::Path};

use anyhow::Context as _;

use crate::{measure::Figures, plot, settings::Settings};

/// Cost per change may grow by so much from the smallest size to the largest.
pub(crate) const GROWTH: f64 = 1.5;
/// One change to all consumers, up to 5,000, in milliseconds.
pub(crate) const FAN_OUT_MS: f64 = 150.0;

/// One row: what it is, its goal, and its value for each size.
struct Row {
    what: &'static str,
    goal: Goal,
    value: fn(&Figures) -> f64,
    digits: usize,
}

#[derive(Clone, Copy)]
enum Goal {
    None,
    AtMost(f64),
    AtLeast(f64),
    /// At most [`GROWTH`] times the smallest size's.
    Growth,
}

const ROWS: [Row; 19] = [
    Row { what: "one ConfigMap: CPU, ms", goal: Goal::Growth, value: |f| f.config_map.cpu_ms, digits: 2 },
    Row { what: "… messages to members", goal: Goal::None, value: |f| f.config_map.messages, digits: 1 },
    Row { what: "one pod's status: CPU, ms", goal: Goal::Growth, value: |f| f.pod_status.cpu_ms, digits: 2 },
    Row { what: "… messages to members", goal: Goal::None, value: |f| f.pod_status.messages, digits: 1 },
    Row { what: "… bytes to members", goal: Goal::None, value: |f| f.pod_status.bytes, digits: 0 },
    Row { what: "one endpoint: CPU, ms", goal: Goal::None, value: |f| f.endpoint.cpu_ms, digits: 2 },
    Row {
        what: "… CPU for each node, µs",
        goal: Goal::Growth,
        value: |f| f.endpoint.cpu_ms * 1e3 / f.nodes as f64,
        digits: 1,
    },
    Row { what: "… messages to members", goal: Goal::None, value: |f| f.endpoint.messages, digits: 1 },
    Row { what: "… bytes to members", goal: Goal::None, value: |f| f.endpoint.bytes, digits: 0 },
    Row {
        what: "… until all nodes acknowledged, median ms",
        goal: Goal::AtMost(FAN_OUT_MS),
        value: |f| f.fan_out_median_ms,
        digits: 1,
    },
    Row { what: "… the slowest, ms", goal: Goal::None, value: |f| f.fan_out_worst_ms, digits: 1 },
    Row { what: "heartbeats: CPU per node and s, µs", goal: Goal::Growth, value: |f| f.beat_us, digits: 0 },
    Row {
        what: "… with usage and tunnel reports, µs",
        goal: Goal::Growth,
        value: |f| f.report_us,
        digits: 0,
    },
    Row {
        what: "memory per node, KiB",
        goal: Goal::AtMost(64.0),
        value: |f| f.node_bytes / 1024.0,
        digits: 1,
    },
    Row { what: "memory per pod, KiB", goal: Goal::AtMost(8.0), value: |f| f.pod_bytes / 1024.0, digits: 1 },
    Row {
        what: "pods created, bound and told, per s",
        goal: Goal::AtLeast(10_000.0),
        value: |f| f.bindings,
        digits: 0,
    },
    Row {
        what: "one pod from creation to Running: CPU, ms",
        goal: Goal::None,
        value: |f| f.start_ms,
        digits: 2,
    },
    Row { what: "all nodes join, s", goal: Goal::None, value: |f| f.join_s, digits: 1 },
    Row { what: "all feeds open, s", goal: Goal::None, value: |f| f.open_s, digits: 1 },
];

impl Row {
    /// As text; a measurement that ended early has only what it came to.
    fn text(&self, figures: &Figures) -> String {
        let value = (self.value)(figures);
        if value == 0.0 && figures.ended.is_some() {
            return "—".to_owned();
        }
        format!("{value:.*}", self.digits)
    }

    fn goal(&self) -> String {
        match self.goal {
            Goal::None => String::new(),
            Goal::AtMost(most) => format!("≤ {most}"),
            Goal::AtLeast(least) => format!("≥ {least}"),
            Goal::Growth => format!("× ≤ {GROWTH}"),
        }
    }

    /// The largest size's figure as a ratio: to the goal, or to the smallest size's; whether it is as it should be.
    fn ratio(&self, all: &[Figures]) -> Option<(f64, bool)> {
        let (first, last) = (all.first()?, all.last()?);
        let (small, value) = ((self.value)(first), (self.value)(last));
        if value == 0.0 {
            return None;
        }
        match self.goal {
            Goal::None => None,
            Goal::AtMost(most) => Some((value / most, value <= most)),
            Goal::AtLeast(least) => Some((value / least, value >= least)),
            Goal::Growth => (small > 0.0 && all.len() > 1).then(|| (value / small, value / small <= GROWTH)),
        }
    }
}

/// The table in Markdown, which reads well on a terminal, too.
pub(crate) fn table(all: &[Figures]) -> String {
    let mut lines = vec![vec!["".to_owned()]];
    lines[0].extend(all.iter().map(|figures| format!("{} nodes, {} pods", figures.nodes, figures.pods)));
    lines[0].extend(["goal".to_owned(), "ratio".to_owned()]);
    for row in &ROWS {
        let mut line = vec![row.what.to_owned()];
        line.extend(all.iter().map(|figures| row.text(figures)));
        line.push(row.goal());
        line.push(row.ratio(all).map_or_else(String::new, |(ratio, good)| {
            format!("{ratio:.2}{}", if good { "" } else { " (missed)" })
        }));
        lines.push(line);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            let rule = widths.iter().map(|width| format!("|{}", "-".repeat(width + 2))).collect::<String>();
            let _ = writeln!(text, "{rule}|");
        }
    }
    text
}

/// Writes `scale.md` and `scale.svg`.
pub(crate) fn write(directory: &Path, settings: &Settings, all: &[Figures]) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    for (name, text) in [("scale.md", page(settings, all)), ("scale.svg", plot::svg(all))] {
        let path = directory.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn page(settings: &Settings, all: &[Figures]) -> String {
    let version = std::process::Command::new(&settings.program).arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d");
    let mut text = format!(
        "# Scale, measured\n\n\
         Written by `make bench` (`tests/src/scale/`); do not edit. The controller is a process of its own; {} simulated \
         nodes speak the true protocol to it from another process of the same machine: an agent and a netd each, joined \
         by a token, with a certificate, over TLS ({} connection{} per node), with a heartbeat per process and second. \
         They run nothing: what they are told is in force at once, and every pod runs. {} changes of each kind are made, \
         one each {} ms; their cost is what the controller's process took beyond what it takes when nothing changes.\n\n\
         {} on {} at {date}, {}{}\n\n",
        all.iter().map(|figures| figures.nodes.to_string()).collect::<Vec<_>>().join(", "),
        settings.connections,
        if settings.connections == 1 { "" } else { "s" },
        settings.changes,
        settings.pace.as_millis(),
        version.unwrap_or_else(|_| "warren".to_owned()),
        processor(),
        load(),
        if settings.note.is_empty() { ".".to_owned() } else { format!("; {}.", settings.note) },
    );
    text.push_str(&table(all));
    text.push_str(
        "\nThe ratio is the largest size's figure to its goal, or, where the goal is a growth (×), to the smallest size's.\n\
         The time until all nodes acknowledged counts from the request of the change until the last node's netd has handed its\n\
         acknowledgement to the connection. Memory is what the process has more (resident) than before, for each. Changes that\n\
         come faster than the controller is done with them are dealt with together: each then looks cheaper than it is.\n",
    );
    for figures in all {
        if let Some(why) = &figures.ended {
            let _ = writeln!(text, "\n{} nodes: the measurement ended early: {why}.", figures.nodes);
        }
        if figures.troubles > 0 {
            let _ = writeln!(
                text,
                "\n{} nodes: {} streams broke or reports were refused meanwhile.",
                figures.nodes, figures.troubles
            );
        }
    }
    text.push_str("\n![How cost grows with the number of nodes](scale.svg)\n");
    text
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores ({})", model.map_or("unknown", |(_, model)| model))
}

/// How busy the machine was over the last quarter of an hour, ourselves included.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("load {}", text.split(' ').nth(2).unwrap_or("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Cost;

    fn figures(nodes: usize, cpu_ms: f64) -> Figures {
        let config_map = Cost { cpu_ms, ..Cost::default() };
        Figures { nodes, pods: nodes * 10, config_map, pod_bytes: 9_000.0, ..Figures::default() }
    }

    #[test]
    fn what_grows_too_much_is_said() {
        let text = table(&[figures(100, 0.25), figures(5_000, 0.5)]);
        let row = |what: &str| text.lines().find(|line| line.contains(what)).expect("a row").to_owned();
        assert!(row("one ConfigMap").contains("2.00 (missed)"), "{text}");
        assert!(row("memory per pod").contains("1.10 (missed)"), "{text}");
        let text = table(&[figures(100, 0.25), figures(5_000, 0.3)]);
        assert!(text.contains("1.20 ") && !text.contains("1.20 (missed)"), "{text}");
    }

    #[test]
    fn what_was_not_reached_has_no_figure() {
        let early = Figures { ended: Some("no time".into()), ..figures(100, 0.2) };
        let text = table(std::slice::from_ref(&early));
        let endpoint = text.lines().find(|line| line.contains("one endpoint")).expect("a row");
        assert!(endpoint.contains('—'), "{text}");
    }
}
