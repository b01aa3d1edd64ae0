//! What a pod is told of its scheduling.

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use warren_state::Transaction;

use super::COMPONENT;
use crate::{
    events::{self, Event},
    object::{self, Condition},
    outcome::Outcome,
    view::{PodView, View},
};

pub(super) const GATED: &str = "Scheduling is blocked due to non-empty scheduling gates";

/// What becomes of a pod's place at a node that others make room on for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nomination<'n> {
    Keep,
    Give(&'n str),
    Drop,
}

/// The pod with its node and address.
pub(super) fn bound(
    pod: &PodView<'_>,
    node: &str,
    address: Ipv4Addr,
    host: Option<Ipv4Addr>,
    now: jiff::Timestamp,
) -> Value {
    let mut value = pod.object.value.clone();
    object::object_at(&mut value, &["spec"]).insert("nodeName".into(), node.into());
    let status = object::object_at(&mut value, &["status"]);
    status.insert("podIP".into(), json!(address));
    status.insert("podIPs".into(), json!([{ "ip": address }]));
    if let Some(host) = host {
        status.insert("hostIP".into(), json!(host));
        status.insert("hostIPs".into(), json!([{ "ip": host }]));
    }
    status.entry("phase").or_insert_with(|| "Pending".into());
    let scheduled = Condition { kind: "PodScheduled", status: "True", reason: "", message: "" };
    object::set_condition(&mut value, &scheduled, now);
    value
}

/// The pod with the reason why it has no node, if that is news to it.
fn refused(view: &View<'_>, pod: &PodView<'_>, message: &str, nomination: Nomination<'_>) -> Option<Value> {
    object::edited_within(pod.object, &["status"], |value| {
        let wanted = Condition { kind: "PodScheduled", status: "False", reason: "Unschedulable", message };
        object::set_condition(value, &wanted, view.now);
        let status = object::object_at(value, &["status"]);
        status.entry("phase").or_insert_with(|| Value::from("Pending"));
        match nomination {
            Nomination::Keep => {}
            Nomination::Give(node) => drop(status.insert("nominatedNodeName".into(), node.into())),
            Nomination::Drop => drop(status.remove("nominatedNodeName")),
        }
    })
}

/// Tells a pod why it has no node.
pub(super) fn refuse(
    view: &View<'_>,
    pod: &PodView<'_>,
    message: &str,
    nomination: Nomination<'_>,
    outcome: &mut Outcome<'_>,
) {
    if let Some(transaction) = refusal(view, pod, message, nomination) {
        outcome.step(format!("{} fits no node", pod.object.key), transaction);
    }
}

/// The same as part of something larger.
pub(super) fn refusal(
    view: &View<'_>,
    pod: &PodView<'_>,
    message: &str,
    nomination: Nomination<'_>,
) -> Option<Transaction> {
    let value = refused(view, pod, message, nomination)?;
    let mut transaction = Transaction::new().replace(pod.object.key.clone(), pod.object.revision, value);
    tell(view, &mut transaction, pod, "FailedScheduling", message.to_owned());
    Some(transaction)
}

/// Tells a pod with gates that it waits for their removal. Nothing failed, so no event says so.
pub(super) fn gate(view: &View<'_>, pod: &PodView<'_>, outcome: &mut Outcome<'_>) {
    let gated = object::edited_within(pod.object, &["status"], |value| {
        let wanted =
            Condition { kind: "PodScheduled", status: "False", reason: "SchedulingGated", message: GATED };
        object::set_condition(value, &wanted, view.now);
    });
    if let Some(value) = gated {
        let transaction = Transaction::new().replace(pod.object.key.clone(), pod.object.revision, value);
        outcome.step(format!("{} waits for its scheduling gates", pod.object.key), transaction);
    }
}

pub(super) fn tell(
    view: &View<'_>,
    transaction: &mut Transaction,
    pod: &PodView<'_>,
    reason: &str,
    message: String,
) {
    let (about, warning) = (pod.object, reason == "FailedScheduling");
    events::record(view, transaction, &Event { about, component: COMPONENT, reason, message, warning });
}
