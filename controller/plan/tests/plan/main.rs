//! The planners as a whole: a model of the cluster carries out their plans.
#![allow(clippy::unwrap_used)]

mod deployments;
mod endpoints;
mod garbage;
mod ingress;
mod model;
mod nodes;
mod properties;
mod scheduling;
