//! Tests of everything per kind, over real objects. One binary, so that it is linked once.
#![allow(clippy::unwrap_used)]
// The sweep reads our own source, and the samples are files.
#![allow(clippy::disallowed_methods)]

mod defaults;
mod early;
mod jobs;
mod kinds;
mod more_samples;
mod properties;
mod protobuf;
mod registry;
mod roles;
mod samples;
mod structural;
mod sweep;
mod tables;
mod validation;
