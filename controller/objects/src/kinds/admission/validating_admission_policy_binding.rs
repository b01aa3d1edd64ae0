//! ValidatingAdmissionPolicyBinding: its entry.

use super::ADMISSION;
use crate::kinds::Entry;

pub(crate) const ENTRY: Entry = Entry {
    kind: "ValidatingAdmissionPolicyBinding",
    plural: "validatingadmissionpolicybindings",
    refusal: no_admission!("ValidatingAdmissionPolicyBindings"),
    ..ADMISSION
};
