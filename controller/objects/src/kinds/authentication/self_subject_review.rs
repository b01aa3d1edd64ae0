//! SelfSubjectReview: its entry.

use super::AUTHENTICATION;
use crate::kinds::Kind;

pub(crate) const ENTRY: Kind =
    Kind { kind: "SelfSubjectReview", plural: "selfsubjectreviews", ..AUTHENTICATION };
