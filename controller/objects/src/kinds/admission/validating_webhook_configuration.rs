//! ValidatingWebhookConfiguration: its entry.

use super::ADMISSION;
use crate::kinds::Entry;

pub(crate) const ENTRY: Entry = Entry {
    kind: "ValidatingWebhookConfiguration",
    plural: "validatingwebhookconfigurations",
    refusal: no_admission!("ValidatingWebhookConfigurations"),
    ..ADMISSION
};
