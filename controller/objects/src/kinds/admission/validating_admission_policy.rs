//! ValidatingAdmissionPolicy: its entry.

use super::ADMISSION;
use crate::kinds::Kind;

pub(crate) const ENTRY: Kind = Kind {
    kind: "ValidatingAdmissionPolicy",
    plural: "validatingadmissionpolicies",
    refusal: no_admission!("ValidatingAdmissionPolicies"),
    ..ADMISSION
};
