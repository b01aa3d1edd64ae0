//! SelfSubjectReview: its entry.

use super::AUTHENTICATION;
use crate::kinds::Entry;

pub(crate) const ENTRY: Entry =
    Entry { kind: "SelfSubjectReview", plural: "selfsubjectreviews", ..AUTHENTICATION };
