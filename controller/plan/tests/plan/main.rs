//! The planners as a whole: a model of the cluster carries out their plans.
#![allow(clippy::unwrap_used)]

mod circles;
mod claims;
mod cron_jobs;
mod daemon_sets;
mod daemon_updates;
mod deployments;
mod endpoints;
mod extremes;
mod garbage;
mod idle;
mod incremental;
mod ingress;
mod job_policies;
mod jobs;
mod model;
mod names;
mod nodes;
mod properties;
mod quarantine;
mod refusals;
mod revisions;
mod scheduling;
mod set_properties;
mod sets;
mod slices;
mod stateful_sets;
mod stateful_updates;
