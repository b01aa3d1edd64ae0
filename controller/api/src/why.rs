//! `/warren/v1/namespaces/NAMESPACE/pods/POD/why`: why a pod is where it is, or nowhere, as the scheduler sees it now. Who
//! may get the pod may ask.

use axum::response::Response;
use serde_json::{Map, Value, json};
use warren_plan::{Explanation, NodeVerdict, Preemption, Refusal, Score, Verdict};
use warren_store::Key;

use crate::{
    respond,
    server::Call,
    state::{ApiState, key_of},
    status::Status,
};

/// Answers a request that names a pod's explanation.
pub(crate) async fn answer(api: &ApiState, call: &Call, verb: &str) -> Result<Response, Status> {
    if verb != "get" {
        return Err(Status::method_not_allowed());
    }
    let pod = key_of(&call.target);
    let missing = || Status::not_found(&call.target.kind, &call.target.name);
    let revision = api.snapshot().get(&pod).ok_or_else(missing)?.revision;
    let explained = api.places.explain(&pod, revision).await.map_err(Status::unavailable)?;
    let explanation = explained.ok_or_else(missing)?;
    Ok(respond::document(&document(&pod, &explanation, call.user.is_master()), "application/json"))
}

/// The explanation as clients read it. What is not there is left out. Pods of other namespaces are counted, unless all may
/// be seen.
fn document(pod: &Key, explanation: &Explanation, sees_all: bool) -> Value {
    let Explanation { node, nominated, waits, message, nodes, preemption } = explanation;
    let waits: Vec<Value> =
        waits.iter().map(|wait| json!({"reason": wait.reason, "message": wait.message})).collect();
    let mut document = Map::new();
    document.insert("namespace".into(), (*pod.namespace).into());
    document.insert("name".into(), (*pod.name).into());
    for (field, text) in [("node", node), ("nominatedNode", nominated), ("message", message)] {
        document.extend(text.as_ref().map(|text| (field.to_owned(), text.as_str().into())));
    }
    document.insert("waits".into(), waits.into());
    document.insert("nodes".into(), nodes.iter().map(verdict).collect());
    let preemption = preemption.as_ref().map(|preemption| preempted(pod, preemption, sees_all));
    document.extend(preemption.map(|preemption| ("preemption".to_owned(), preemption)));
    Value::Object(document)
}

fn verdict(NodeVerdict { node, verdict }: &NodeVerdict) -> Value {
    match verdict {
        Verdict::Fits(score) => json!({"name": node, "fits": true, "score": scored(score)}),
        Verdict::Refuses(refusals) => {
            json!({"name": node, "fits": false, "refusals": refusals.iter().map(refused).collect::<Vec<_>>()})
        }
    }
}

/// In millionths of load; less is better.
fn scored(score: &Score) -> Value {
    let Score { cost, load, size, siblings, taints, preferences, spread, company, images } = score;
    json!({
        "cost": cost, "load": {"resource": load.0, "millionths": load.1}, "size": size,
        "siblings": siblings, "taints": taints,
        "preferences": preferences, "spread": spread, "company": company, "images": images,
    })
}

fn refused(Refusal { filter, reason, lack }: &Refusal) -> Value {
    let mut refused = json!({"filter": filter, "reason": reason});
    if let Some(lack) = lack {
        refused["resource"] = lack.resource.as_str().into();
        refused["requested"] = lack.requested.as_str().into();
        refused["taken"] = lack.taken.as_str().into();
        refused["allocatable"] = lack.allocatable.as_str().into();
    }
    refused
}

fn preempted(pod: &Key, preemption: &Preemption, sees_all: bool) -> Value {
    match preemption {
        Preemption::Impossible(why) => json!({"possible": false, "message": why}),
        Preemption::Possible { node, victims } => {
            let (named, others): (Vec<&Key>, Vec<&Key>) =
                victims.iter().partition(|victim| sees_all || victim.namespace == pod.namespace);
            let name = |victim: &Key| json!({"namespace": &*victim.namespace, "name": &*victim.name});
            let victims: Vec<Value> = named.into_iter().map(name).collect();
            json!({"possible": true, "node": node, "victims": victims, "otherVictims": others.len()})
        }
    }
}

#[cfg(test)]
mod tests {
    use warren_plan::{Lack, Wait};

    use super::*;

    fn pod(namespace: &str, name: &str) -> Key {
        Key::new("pods", namespace, name)
    }

    #[test]
    fn everything_that_is_known_is_said() {
        let score = Score {
            cost: 265_000,
            load: ("cpu", 250_000),
            size: 0,
            siblings: 25_000,
            taints: 0,
            preferences: -10_000,
            spread: 0,
            company: 0,
            images: 0,
        };
        let lack = Lack {
            resource: "cpu".into(),
            requested: "2".into(),
            taken: "1500m".into(),
            allocatable: "2".into(),
        };
        let refusal =
            Refusal { filter: "NodeResourcesFit", reason: "Insufficient cpu".into(), lack: Some(lack) };
        let unready = Refusal { filter: "NodeReady", reason: "node(s) were not ready".into(), lack: None };
        let of = |node: &str, verdict| NodeVerdict { node: node.into(), verdict };
        let explanation = Explanation {
            node: None,
            nominated: Some("node-2".into()),
            waits: vec![Wait { reason: "Claims", message: "no claim".into() }],
            message: Some("0/2 nodes are available".into()),
            nodes: vec![
                of("node-1", Verdict::Fits(score)),
                of("node-2", Verdict::Refuses(vec![refusal, unready])),
            ],
            preemption: Some(Preemption::Possible {
                node: "node-2".into(),
                victims: vec![pod("shop", "low"), pod("bank", "secret")],
            }),
        };
        assert_eq!(
            document(&pod("shop", "web"), &explanation, false),
            json!({
                "namespace": "shop", "name": "web", "nominatedNode": "node-2", "message": "0/2 nodes are available",
                "waits": [{"reason": "Claims", "message": "no claim"}],
                "nodes": [
                    {"name": "node-1", "fits": true, "score": {
                        "cost": 265_000, "load": {"resource": "cpu", "millionths": 250_000}, "size": 0, "siblings": 25_000,
                        "taints": 0, "preferences": -10_000, "spread": 0, "company": 0, "images": 0}},
                    {"name": "node-2", "fits": false, "refusals": [
                        {"filter": "NodeResourcesFit", "reason": "Insufficient cpu", "resource": "cpu",
                         "requested": "2", "taken": "1500m", "allocatable": "2"},
                        {"filter": "NodeReady", "reason": "node(s) were not ready"}]},
                ],
                "preemption": {"possible": true, "node": "node-2", "otherVictims": 1,
                    "victims": [{"namespace": "shop", "name": "low"}]},
            })
        );
        let all = document(&pod("shop", "web"), &explanation, true);
        assert_eq!(all["preemption"]["victims"].as_array().map(Vec::len), Some(2));
    }
}
