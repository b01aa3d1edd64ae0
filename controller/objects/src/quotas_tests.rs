//! What counts for how much, and where.

use serde_json::json;

use super::*;

fn shown_all(amounts: &Amounts) -> String {
    amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(" ")
}

fn pod() -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {
        "requests": {"cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", "example.com/dongle": "2"},
        "limits": {"cpu": "1", "example.com/dongle": "2"}}}]}, "status": {"phase": "Pending"}})
}

#[test]
fn a_pod_counts_until_it_has_ended() {
    assert_eq!(
        shown_all(&usage("pods", &pod())),
        "count/pods=1 cpu=500m ephemeral-storage=30Gi limits.cpu=1 memory=252Mi pods=1 requests.cpu=500m \
         requests.ephemeral-storage=30Gi requests.example.com/dongle=2 requests.memory=252Mi"
    );
    let mut ended = pod();
    ended["status"]["phase"] = "Succeeded".into();
    assert_eq!(shown_all(&usage("pods", &ended)), "count/pods=1");
}

#[test]
fn services_and_claims_count_for_what_they_want() {
    let service = |spec: Value| shown_all(&usage("services", &json!({"spec": spec})));
    let ports = || json!([{"port": 80}, {"port": 81, "nodePort": 30_001}]);
    assert!(
        service(json!({"type": "ClusterIP", "ports": ports()}))
            .ends_with("loadbalancers=0 services.nodeports=0")
    );
    assert!(
        service(json!({"type": "NodePort", "ports": ports()}))
            .ends_with("loadbalancers=0 services.nodeports=2")
    );
    let balanced = json!({"type": "LoadBalancer", "ports": ports(), "allocateLoadBalancerNodePorts": false});
    assert_eq!(
        service(balanced),
        "count/services=1 services=1 services.loadbalancers=1 services.nodeports=1"
    );
    let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}});
    assert_eq!(
        shown_all(&usage(CLAIMS, &claim)),
        "count/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/persistentvolumeclaims=1 \
         gold.storageclass.storage.k8s.io/requests.storage=1Gi persistentvolumeclaims=1 requests.storage=1Gi"
    );
    assert_eq!(shown_all(&usage("secrets", &json!({}))), "count/secrets=1 secrets=1");
    assert_eq!(shown_all(&usage("replicasets.apps", &json!({}))), "count/replicasets.apps=1");
    for uncounted in ["events", "members.warren.internal"] {
        assert!(usage(uncounted, &json!({})).is_empty());
    }
}

#[test]
fn scopes_select() {
    let scoped = |scope: &str| json!({"spec": {"scopes": [scope]}});
    let mut deadline = pod();
    deadline["spec"]["activeDeadlineSeconds"] = 0.into();
    let empty = json!({"spec": {"containers": [{"name": "c"}]}});
    for (scope, pod_counts, deadline_counts, empty_counts) in [
        ("Terminating", false, true, false),
        ("NotTerminating", true, false, true),
        ("BestEffort", false, false, true),
        ("NotBestEffort", true, true, false),
        ("PriorityClass", false, false, false),
        ("Nonsense", false, false, false),
    ] {
        for (object, counts) in [(&pod(), pod_counts), (&deadline, deadline_counts), (&empty, empty_counts)] {
            assert_eq!(selects(&scoped(scope), &traits("pods", object)), counts, "{scope} {object}");
        }
        assert!(!selects(&scoped(scope), &Traits::Other), "{scope}");
    }
    assert!(selects(&json!({"spec": {}}), &Traits::Other));
}

#[test]
fn priority_classes_are_selected_by_name() {
    let with = |operator: &str, values: Value| {
        json!({"spec": {"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": operator, "values": values}]}}})
    };
    let of = |class: &str| traits("pods", &json!({"spec": {"priorityClassName": class}}));
    for (operator, values, high, low, none) in [
        ("In", json!(["high"]), true, false, false),
        ("NotIn", json!(["high"]), false, true, true),
        ("Exists", json!([]), true, true, false),
        ("DoesNotExist", json!([]), false, false, true),
    ] {
        let quota = with(operator, values);
        let found = ["high", "low", ""].map(|class| selects(&quota, &of(class)));
        assert_eq!(found, [high, low, none], "{operator}");
    }
}

#[test]
fn what_is_charged_is_noted_and_what_is_too_much_is_named() {
    let quota = json!({"status": {"hard": {"pods": "2", "memory": "500Mi", "cpu": "1"},
        "used": {"pods": "1", "memory": "252Mi", "cpu": "500m"}}});
    let more = |pairs: &[(&str, &str)]| -> Amounts {
        pairs
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Amount::read(text).unwrap_or_default()))
            .collect()
    };
    assert_eq!(charged(&quota, &more(&[("secrets", "1"), ("pods", "0")])), Ok(None));
    let charged_quota = charged(&quota, &more(&[("pods", "1"), ("memory", "1024Ki")]));
    let used = charged_quota.map(|quota| quota.map(|quota| quota["status"]["used"].clone()));
    assert_eq!(used, Ok(Some(json!({"pods": "2", "memory": "253Mi", "cpu": "500m"}))));
    let Err(Excess::Exceeded { requested, used, hard }) =
        charged(&quota, &more(&[("pods", "1"), ("cpu", "600m")]))
    else {
        panic!("it is too much")
    };
    assert_eq!([requested, used, hard].map(|all| shown_all(&all)), ["cpu=600m", "cpu=500m", "cpu=1"]);
    let uncounted = json!({"status": {"hard": {"pods": "2"}}});
    assert_eq!(charged(&uncounted, &more(&[("pods", "1")])), Err(Excess::Unknown(vec!["pods".to_owned()])));
}

#[test]
fn a_status_says_what_is_limited_and_nothing_else() {
    let quota = json!({"spec": {"hard": {"pods": "5", "memory": "1Gi"}}, "status": {"hard": {"cpu": "1"}}});
    let mut counted = quota.clone();
    count(&quota, &[("pods".to_owned(), 2_000), ("secrets".to_owned(), 1_000)].into(), &mut counted);
    assert_eq!(
        counted["status"],
        json!({"hard": {"pods": "5", "memory": "1Gi"}, "used": {"pods": "2", "memory": "0"}})
    );
}

#[test]
fn containers_must_say_what_is_limited() {
    let hard = || ["cpu", "limits.memory", "pods", "ephemeral-storage"].into();
    assert_eq!(missing(&hard(), &pod()).as_deref(), Some("limits.memory for: c"));
    let two = json!({"spec": {"containers": [{"name": "b"}, {"name": "a"}]}});
    assert_eq!(missing(&hard(), &two).as_deref(), Some("cpu for: a,b; limits.memory for: a,b"));
    assert_eq!(missing(&["pods"].into(), &two), None);
}
