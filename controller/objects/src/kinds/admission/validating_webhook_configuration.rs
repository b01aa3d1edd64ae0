//! ValidatingWebhookConfiguration: its entry.

use super::ADMISSION;
use crate::kinds::Kind;

pub(crate) const ENTRY: Kind = Kind {
    kind: "ValidatingWebhookConfiguration",
    plural: "validatingwebhookconfigurations",
    refusal: no_admission!("ValidatingWebhookConfigurations"),
    ..ADMISSION
};
