//! What is special about services: what the server allocated for one stays, and goes with it.

use serde_json::{Value, json};
use warren_objects::FieldError;
use warren_state::{Snapshot, Transaction};
use warren_vocabulary::ClusterConfig;

use crate::{
    Refusal, Review,
    addresses::{self, InFlight},
};

/// Whether a service has, or is to get, an address.
pub(crate) fn wants_address(service: &Value) -> bool {
    service["spec"]["type"] != "ExternalName" && service["spec"]["clusterIP"] != "None"
}

/// Gives a service that wants one an address, and lets go of the one that it leaves.
pub(crate) fn allocate(
    (in_flight, config): (&InFlight, &ClusterConfig),
    snapshot: &Snapshot,
    review: &mut Review<'_>,
) -> Result<(), Refusal> {
    let Some(new) = &mut review.new else { return Ok(()) };
    let held = review.old.and_then(|old| addresses::held(&old.value));
    let is_other = addresses::held(new) != held;
    if held.is_some() && is_other {
        review.also.writes.extend(review.old.and_then(|old| addresses::release(&old.value)));
    }
    if review.old.is_none() || (wants_address(new) && (held.is_none() || is_other)) {
        let refuse = |error: FieldError| Refusal::invalid(review.kind, &review.key.name, &[error]);
        review.claim = addresses::claim(in_flight, config, snapshot, new).map_err(refuse)?;
    }
    if let Some(claim) = &review.claim {
        review.also = claim.reserve(std::mem::take(&mut review.also), new);
    }
    Ok(())
}

/// What goes with a service.
pub(crate) fn release(service: &Value, mut transaction: Transaction) -> Transaction {
    transaction.writes.extend(addresses::release(service));
    transaction
}

/// Fields of a service that the server allocated stay when an update leaves them out.
pub(crate) fn keep_allocated(old: &Value, new: &mut Value) {
    let external = |service: &Value| service["spec"]["type"] == "ExternalName";
    let Some(spec) = new["spec"].as_object_mut() else { return };
    if spec.get("type").is_some_and(|kind| kind == "ExternalName") {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if !external(old) && spec.get(field) == old["spec"].get(field) {
                spec.remove(field);
            }
        }
        return;
    }
    for field in ["clusterIP", "clusterIPs"] {
        if spec.get(field).is_some_and(|value| value == "" || value == &json!([])) {
            spec.remove(field);
        }
    }
    match (spec.get("clusterIP").cloned(), spec.get("clusterIPs").cloned()) {
        (Some(address), None) => drop(spec.insert("clusterIPs".into(), json!([address]))),
        (None, Some(addresses)) => drop(spec.insert("clusterIP".into(), addresses[0].clone())),
        _ => {}
    }
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"] {
        if let Some(value) = old["spec"].get(field).filter(|_| !external(old)) {
            spec.entry(field).or_insert_with(|| value.clone());
        }
    }
    keep_node_ports(old, new);
}

fn keep_node_ports(old: &Value, new: &mut Value) {
    if !matches!(new["spec"]["type"].as_str(), Some("NodePort" | "LoadBalancer")) {
        return;
    }
    let protocol = |port: &Value| port["protocol"].as_str().unwrap_or("TCP").to_owned();
    for port in new["spec"]["ports"].as_array_mut().into_iter().flatten() {
        let before = old["spec"]["ports"].as_array().into_iter().flatten();
        let same = before.into_iter().find(|o| o["port"] == port["port"] && protocol(o) == protocol(port));
        if let (Some(node_port), None | Some(Value::Null)) =
            (same.and_then(|o| o.get("nodePort")), port.get("nodePort"))
        {
            port["nodePort"] = node_port.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_keep_their_addresses() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.43.0.7", "clusterIPs": ["10.43.0.7"],
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]}});
        let mut new = json!({"spec": {"type": "NodePort", "ports": [{"port": 80}, {"port": 81}]}});
        keep_allocated(&old, &mut new);
        assert_eq!(new["spec"]["clusterIP"], "10.43.0.7");
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.43.0.7"]));
        assert_eq!(new["spec"]["ports"][0]["nodePort"], 30001);
        assert!(new["spec"]["ports"][1].get("nodePort").is_none());
        let mut external =
            json!({"spec": {"type": "ExternalName", "externalName": "x", "clusterIP": "10.43.0.7"}});
        keep_allocated(&old, &mut external);
        assert!(external["spec"].get("clusterIP").is_none());
    }
}
