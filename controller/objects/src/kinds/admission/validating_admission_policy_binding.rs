//! ValidatingAdmissionPolicyBinding: its entry.

use super::ADMISSION;
use crate::kinds::Kind;

pub(crate) const ENTRY: Kind = Kind {
    kind: "ValidatingAdmissionPolicyBinding",
    plural: "validatingadmissionpolicybindings",
    refusal: no_admission!("ValidatingAdmissionPolicyBindings"),
    ..ADMISSION
};
