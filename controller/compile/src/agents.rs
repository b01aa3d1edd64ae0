//! What agents are told: which pods a change concerns, and what becomes of those.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use k8s_openapi::api::core::v1 as core;
use serde_json::Value;
use warren_state::{Difference, Key, Object};
use warren_vocabulary::guard;

use crate::{
    Pass,
    environment::{self, Created},
    item::Item,
    pods,
    references::ReadSet,
};

pub(super) const STAGE: &str = "compiling pods";

/// A pod that has a node, and what it was made from.
struct Pod {
    node: Arc<str>,
    /// Where its item is in the node's view.
    item: Option<Arc<str>>,
    /// ConfigMaps, Secrets and Nodes that it refers to.
    references: BTreeSet<Key>,
    /// Of those that have variables for services: since when it has them.
    linked: Option<Created>,
}

/// All pods that have a node, and who refers to what.
#[derive(Default)]
pub(super) struct Agents {
    pods: BTreeMap<Key, Pod>,
    by_node: BTreeMap<Arc<str>, BTreeSet<Key>>,
    referring: BTreeMap<Key, BTreeSet<Key>>,
    /// Pods with variables for the services of their namespace, by age: a service concerns those that came after it.
    linked: BTreeMap<(Arc<str>, Created), BTreeSet<Key>>,
    touched: BTreeSet<Key>,
}

impl Agents {
    pub(super) fn touch(&mut self, pod: &Key) {
        self.touched.insert(pod.clone());
    }

    /// Something changed that pods may refer to.
    pub(super) fn touch_referring(&mut self, key: &Key) {
        self.touched.extend(self.referring.get(key).into_iter().flatten().cloned());
    }

    /// A node became a member, or is none any more.
    pub(super) fn touch_node(&mut self, node: &str) {
        self.touched.extend(self.by_node.get(node).into_iter().flatten().cloned());
    }

    /// A service changed: pods that have variables for it, if those are others now.
    pub(super) fn touch_linked(&mut self, difference: &Difference) {
        let typed = |object: &Option<Arc<Object>>| object.as_ref()?.typed::<core::Service>().ok();
        let (previous, current) = (typed(&difference.previous), typed(&difference.current));
        let [before, after] = [&previous, &current].map(|service| environment::linked(service.as_deref()?));
        if before == after {
            return;
        }
        let Some(since) = [before, after].into_iter().flatten().map(|linked| linked.since).min() else {
            return;
        };
        let key = difference.key();
        if *key == environment::kubernetes_service() {
            return self.touched.extend(self.pods.keys().cloned());
        }
        let namespace = &key.namespace;
        let younger = (Bound::Included((Arc::clone(namespace), since)), Bound::Unbounded);
        let younger = self.linked.range(younger).take_while(|((of, _), _)| of == namespace);
        self.touched.extend(younger.flat_map(|(_, pods)| pods).cloned());
    }

    /// Compiles what was touched.
    pub(super) fn advance(&mut self, pass: &mut Pass<'_>) {
        for key in std::mem::take(&mut self.touched) {
            let former = self.forget(&key);
            let Made { pod: next, item, failure } = compile(&key, pass);
            pass.judge(STAGE, &key, failure);
            let place = |pod: &Option<Pod>| {
                pod.as_ref().and_then(|pod| Some((Arc::clone(&pod.node), pod.item.clone()?)))
            };
            let (old, new) = (place(&former), place(&next));
            if old != new
                && let Some((node, item)) = &old
            {
                pass.remove_pod(node, item);
            }
            if let (Some((node, key)), Some(item)) = (new, item) {
                pass.insert_pod(&node, key, item);
            }
            if let Some(pod) = next {
                self.remember(key, pod);
            }
        }
    }

    fn remember(&mut self, key: Key, pod: Pod) {
        self.by_node.entry(Arc::clone(&pod.node)).or_default().insert(key.clone());
        for reference in &pod.references {
            self.referring.entry(reference.clone()).or_default().insert(key.clone());
        }
        if let Some(created) = pod.linked {
            let place = (Arc::clone(&key.namespace), created);
            self.linked.entry(place).or_default().insert(key.clone());
        }
        self.pods.insert(key, pod);
    }

    fn forget(&mut self, key: &Key) -> Option<Pod> {
        let pod = self.pods.remove(key)?;
        take_out(self.by_node.get_mut(&pod.node), key).then(|| self.by_node.remove(&pod.node));
        for reference in &pod.references {
            take_out(self.referring.get_mut(reference), key).then(|| self.referring.remove(reference));
        }
        if let Some(created) = pod.linked {
            let place = (Arc::clone(&key.namespace), created);
            take_out(self.linked.get_mut(&place), key).then(|| self.linked.remove(&place));
        }
        Some(pod)
    }
}

/// What a pod comes to.
#[derive(Default)]
struct Made {
    pod: Option<Pod>,
    item: Option<Item>,
    failure: Option<String>,
}

/// The text at a path, or nothing.
fn text_at<'o>(object: &'o Object, path: &str) -> &'o str {
    warren_state::at(&object.value, path).and_then(Value::as_str).unwrap_or_default()
}

fn compile(key: &Key, pass: &Pass<'_>) -> Made {
    let Some(object) = pass.snapshot.get(key) else { return Made::default() };
    let node: Arc<str> = text_at(object, "/spec/nodeName").into();
    if node.is_empty() {
        return Made::default();
    }
    if !pass.views.agents.contains_key(&node) {
        // No agent to tell, until the node is a member.
        let pod = Pod { node, item: None, references: BTreeSet::new(), linked: None };
        return Made { pod: Some(pod), ..Made::default() };
    }
    let reads = ReadSet::default();
    let compiled = guard::catch(|| {
        pass.progress.at(STAGE, key);
        let item = pods::compile(object, pass.snapshot, &reads, pass.config)?;
        Ok(item.map(|item| (Arc::from(item.key.as_str()), Item::new(&item))))
    });
    let (made, failure) = match compiled.and_then(|compiled| compiled) {
        Ok(made) => (made, None),
        Err(message) => (last_known(object, &node, pass).or_else(|| failed(object, &message)), Some(message)),
    };
    let typed = object.typed::<core::Pod>().ok().filter(|pod| environment::has_links(pod));
    let linked = typed.map(|pod| environment::created(&pod.metadata));
    let (name, item) = made.unzip();
    Made { pod: Some(Pod { node, item: name, references: reads.into_keys(), linked }), item, failure }
}

/// Takes a key out of a set; whether nothing is left in it.
pub(super) fn take_out(set: Option<&mut BTreeSet<Key>>, key: &Key) -> bool {
    set.is_some_and(|set| {
        set.remove(key);
        set.is_empty()
    })
}

/// What the agent was told of this pod before, unless it is to end now: a pod that runs goes on.
fn last_known(object: &Object, node: &Arc<str>, pass: &Pass<'_>) -> Option<(Arc<str>, Item)> {
    let own = format!("pod/{}", text_at(object, "/metadata/uid"));
    let ends = !text_at(object, "/metadata/deletionTimestamp").is_empty();
    let (key, item) = pass.last.agents.get(node)?.get_key_value(own.as_str())?;
    (!ends).then(|| (Arc::clone(key), item.clone()))
}

fn failed(object: &Object, message: &str) -> Option<(Arc<str>, Item)> {
    let item = pods::failed(object, message)?;
    Some((item.key.as_str().into(), Item::new(&item)))
}
