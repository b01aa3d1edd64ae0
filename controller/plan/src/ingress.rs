//! Where is an Ingress reached, and what of it is not in force? Every gateway's address on the underlay becomes its
//! status; what the gateways cannot do becomes an event.
//!
//! Source of the rules of classes: <https://kubernetes.io/docs/concepts/services-networking/ingress/#ingress-class>.

pub mod annotations;
mod notices;

use std::{collections::BTreeSet, net::SocketAddr};

use serde_json::{Value, json};
use warren_state::{Key, Object, Snapshot, Transaction};

use crate::{object, outcome::Outcome, view::View};
use warren_vocabulary::{
    member::{Member, MemberRole},
    resources::{INGRESS_CLASS, INGRESS_CONTROLLER, INGRESSCLASSES, INGRESSES, MEMBERS},
};

/// On an Ingress: its class, as clients wrote it before there was a field for it.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// All of them as one: who asks for what another one has, depends on all.
pub(crate) fn unit() -> Key {
    Key::new(INGRESSES, "", "")
}

pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys {
        outcome.unit(view, key, |outcome| plan_all(view, outcome));
    }
}

fn plan_all(view: &View<'_>, outcome: &mut Outcome<'_>) {
    let snapshot = &view.world.snapshot;
    let wanted = addresses(snapshot.list(MEMBERS).filter_map(|object| Member::from_object(object).ok()));
    for ingress in snapshot.list(INGRESSES).filter(|ingress| is_ours(snapshot, ingress)) {
        outcome.each(ingress, |outcome| publish_addresses(ingress, &wanted, outcome));
    }
    notices::plan(view, outcome);
}

fn publish_addresses(ingress: &Object, wanted: &[Value], outcome: &mut Outcome<'_>) {
    if published(ingress) == wanted || object::is_deleting(ingress) {
        return;
    }
    if let Some(value) = object::edited(ingress, |value| publish(value, wanted)) {
        let transaction = Transaction::new().replace(ingress.key.clone(), ingress.revision, value);
        outcome.step(format!("address of {}", ingress.key), transaction);
    }
}

/// Whether the gateways serve an Ingress: its class is one of ours, or it names none.
pub fn is_ours(snapshot: &Snapshot, ingress: &Object) -> bool {
    class(ingress).is_none_or(|class| is_our_class(snapshot, class))
}

/// The class that an Ingress names.
fn class(ingress: &Object) -> Option<&str> {
    let class = warren_state::at(&ingress.value, "/spec/ingressClassName").and_then(Value::as_str);
    let class = class.or_else(|| object::annotation(&ingress.value, CLASS_ANNOTATION));
    class.filter(|class| !class.is_empty())
}

/// A class is ours when its controller is; "warren" also where there is no such object.
fn is_our_class(snapshot: &Snapshot, class: &str) -> bool {
    controller_of(snapshot, class)
        .map_or(class == INGRESS_CLASS, |controller| controller == INGRESS_CONTROLLER)
}

fn controller_of<'a>(snapshot: &'a Snapshot, class: &str) -> Option<&'a str> {
    let object = snapshot.get(&Key::new(INGRESSCLASSES, "", class))?;
    warren_state::at(&object.value, "/spec/controller").and_then(Value::as_str)
}

/// The gateways' addresses, each once and in order. A gateway that has not reported one yet has none.
fn addresses(members: impl Iterator<Item = Member>) -> Vec<Value> {
    let gateways = members.filter(|member| member.role == MemberRole::Gateway);
    let endpoints = gateways.filter_map(|gateway| gateway.endpoint?.parse::<SocketAddr>().ok());
    let addresses: BTreeSet<_> = endpoints.map(|endpoint| endpoint.ip()).collect();
    addresses.into_iter().map(|address| json!({ "ip": address })).collect()
}

fn published(ingress: &Object) -> &[Value] {
    let list = warren_state::at(&ingress.value, "/status/loadBalancer/ingress").and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

fn publish(value: &mut Value, wanted: &[Value]) {
    let balancer = object::object_at(value, &["status", "loadBalancer"]);
    if wanted.is_empty() {
        balancer.remove("ingress");
    } else {
        balancer.insert("ingress".into(), wanted.into());
    }
}
