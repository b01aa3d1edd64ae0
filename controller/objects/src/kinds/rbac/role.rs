//! Role: its entry.

use super::{ROLE, shared::rules};
use crate::kinds::Entry;

pub(crate) const ENTRY: Entry =
    Entry { kind: "Role", plural: "roles", validate: |value, errors| rules(value, true, errors), ..ROLE };
