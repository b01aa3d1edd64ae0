//! The group `authentication.k8s.io`: who somebody is. Questions, answered and not kept.

mod self_subject_review;
mod token_review;

use super::{Kind, QUESTION};

const AUTHENTICATION: Kind = Kind { group: "authentication.k8s.io", ..QUESTION };

pub(super) const KINDS: &[Kind] = &[self_subject_review::ENTRY, token_review::ENTRY];
