//! What is measured, as the environment says.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;

/// What is measured.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The program whose controller is measured (`WARREN_BIN`).
    pub(crate) program: PathBuf,
    /// How many nodes, one measurement each (`WARREN_SCALE_SIZES=100,1000,5000`).
    pub(crate) sizes: Vec<usize>,
    /// Pods of each node (`WARREN_SCALE_PODS`).
    pub(crate) pods: usize,
    /// Connections of each node, from 1 to 4 (`WARREN_SCALE_CONNECTIONS`): two feeds and two heartbeats share them.
    pub(crate) connections: usize,
    /// Changes of each kind (`WARREN_SCALE_CHANGES`).
    pub(crate) changes: usize,
    /// From one change to the next (`WARREN_SCALE_PACE_MS`).
    pub(crate) pace: Duration,
    /// How long is watched what costs something by itself (`WARREN_SCALE_WATCH_S`).
    pub(crate) watch: Duration,
    /// The longest that a stage may take (`WARREN_SCALE_PATIENCE_S`).
    pub(crate) patience: Duration,
    /// Where figures and plot are written (`WARREN_SCALE_OUTPUT`, a directory); nowhere after a quick try.
    pub(crate) output: Option<PathBuf>,
    /// What else the reader of the figures should know (`WARREN_SCALE_NOTE`).
    pub(crate) note: String,
}

impl Settings {
    /// With `WARREN_BENCH_QUICK` everything is tiny, to try the benchmark itself.
    pub(crate) fn from_environment() -> anyhow::Result<Self> {
        let quick = text("WARREN_BENCH_QUICK").is_some();
        let sizes = text("WARREN_SCALE_SIZES");
        let sizes = sizes.as_deref().unwrap_or(if quick { "5,20" } else { "100,1000,5000" });
        let sizes: Result<Vec<usize>, _> = sizes.split(',').map(|size| size.trim().parse()).collect();
        let settings = Self {
            program: text("WARREN_BIN").context("WARREN_BIN must name the warren program to measure")?.into(),
            sizes: sizes.context("WARREN_SCALE_SIZES")?,
            pods: number("WARREN_SCALE_PODS", 10)?,
            connections: number("WARREN_SCALE_CONNECTIONS", 1)?,
            changes: number("WARREN_SCALE_CHANGES", if quick { 10 } else { 100 })?,
            pace: Duration::from_millis(number("WARREN_SCALE_PACE_MS", 50)?),
            watch: Duration::from_secs(number("WARREN_SCALE_WATCH_S", if quick { 3 } else { 20 })?),
            patience: Duration::from_secs(number("WARREN_SCALE_PATIENCE_S", 900)?),
            output: text("WARREN_SCALE_OUTPUT")
                .or_else(|| (!quick).then(|| "docs".to_owned()))
                .map(PathBuf::from),
            note: text("WARREN_SCALE_NOTE").unwrap_or_default(),
        };
        anyhow::ensure!(
            !settings.sizes.is_empty() && settings.sizes.iter().all(|size| (1..=8_000).contains(size)),
            "WARREN_SCALE_SIZES: each size must be from 1 to 8000"
        );
        anyhow::ensure!(
            (1..=4).contains(&settings.connections),
            "WARREN_SCALE_CONNECTIONS must be from 1 to 4"
        );
        anyhow::ensure!((1..=100).contains(&settings.pods), "WARREN_SCALE_PODS must be from 1 to 100");
        anyhow::ensure!(settings.changes > 0, "WARREN_SCALE_CHANGES must not be 0");
        Ok(settings)
    }
}

fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn number<T: std::str::FromStr<Err = std::num::ParseIntError>>(name: &str, default: T) -> anyhow::Result<T> {
    text(name).map_or(Ok(default), |text| text.parse().with_context(|| format!("{name}={text}")))
}
