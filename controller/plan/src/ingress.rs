//! Where is an Ingress reached? At every gateway: their addresses on the underlay become its status.

use std::{collections::BTreeSet, net::SocketAddr};

use serde_json::{Value, json};
use warren_store::{Object, Transaction};

use crate::{
    member::{Member, MemberRole},
    object,
    outcome::Outcome,
    resources::{INGRESSES, MEMBERS},
    view::View,
};

const CLASS: &str = "warren";
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub(crate) fn plan(view: &View<'_>, outcome: &mut Outcome) {
    let snapshot = &view.world.snapshot;
    let wanted = addresses(snapshot.list(MEMBERS).filter_map(|object| Member::from_object(object).ok()));
    for ingress in snapshot.list(INGRESSES).filter(|ingress| is_ours(ingress)) {
        if published(ingress) == wanted || object::is_deleting(ingress) {
            continue;
        }
        if let Some(value) = object::edited(ingress, |value| publish(value, &wanted)) {
            let transaction = Transaction::new().replace(ingress.key.clone(), ingress.revision, value);
            outcome.step(format!("address of {}", ingress.key), transaction);
        }
    }
}

/// Whether the gateways serve an Ingress: its class is "warren", or it names none.
pub fn is_ours(ingress: &Object) -> bool {
    let class = object::at(&ingress.value, "/spec/ingressClassName").and_then(Value::as_str);
    matches!(class.or_else(|| object::annotation(&ingress.value, CLASS_ANNOTATION)), None | Some("" | CLASS))
}

/// The gateways' addresses, each once and in order. A gateway that has not reported one yet has none.
fn addresses(members: impl Iterator<Item = Member>) -> Vec<Value> {
    let gateways = members.filter(|member| member.role == MemberRole::Gateway);
    let endpoints = gateways.filter_map(|gateway| gateway.endpoint?.parse::<SocketAddr>().ok());
    let addresses: BTreeSet<_> = endpoints.map(|endpoint| endpoint.ip()).collect();
    addresses.into_iter().map(|address| json!({ "ip": address })).collect()
}

fn published(ingress: &Object) -> &[Value] {
    let list = object::at(&ingress.value, "/status/loadBalancer/ingress").and_then(Value::as_array);
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
