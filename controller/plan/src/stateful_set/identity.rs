//! Which pod of its set a pod is: its name says it, and so do labels, whoever made the pod or changed them.

use serde_json::{Map, Value};
use warren_state::Transaction;

use super::draft::Draft;
use crate::{object, outcome::Outcome};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// Writes among the labels of a pod which one it is.
pub(super) fn label(labels: &mut Map<String, Value>, name: &str, ordinal: i64) {
    labels.insert(POD_NAME.into(), name.into());
    labels.insert(POD_INDEX.into(), ordinal.to_string().into());
}

/// Gives the labels back to pods that lost them, and to pods that were adopted.
pub(super) fn restore(draft: &Draft<'_, '_>, outcome: &mut Outcome<'_>) {
    for (ordinal, member) in draft.wanted().filter(|(_, member)| !member.pod.deleting()) {
        let (pod, name) = (member.pod.object, member.pod.name());
        let changed = |value: &mut Value| {
            label(object::object_at(value, &["metadata", "labels"]), name, ordinal);
        };
        let Some(value) = object::edited_within(pod, &["metadata"], changed) else { continue };
        let transaction = Transaction::new().replace(pod.key.clone(), pod.revision, value);
        let message = format!("update Pod {name} in StatefulSet {} successful", draft.owner.object.key.name);
        let transaction = draft.decide(transaction, "SuccessfulUpdate", message);
        outcome.step(format!("{} says which pod it is", pod.key), transaction);
    }
}
