//! `pods/binding`: a scheduler of the user's assigns a pod to a node. The planner then gives it an address.

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use warren_store::Key;
use warren_vocabulary::resources::NODES;
use warren_write::{Intent, Operation, Scope};

use crate::{
    body::{self, WriteOptions},
    meta,
    negotiate::Expected,
    respond::{Content, Reply},
    server::Call,
    state::{ApiState, key_of},
    status::{self, Status},
};

const BINDING: Expected<'static> = Expected { group: "", version: "v1", kind: "Binding" };

pub(super) async fn create(api: &ApiState, call: &Call) -> Result<Reply, Status> {
    let binding = body::of_kind(&call.headers, &call.body, BINDING)?;
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let target = &binding["target"];
    let kind = target["kind"].as_str().unwrap_or("Node");
    let node = target["name"].as_str().unwrap_or("");
    if kind != "Node" || node.is_empty() {
        return Err(Status::bad_request("Binding.target: must be of kind Node and have a name"));
    }
    if api.snapshot().get(&Key::new(NODES, "", node)).is_none() {
        return Err(Status::bad_request(format!("Binding.target.name: node \"{node}\" does not exist")));
    }
    bind(api, call, node, options.dry_run).await?;
    Ok(Reply { code: StatusCode::CREATED, ..Reply::ok(Content::Status(status::created())) })
}

/// Writes `spec.nodeName` and a condition, which no ordinary write may set together.
async fn bind(api: &ApiState, call: &Call, node: &str, dry_run: bool) -> Result<(), Status> {
    let (kind, name) = (&call.target.kind, call.target.name.as_str());
    for _ in 0..crate::state::ATTEMPTS {
        let snapshot = api.snapshot();
        let old = snapshot.get(&key_of(&call.target)).ok_or_else(|| Status::not_found(kind, name))?;
        if let Some(bound) = old.value["spec"]["nodeName"].as_str().filter(|bound| !bound.is_empty()) {
            let why = format!("pod {name} is already assigned to node \"{bound}\"");
            return Err(Status::conflict_because(kind, name, &why));
        }
        if meta::is_terminating(&old.value) {
            let why = format!("pod {name} is being deleted, cannot be assigned to a host");
            return Err(Status::conflict_because(kind, name, &why));
        }
        let new = bound(&old.value, node, Timestamp::now());
        let operation = Operation::Update { old, object: new, scope: Scope::Binding };
        let intent = Intent { author: call.author(), kind, key: &old.key, operation };
        let admitted = api.gate.admit(&snapshot, intent)?;
        if dry_run || api.commit(admitted.transaction).await?.is_some() {
            return Ok(());
        }
    }
    Err(Status::conflict(kind, name))
}

fn bound(pod: &Value, node: &str, now: Timestamp) -> Value {
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = json!(node);
    let condition =
        json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": meta::timestamp(now)});
    let mut conditions: Vec<Value> = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.retain(|condition| condition["type"] != "PodScheduled");
    conditions.push(condition);
    pod["status"]["conditions"] = json!(conditions);
    pod
}
