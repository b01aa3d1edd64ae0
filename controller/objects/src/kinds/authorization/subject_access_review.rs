//! SubjectAccessReview: its entry.

use super::AUTHORIZATION;
use crate::{kinds::Entry, validate};

pub(crate) const ENTRY: Entry = Entry {
    kind: "SubjectAccessReview",
    plural: "subjectaccessreviews",
    validate: validate::review::subject_access,
    ..AUTHORIZATION
};
