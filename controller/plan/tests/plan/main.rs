//! The planners as a whole: a model of the cluster carries out their plans.
#![allow(clippy::unwrap_used)]

mod deployments;
mod endpoints;
mod garbage;
mod idle;
mod ingress;
mod model;
mod namespaces;
mod nodes;
mod properties;
mod scheduling;
