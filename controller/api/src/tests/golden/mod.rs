//! The wire, rule by rule: an HTTP request and exactly what comes back. Files follow the sections of the rules;
//! each test is named after its rule.

mod cost;
mod deletion;
mod dry_run;
mod endpoints;
mod errors;
mod input;
mod metadata;
mod patches;
mod revisions;
mod selectors;
mod status;
mod tables;
mod watching;

use warren_plan::World;
use warren_store::Store;
use warren_write::{Author, Gate};

use super::{events::Events, *};

const JSON: &str = "application/json";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const PARTIAL: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const PARTIAL_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
const MERGE: &str = "merge-patch+json";
const STRATEGIC: &str = "strategic-merge-patch+json";
const JSON_PATCH: &str = "json-patch+json";

/// `METHOD /path` with a body or none, as clients of JSON send it.
async fn ask(server: &Server, line: &str, body: impl Into<Option<Value>>) -> Answer {
    let (method, path) = line.split_once(' ').unwrap();
    let body = body.into().map(|body| body.to_string()).unwrap_or_default();
    let headers: &[(&str, &str)] = if body.is_empty() { &[] } else { &[("content-type", JSON)] };
    server.send(Server::request(method.parse().unwrap(), path, headers, body)).await
}

/// A body, with a mark in place of what is new each time, once that has its form.
fn masked(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), mask(key, value))).collect(),
        Value::Array(items) => items.iter().map(masked).collect(),
        other => other.clone(),
    }
}

fn mask(key: &str, value: &Value) -> Value {
    match (key, value.as_str()) {
        ("uid", Some(uid)) if is_uuid(uid) => json!("<uid>"),
        ("resourceVersion", Some(text)) if text.parse::<u64>().is_ok_and(|n| n > 0) => json!("<rv>"),
        ("creationTimestamp" | "deletionTimestamp", Some(time)) if is_time(time) => json!("<time>"),
        ("continue", Some(_)) => json!("<token>"),
        _ => masked(value),
    }
}

fn is_uuid(text: &str) -> bool {
    uuid::Uuid::parse_str(text).is_ok_and(|uuid| uuid.get_version_num() == 4) && text.len() == 36
}

/// RFC 3339 in whole seconds, `Z`.
fn is_time(text: &str) -> bool {
    text.len() == 20 && text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok()
}

/// Code and body at once.
#[track_caller]
fn is(answer: &Answer, code: u16, body: &Value) {
    assert_eq!((answer.code.as_u16(), &masked(&answer.json())), (code, body));
    assert_eq!(answer.headers["content-type"], JSON);
    assert_eq!(answer.headers["cache-control"], "no-cache, private");
}

/// A failure; its code is that of the HTTP response. Without any detail there is no field for them.
#[track_caller]
fn fails(answer: &Answer, code: u16, reason: &str, message: &str, details: &Value) {
    let mut body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code,
    });
    if *details != json!({}) {
        body["details"] = details.clone();
    }
    is(answer, code, &body);
}

/// A config map as the server stores it.
fn stored_map(name: &str, data: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": data,
        "metadata": {
            "name": name, "namespace": "default", "uid": "<uid>", "resourceVersion": "<rv>",
            "creationTimestamp": "<time>",
        },
    })
}

fn map_path(name: &str) -> String {
    format!("{CONFIG_MAPS}/{name}")
}

fn number(object: &Value) -> u64 {
    version(object).parse().unwrap()
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().filter_map(|item| item["metadata"]["name"].as_str()).collect()
}

impl Server {
    fn revision(&self) -> u64 {
        self.store.snapshot().revision
    }

    /// Lets the planners do all that they have to do now.
    async fn settle(&self) {
        let gate = Gate::new(&ClusterConfig::default());
        for _ in 0..50 {
            let world = World {
                snapshot: self.store.snapshot(),
                config: ClusterConfig::default(),
                nodes: Default::default(),
                acknowledged: u64::MAX,
                released: Default::default(),
                released_since: 0,
                ..World::default()
            };
            let plan = warren_plan::plan(&world, jiff::Timestamp::now());
            assert!(plan.failures.is_empty(), "{:?}", plan.failures);
            let steps = plan.steps;
            if steps.is_empty() {
                return;
            }
            for step in steps {
                // A step that lost its place to another one comes again.
                let author = Author::controller(step.planner);
                let passed = gate.admit_all(&world.snapshot, author, step.transaction).unwrap();
                let _ = self.store.commit(passed.transaction).await;
            }
        }
        panic!("the planners do not come to rest");
    }

    /// The status, past what a client may write.
    async fn report(&self, resource: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let key = warren_store::Key::new(resource, "default", name);
        let object = Arc::clone(self.store.snapshot().get(&key).unwrap());
        let mut value = object.value.clone();
        change(&mut value);
        let transaction = warren_store::Transaction::new().replace(key, object.revision, value);
        self.store.commit(transaction).await.unwrap();
    }
}
