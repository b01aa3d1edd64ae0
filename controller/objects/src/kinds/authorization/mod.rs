//! The group `authorization.k8s.io`: what somebody may do. Questions, answered and not kept.

mod local_subject_access_review;
mod self_subject_access_review;
mod self_subject_rules_review;
mod subject_access_review;

use super::{Kind, QUESTION};

const AUTHORIZATION: Kind = Kind { group: "authorization.k8s.io", ..QUESTION };

pub(super) const KINDS: &[Kind] = &[
    local_subject_access_review::ENTRY,
    self_subject_access_review::ENTRY,
    self_subject_rules_review::ENTRY,
    subject_access_review::ENTRY,
];
