//! ValidatingAdmissionPolicy: its entry.

use super::ADMISSION;
use crate::kinds::Entry;

pub(crate) const ENTRY: Entry = Entry {
    kind: "ValidatingAdmissionPolicy",
    plural: "validatingadmissionpolicies",
    refusal: no_admission!("ValidatingAdmissionPolicies"),
    ..ADMISSION
};
