//! SubjectAccessReview: its entry.

use super::AUTHORIZATION;
use crate::{kinds::Kind, validate};

pub(crate) const ENTRY: Kind = Kind {
    kind: "SubjectAccessReview",
    plural: "subjectaccessreviews",
    validate: validate::review::subject_access,
    ..AUTHORIZATION
};
