//! The group `authentication.k8s.io`: who a user is. Questions, answered and not kept.

mod self_subject_review;
mod token_review;

use super::{Entry, QUESTION};

const AUTHENTICATION: Entry = Entry { group: "authentication.k8s.io", ..QUESTION };

pub(super) const KINDS: &[Entry] = &[self_subject_review::ENTRY, token_review::ENTRY];
