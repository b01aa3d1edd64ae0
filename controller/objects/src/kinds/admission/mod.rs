//! The group `admissionregistration.k8s.io`. No object can be of these kinds, because nothing would act by it and that would do
//! harm: what it forbids would be let through. They are shown, so that clients which validate, list or delete their
//! objects find what they expect: an empty list, 404. A creation is refused by name.

macro_rules! no_admission {
    ($kinds:literal) => {
        concat!(
            $kinds,
            " are refused: admission webhooks and policies are not served by this version of Warren: what they would \
             forbid would be let through"
        )
    };
}

mod mutating_webhook_configuration;
mod validating_admission_policy;
mod validating_admission_policy_binding;
mod validating_webhook_configuration;

use super::{CLUSTER, Entry};

const ADMISSION: Entry = Entry { group: "admissionregistration.k8s.io", ..CLUSTER };

pub(super) const KINDS: &[Entry] = &[
    mutating_webhook_configuration::ENTRY,
    validating_admission_policy::ENTRY,
    validating_admission_policy_binding::ENTRY,
    validating_webhook_configuration::ENTRY,
];
