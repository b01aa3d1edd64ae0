//! The planners as a whole: a model of the cluster carries out their plans.
#![allow(clippy::unwrap_used)]

mod affinity;
mod circles;
mod claims;
mod cron_jobs;
mod daemon_sets;
mod deployments;
mod endpoints;
mod explain;
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
mod placement;
mod preemption;
mod properties;
mod quarantine;
mod refusals;
mod scheduling;
mod scores;
mod set_properties;
mod sets;
mod slices;
mod spread;
mod stateful_sets;
