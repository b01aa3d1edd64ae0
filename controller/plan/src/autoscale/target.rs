//! What an autoscaler scales: any kind with a `/scale` that keeps its size in `spec.replicas`.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        autoscaling::v2::{CrossVersionObjectReference, HorizontalPodAutoscalerSpec},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
    serde::Deserialize as _,
};
use serde_json::Value;
use warren_objects::kinds::Kind;
use warren_state::{Key, Object, Transaction, at};

use super::limits::MOST;
use crate::{
    object,
    selector::{self, Labels, Prepared},
    view::{PodView, Typed, View},
};
use warren_vocabulary::resources::PODS;

/// What is scaled.
pub(super) struct Target<'a> {
    pub(super) object: &'a Arc<Object>,
    /// How many pods it wants.
    pub(super) replicas: i64,
    /// How many it says that it has.
    pub(super) reported: i64,
    selector: LabelSelector,
    counts_generations: bool,
}

impl<'a> Target<'a> {
    /// What the autoscaler names, or why it cannot be scaled.
    pub(super) fn find(
        view: &View<'a>,
        namespace: &str,
        spec: &HorizontalPodAutoscalerSpec,
    ) -> Result<Self, String> {
        let reference = &spec.scale_target_ref;
        let kind = kind(view, reference)?;
        let key = Key::new(&kind.resource, namespace, &reference.name);
        let object = view.world.snapshot.get(&key);
        let object = object.ok_or_else(|| format!("{} {:?} not found", kind.resource, reference.name))?;
        let number = |pointer: &str| at(&object.value, pointer).and_then(Value::as_i64);
        Ok(Self {
            object,
            replicas: number("/spec/replicas").unwrap_or(1).clamp(0, MOST),
            reported: number("/status/replicas").unwrap_or(0).clamp(0, MOST),
            selector: selector_of(&object.value),
            counts_generations: kind.has_generation,
        })
    }

    /// Whether it says which pods are its own.
    pub(super) fn has_selector(&self) -> bool {
        !selector::is_empty(&self.selector)
    }

    /// The pods that it selects, whoever controls them.
    pub(super) fn pods(&self, view: &View<'a>) -> Vec<PodView<'a>> {
        let namespace = &self.object.key.namespace;
        let prepared = Prepared::new(&self.selector);
        let none = Labels::new();
        let labels = self.selector.match_labels.as_ref().unwrap_or(&none);
        let mut pods: Vec<PodView<'a>> = if labels.is_empty() {
            let all = view.world.snapshot.list_namespace(PODS, namespace);
            all.filter_map(|object| Typed::<Pod>::of(object).ok()).collect()
        } else {
            view.pods_labelled(namespace, labels)
        };
        pods.retain(|pod| prepared.matches(pod.labels()));
        pods
    }

    /// The selector as people write it.
    pub(super) fn selector_text(&self) -> String {
        let labels =
            self.selector.match_labels.iter().flatten().map(|(name, value)| format!("{name}={value}"));
        let requirements = self.selector.match_expressions.iter().flatten().map(|requirement| {
            let (key, values) =
                (&requirement.key, requirement.values.as_deref().unwrap_or_default().join(","));
            match requirement.operator.as_str() {
                "In" => format!("{key} in ({values})"),
                "NotIn" => format!("{key} notin ({values})"),
                "DoesNotExist" => format!("!{key}"),
                _ => key.clone(),
            }
        });
        labels.chain(requirements).collect::<Vec<_>>().join(",")
    }

    /// Writes another size.
    pub(super) fn resize(&self, transaction: Transaction, replicas: i64) -> Transaction {
        let value = object::edited(self.object, |value| {
            object::object_at(value, &["spec"]).insert("replicas".into(), replicas.into());
            if self.counts_generations {
                object::bump_generation(value);
            }
        });
        match value {
            Some(value) => transaction.replace(self.object.key.clone(), self.object.revision, value),
            None => transaction,
        }
    }
}

/// The kind that is named, if it can be scaled.
fn kind(view: &View<'_>, reference: &CrossVersionObjectReference) -> Result<Arc<Kind>, String> {
    let api_version = reference.api_version.as_deref().unwrap_or_default();
    let parts: Vec<&str> = api_version.split('/').collect();
    let group = match *parts.as_slice() {
        [_] => "",
        [group, _] => group,
        _ => return Err(format!("unexpected GroupVersion string: {api_version}")),
    };
    let kind = view.registry.named(api_version, &reference.kind);
    let kind = kind.ok_or_else(|| format!("no matches for kind {:?} in group {group:?}", reference.kind))?;
    if kind.subresource("scale").is_none() {
        return Err("the server could not find the requested resource".to_owned());
    }
    Ok(Arc::clone(kind))
}

/// A selector of labels; that of a ReplicationController is a mere map of them.
fn selector_of(value: &Value) -> LabelSelector {
    let Some(selector) = at(value, "/spec/selector") else { return LabelSelector::default() };
    if let Ok(labels) = BTreeMap::<String, String>::deserialize(selector) {
        return LabelSelector { match_labels: Some(labels), match_expressions: None };
    }
    LabelSelector::deserialize(selector).unwrap_or_default()
}
