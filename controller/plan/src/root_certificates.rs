//! By which certificates do pods know the API? Every namespace has them in a ConfigMap, which test suites and clients
//! expect; what others do to it is undone.
//!
//! Source: <https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/>.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Namespace;
use serde_json::json;
use warren_objects::root_certificates::{NAME, config_map, data};
use warren_state::{Key, Precondition, Transaction};

use crate::{
    object,
    outcome::Outcome,
    view::{Typed, View},
};
use warren_vocabulary::resources::CONFIGMAPS;

pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    if view.world.config.ca_pem.is_empty() {
        return;
    }
    for key in keys {
        outcome.unit(view, key, |outcome| {
            let Some(namespace) = view.typed::<Namespace>(key) else { return };
            if !namespace.deleting() && !view.namespace_terminating(namespace.name()) {
                give(view, &namespace, outcome);
            }
        });
    }
}

fn give(view: &View<'_>, namespace: &Typed<'_, Namespace>, outcome: &mut Outcome<'_>) {
    let key = Key::new(CONFIGMAPS, namespace.name(), NAME);
    let certificates = &view.world.config.ca_pem;
    let why = format!("certificates of the API for namespace {}", namespace.name());
    let Some(found) = view.read(&key) else {
        let revision = view.world.snapshot.revision.to_string();
        let metadata = json!({
            "name": NAME,
            "namespace": namespace.name(),
            "uid": object::uuid(&["configmap", NAME, namespace.uid(), &revision]),
            "creationTimestamp": object::time_text(view.now),
        });
        let value = config_map(metadata, certificates);
        let mut transaction = Transaction::new().create(key, value);
        transaction.preconditions.push(Precondition::Exists(namespace.object.key.clone()));
        outcome.step(why, transaction);
        return;
    };
    if object::is_deleting(found) {
        return;
    }
    let mended = object::edited_within(found, &["data", "binaryData"], |value| {
        let map = object::object_at(value, &[]);
        map.insert("data".into(), data(certificates));
        map.remove("binaryData");
    });
    if let Some(value) = mended {
        outcome.step(why, Transaction::new().replace(key, found.revision, value));
    }
}
