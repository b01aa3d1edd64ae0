//! MutatingWebhookConfiguration: its entry.

use super::ADMISSION;
use crate::kinds::Entry;

pub(crate) const ENTRY: Entry = Entry {
    kind: "MutatingWebhookConfiguration",
    plural: "mutatingwebhookconfigurations",
    refusal: no_admission!("MutatingWebhookConfigurations"),
    ..ADMISSION
};
