//! MutatingWebhookConfiguration: its entry.

use super::ADMISSION;
use crate::kinds::Kind;

pub(crate) const ENTRY: Kind = Kind {
    kind: "MutatingWebhookConfiguration",
    plural: "mutatingwebhookconfigurations",
    refusal: no_admission!("MutatingWebhookConfigurations"),
    ..ADMISSION
};
