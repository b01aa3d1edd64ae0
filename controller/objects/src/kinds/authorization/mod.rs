//! The group `authorization.k8s.io`: what a user may do. Questions, answered and not kept.

mod local_subject_access_review;
mod self_subject_access_review;
mod self_subject_rules_review;
mod subject_access_review;

use super::{Entry, QUESTION};

const AUTHORIZATION: Entry = Entry { group: "authorization.k8s.io", ..QUESTION };

pub(super) const KINDS: &[Entry] = &[
    local_subject_access_review::ENTRY,
    self_subject_access_review::ENTRY,
    self_subject_rules_review::ENTRY,
    subject_access_review::ENTRY,
];
