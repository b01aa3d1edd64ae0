//! What is special about single kinds when they are written: the one table of hooks. What is not in it is special in
//! nothing.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use warren_objects::kinds::Kind;
use warren_state::{Object, Snapshot, Transaction};
use warren_vocabulary::{
    ClusterConfig,
    resources::{
        DEFAULT_CLASS, INGRESSCLASSES, INGRESSES, JOBS, NAMESPACES, NODES, PERSISTENTVOLUMECLAIMS, PODS,
        PRIORITYCLASSES, SERVICES,
    },
};

use crate::{
    Refusal, Review,
    addresses::InFlight,
    deletion::{self, Decision, DeleteOptions, Propagation},
    limits, metadata, priority, runtime_class, scope, service_account, services,
};

/// Gives an object what the cluster has a bounded number of.
type Allocate = fn((&InFlight, &ClusterConfig), &Snapshot, &mut Review<'_>) -> Result<(), Refusal>;
/// What a deletion does: to the stored object, which is given again with the finalizers that the request asks for.
type Decide = fn(&Value, Value, &DeleteOptions, Timestamp) -> Decision;

/// What is special about a kind.
#[derive(Clone, Copy)]
pub(crate) struct Hooks {
    resource: &'static str,
    /// A new object may bring its status.
    pub(crate) brings_status: bool,
    /// Keeps what a client's update of the main part does not reach.
    pub(crate) keep: fn(&Value, &mut Value),
    /// Completes a new object by others that are there.
    pub(crate) complete: fn(&Snapshot, &mut Review<'_>) -> Result<(), Refusal>,
    /// Judges a new object or a changed one by others that are there.
    pub(crate) agree: fn(&Snapshot, &Review<'_>) -> Result<(), Refusal>,
    /// Allocates, for a new object or a changed one.
    pub(crate) allocate: Allocate,
    /// Adds to the removal of an object what was allocated for it.
    pub(crate) release: fn(&Value, Transaction) -> Transaction,
    /// Why no client may delete the object of this name, if none may.
    pub(crate) undeletable: fn(&str) -> Option<&'static str>,
    /// What becomes of what an object owns, if the request does not say and it is not that it goes later.
    pub(crate) propagation: Option<Propagation>,
    /// What a deletion does, where it is not the usual.
    pub(crate) decide_deletion: Option<Decide>,
    /// Whether more than finalizers of the metadata keeps a dying object.
    pub(crate) is_held: fn(&Value) -> bool,
}

const NONE: Hooks = Hooks {
    resource: "",
    brings_status: false,
    keep: |_, _| {},
    complete: |_, _| Ok(()),
    agree: |_, _| Ok(()),
    allocate: |_, _, _| Ok(()),
    release: |_, transaction| transaction,
    undeletable: |_| None,
    propagation: None,
    decide_deletion: None,
    is_held: |_| false,
};

const SPECIAL: &[Hooks] = &[
    Hooks { resource: INGRESSES, complete: default_ingress_class, ..NONE },
    // As of old.
    Hooks { resource: JOBS, propagation: Some(Propagation::Orphan), ..NONE },
    Hooks {
        resource: NAMESPACES,
        keep: |old, new| scope::take(new, "spec", old),
        undeletable: |name| IMMORTAL.contains(&name).then_some("this namespace may not be deleted"),
        decide_deletion: Some(deletion::terminate_namespace),
        is_held: |namespace| {
            namespace["spec"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty())
        },
        ..NONE
    },
    Hooks { resource: NODES, brings_status: true, ..NONE },
    Hooks { resource: PERSISTENTVOLUMECLAIMS, agree: limits::judge_claim, ..NONE },
    Hooks {
        resource: PODS,
        keep: priority::keep,
        complete: complete_pod,
        agree: limits::judge_pod,
        decide_deletion: Some(deletion::decide_pod),
        ..NONE
    },
    Hooks {
        resource: PRIORITYCLASSES,
        agree: priority::one_default,
        undeletable: priority::undeletable,
        ..NONE
    },
    Hooks {
        resource: SERVICES,
        keep: services::keep_allocated,
        allocate: services::allocate,
        release: services::release,
        ..NONE
    },
];

/// What a new pod gets from others: what the ranges of its namespace give, its account's token, its priority, and what its
/// runtime class says.
fn complete_pod(snapshot: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
    limits::fill(snapshot, review);
    service_account::complete(snapshot, review)?;
    priority::resolve(snapshot, review)?;
    runtime_class::resolve(snapshot, review)
}

/// What is special about a kind.
pub(crate) fn hooks(kind: &Kind) -> &'static Hooks {
    SPECIAL.iter().find(|hooks| hooks.resource == kind.resource).unwrap_or(&NONE)
}

/// Namespaces that the cluster cannot do without.
const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

/// On an Ingress: its class, as clients wrote it before there was a field for it.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Gives a new Ingress that names no class the default one, if there is one; 403 when several claim to be it.
///
/// Source: <https://kubernetes.io/docs/concepts/services-networking/ingress/#default-ingress-class>.
fn default_ingress_class(snapshot: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
    let Some(ingress) = &mut review.new else { return Ok(()) };
    let annotations = &ingress["metadata"]["annotations"];
    let is_named = !ingress["spec"]["ingressClassName"].is_null() || !annotations[CLASS_ANNOTATION].is_null();
    if is_named {
        return Ok(());
    }
    let is_default = |class: &&Arc<Object>| {
        class.value["metadata"]["annotations"][DEFAULT_CLASS] == "true"
            && !metadata::is_terminating(&class.value)
    };
    let defaults: Vec<&Arc<Object>> = snapshot.list(INGRESSCLASSES).filter(is_default).collect();
    match defaults.as_slice() {
        [] => Ok(()),
        [class] => {
            ingress["spec"]["ingressClassName"] = json!(&*class.key.name);
            Ok(())
        }
        several => {
            let names: Vec<&str> = several.iter().map(|class| &*class.key.name).collect();
            let why = format!(
                "{} default IngressClasses were found ({}), only 1 is allowed: name one in spec.ingressClassName",
                several.len(),
                names.join(", ")
            );
            Err(Refusal::forbidden(review.kind, review.name(), &why))
        }
    }
}
