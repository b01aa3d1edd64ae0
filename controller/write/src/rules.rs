//! The rules of objects: the one place where `warren-objects` is asked for defaults and judgements.

use serde_json::Value;
use warren_objects::{FieldError, defaults, kinds::Kind, validate};
use warren_state::Snapshot;

use crate::{Refusal, Review, Verb};

/// Fills in what was left out of an object.
pub(crate) fn complete(kind: &Kind, object: &mut Value) {
    defaults::apply(kind, object);
}

/// The step of the chain. A change is judged by as many rules as it may break: one that leaves the desired state alone
/// is judged by those of metadata and status.
pub(crate) fn judge(_: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
    let kind = review.kind;
    let Some(new) = review.new.as_ref().filter(|_| review.verb != Verb::Delete) else { return Ok(()) };
    let mut errors = match review.old.map(|old| &old.value) {
        None => validate::create(kind, new),
        Some(old) if review.verb == Verb::Bind => validate::binding(old, new),
        Some(old) if !review.changes_desired_state() => validate::around(kind, old, new),
        Some(old) => validate::update(kind, old, new),
    };
    if !review.is_by_client() {
        leave_what_was(review, &mut errors);
    }
    if errors.is_empty() { Ok(()) } else { Err(Refusal::invalid(review.kind, review.name(), &errors)) }
}

/// What was stored by other rules holds nothing up: the controller and nodes are not refused for what they did not write.
fn leave_what_was(review: &Review<'_>, errors: &mut Vec<FieldError>) {
    if let (false, Some(old)) = (errors.is_empty(), review.old) {
        let before = validate::update(review.kind, &old.value, &old.value);
        errors.retain(|error| !before.contains(error));
    }
}
