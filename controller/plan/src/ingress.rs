//! Where is an Ingress reached? At every gateway: their addresses on the underlay become its status. One of another class
//! is told that none of them serves it.
//!
//! Source of the rules of classes: <https://kubernetes.io/docs/concepts/services-networking/ingress/#ingress-class>.

use std::{collections::BTreeSet, net::SocketAddr};

use serde_json::{Value, json};
use warren_store::{Key, Object, Snapshot, Transaction};

use crate::{
    events::{self, Event},
    member::{Member, MemberRole},
    object,
    outcome::Outcome,
    resources::{INGRESSCLASSES, INGRESSES, MEMBERS},
    view::View,
};

/// The class that is there in every cluster.
pub const CLASS: &str = "warren";
/// What an IngressClass names in `spec.controller` whose ingresses the gateways serve.
pub const CONTROLLER: &str = "warren.dev/gateway";
/// On an IngressClass: "true" makes it the class of every new Ingress that names none.
pub const DEFAULT_CLASS_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";
/// On an Ingress: its class, as clients wrote it before there was a field for it.
pub const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

const COMPONENT: &str = "ingress-controller";

pub(crate) fn plan(view: &View<'_>, outcome: &mut Outcome) {
    let snapshot = &view.world.snapshot;
    let wanted = addresses(snapshot.list(MEMBERS).filter_map(|object| Member::from_object(object).ok()));
    for ingress in snapshot.list(INGRESSES).filter(|ingress| !object::is_deleting(ingress)) {
        if is_ours(snapshot, ingress) {
            serve(ingress, &wanted, outcome);
        } else {
            tell(view, ingress, outcome);
        }
    }
}

fn serve(ingress: &Object, wanted: &[Value], outcome: &mut Outcome) {
    if published(ingress) == wanted {
        return;
    }
    if let Some(value) = object::edited(ingress, |value| publish(value, wanted)) {
        let transaction = Transaction::new().replace(ingress.key.clone(), ingress.revision, value);
        outcome.step(format!("address of {}", ingress.key), transaction);
    }
}

/// Says that the gateways do not serve an Ingress, once for each of its generations.
fn tell(view: &View<'_>, ingress: &Object, outcome: &mut Outcome) {
    let class = class(ingress).unwrap_or_default();
    let controller = controller(&view.world.snapshot, class);
    let message = match controller {
        Some(controller) => format!(
            "not served by the gateways of Warren: the ingress class \"{class}\" is that of the controller \
             \"{controller}\""
        ),
        None => format!(
            "not served by the gateways of Warren, nor, it seems, by anybody: there is no IngressClass \"{class}\". Set \
             spec.ingressClassName to \"{CLASS}\" to have it served"
        ),
    };
    let reason = "OtherIngressClass";
    let event =
        Event { about: ingress, component: COMPONENT, reason, message, warning: controller.is_none() };
    if let Some(transaction) = events::once(view, &event) {
        outcome.step(format!("{} is of another class", ingress.key), transaction);
    }
}

/// Whether the gateways serve an Ingress: it names no class, or one whose controller they are. The class "warren" is
/// theirs, too, while it has no object.
pub fn is_ours(snapshot: &Snapshot, ingress: &Object) -> bool {
    match class(ingress) {
        None => true,
        Some(class) => match controller(snapshot, class) {
            Some(controller) => controller == CONTROLLER,
            None => class == CLASS,
        },
    }
}

/// The class that an Ingress names, by its field or by the annotation that came before it.
fn class(ingress: &Object) -> Option<&str> {
    let field = object::at(&ingress.value, "/spec/ingressClassName").and_then(Value::as_str);
    field.or_else(|| object::annotation(&ingress.value, CLASS_ANNOTATION)).filter(|class| !class.is_empty())
}

/// Who serves the ingresses of a class.
fn controller<'a>(snapshot: &'a Snapshot, class: &str) -> Option<&'a str> {
    let class = snapshot.get(&Key::new(INGRESSCLASSES, "", class))?;
    object::at(&class.value, "/spec/controller").and_then(Value::as_str)
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
