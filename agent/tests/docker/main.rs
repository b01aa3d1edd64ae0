//! The agent's core against the real Docker engine, without a controller and with a netd that only takes notes.
//!
//! Needs a Docker engine and `/bin/busybox` (package busybox-static). Everything carries the label
//! `warren.cluster=agenttest` and is removed at the end of each test.
#![allow(clippy::unwrap_used, missing_docs)]

mod bench;
mod commands;
mod images;
mod life;
mod past;
mod paths;
mod sessions;
mod tokens;
mod trouble;
