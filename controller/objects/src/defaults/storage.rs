//! Defaults of claims, volumes, and what is around them.

use serde_json::Value;

use crate::{
    defaults::pod::numbers_to_quantities,
    json::{default_to, ensure_map},
};

/// A PersistentVolumeClaim.
pub(crate) fn claim(value: &mut Value) {
    if let Some(spec) = ensure_map(value, "spec") {
        default_to(spec, "volumeMode", "Filesystem");
        for list in ["requests", "limits"] {
            if let Some(quantities) = spec.get_mut("resources").and_then(|resources| resources.get_mut(list))
            {
                numbers_to_quantities(quantities);
            }
        }
    }
    if let Some(status) = ensure_map(value, "status") {
        default_to(status, "phase", "Pending");
    }
}
