//! Defaults of pods, pod templates, containers, probes and volumes.

use serde_json::{Value, json};

use crate::{
    json::{default_number, default_to, ensure_map, entries, get, has, items, items_mut, text, truth},
    quantity,
};

/// The lists of a pod's spec that hold containers.
const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// What pods and pod templates have in common.
pub(crate) fn spec_of_pod_or_template(spec: &mut Value) {
    default_to(spec, "restartPolicy", "Always");
    default_to(spec, "dnsPolicy", "ClusterFirst");
    default_to(spec, "terminationGracePeriodSeconds", 30);
    default_to(spec, "schedulerName", "default-scheduler");
    default_to(spec, "securityContext", json!({}));
    mirror_service_account(spec);
    items_mut(spec, "volumes").for_each(volume);
    let host_network = truth(spec, "hostNetwork");
    for list in CONTAINER_LISTS {
        items_mut(spec, list).for_each(|item| container(item, host_network));
    }
    if let Some(overhead) = spec.get_mut("overhead") {
        numbers_to_quantities(overhead);
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`: each fills the other, the new one wins.
fn mirror_service_account(spec: &mut Value) {
    let name = text(spec, "serviceAccountName").to_owned();
    let old = text(spec, "serviceAccount").to_owned();
    if !name.is_empty() {
        spec["serviceAccount"] = name.into();
    } else if !old.is_empty() {
        spec["serviceAccountName"] = old.into();
    }
}

pub(crate) fn container(container: &mut Value, host_network: bool) {
    if !container.is_object() {
        return;
    }
    default_to(container, "terminationMessagePath", "/dev/termination-log");
    default_to(container, "terminationMessagePolicy", "File");
    default_to(container, "imagePullPolicy", pull_policy(text(container, "image")));
    items_mut(container, "ports").for_each(|port| {
        default_to(port, "protocol", "TCP");
        if host_network && has(port, "containerPort") {
            default_number(port, "hostPort", get(port, "containerPort").as_i64().unwrap_or(0));
        }
    });
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(found) = container.get_mut(field) {
            probe(found);
        }
    }
    if let Some(lifecycle) = container.get_mut("lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(http) = lifecycle.get_mut(hook).and_then(|handler| handler.get_mut("httpGet")) {
                http_get(http);
            }
        }
    }
    items_mut(container, "env").for_each(|variable| {
        if let Some(from) = variable.get_mut("valueFrom") {
            field_reference(from);
        }
    });
    if let Some(resources) = ensure_map(container, "resources") {
        for list in ["limits", "requests"] {
            if let Some(quantities) = resources.get_mut(list) {
                numbers_to_quantities(quantities);
            }
        }
    }
}

/// Always for a tag that moves, else what is there will do.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').unwrap_or((image, ""));
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        None if digest.is_empty() => "Always",
        _ => "IfNotPresent",
    }
}

fn probe(probe: &mut Value) {
    default_number(probe, "timeoutSeconds", 1);
    default_number(probe, "periodSeconds", 10);
    default_number(probe, "successThreshold", 1);
    default_number(probe, "failureThreshold", 3);
    if let Some(http) = probe.get_mut("httpGet") {
        http_get(http);
    }
    if let Some(grpc) = probe.get_mut("grpc") {
        default_to(grpc, "service", "");
    }
}

fn http_get(action: &mut Value) {
    default_to(action, "path", "/");
    default_to(action, "scheme", "HTTP");
}

/// The API version of a `fieldRef` in a source of a variable or of a file.
fn field_reference(source: &mut Value) {
    if let Some(reference) = source.get_mut("fieldRef") {
        default_to(reference, "apiVersion", "v1");
    }
    if let Some(Value::Number(number)) =
        source.get("resourceFieldRef").map(|reference| get(reference, "divisor"))
    {
        let text = number.to_string();
        source["resourceFieldRef"]["divisor"] = text.into();
    }
}

fn volume(volume: &mut Value) {
    let Some(map) = volume.as_object_mut() else { return };
    if map.keys().all(|key| key == "name") {
        map.insert("emptyDir".to_owned(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = map.get_mut(source) {
            default_to(source, "defaultMode", 420);
        }
    }
    if let Some(host_path) = map.get_mut("hostPath") {
        default_to(host_path, "type", "");
    }
    if let Some(Value::Number(number)) = map.get("emptyDir").map(|source| get(source, "sizeLimit")) {
        let text = number.to_string();
        map["emptyDir"]["sizeLimit"] = text.into();
    }
    if let Some(downward) = map.get_mut("downwardAPI") {
        items_mut(downward, "items").for_each(field_reference);
    }
    if let Some(projected) = map.get_mut("projected") {
        items_mut(projected, "sources").for_each(|source| {
            if let Some(token) = source.get_mut("serviceAccountToken") {
                default_to(token, "expirationSeconds", 3600);
            }
            if let Some(downward) = source.get_mut("downwardAPI") {
                items_mut(downward, "items").for_each(field_reference);
            }
        });
    }
}

/// Quantities may be given as numbers; they are kept as texts.
pub(crate) fn numbers_to_quantities(list: &mut Value) {
    for quantity in list.as_object_mut().into_iter().flat_map(|map| map.values_mut()) {
        if let Value::Number(number) = quantity {
            *quantity = Value::String(number.to_string());
        }
    }
}

/// The class that decides who is evicted first: Guaranteed, Burstable or BestEffort.
pub(crate) fn quality_of_service(spec: &Value) -> &'static str {
    let mut asks = false;
    let mut guaranteed = true;
    for container in items(spec, "initContainers").iter().chain(items(spec, "containers")) {
        for resource in ["cpu", "memory"] {
            let amount = |list: &str| {
                let found = entries(container, list).find(|(name, _)| *name == resource);
                found.and_then(|(_, text)| quantity::parse(text.as_str()?).ok()).filter(|milli| *milli > 0)
            };
            let (limit, request) = (amount("resources.limits"), amount("resources.requests"));
            asks |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && limit == request;
        }
    }
    match (asks, guaranteed) {
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
        (false, _) => "BestEffort",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{defaults::apply, kinds};

    #[test]
    fn pull_policies() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.14.2", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:abc", "IfNotPresent"),
            ("nginx:latest@sha256:abc", "Always"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn a_small_pod_is_filled_in() {
        let mut value = json!({
            "metadata": {"name": "a"},
            "spec": {
                "volumes": [{"name": "tmp"}, {"name": "c", "configMap": {"name": "x"}}],
                "containers": [{
                    "name": "a", "image": "nginx:1",
                    "ports": [{"containerPort": 80}],
                    "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                    "readinessProbe": {"httpGet": {"port": 80}, "timeoutSeconds": 0},
                    "resources": {"limits": {"cpu": 1, "memory": "64Mi"}}
                }]
            }
        });
        apply(kinds::of("pods").expect("pods are served"), &mut value);
        let spec = &value["spec"];
        assert_eq!(spec["volumes"][0]["emptyDir"], json!({}));
        assert_eq!(spec["volumes"][1]["configMap"]["defaultMode"], 420);
        assert_eq!(spec["terminationGracePeriodSeconds"], 30);
        assert_eq!(spec["serviceAccountName"], "default");
        let container = &spec["containers"][0];
        assert_eq!(container["ports"][0]["protocol"], "TCP");
        assert_eq!(container["imagePullPolicy"], "IfNotPresent");
        assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
        assert_eq!(
            container["readinessProbe"],
            json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3})
        );
        assert_eq!(container["resources"]["requests"], json!({"cpu": "1", "memory": "64Mi"}));
        assert_eq!(value["status"], json!({"phase": "Pending", "qosClass": "Guaranteed"}));
    }

    #[test]
    fn classes_of_service() {
        let class = |resources: Value| quality_of_service(&json!({"containers": [{"resources": resources}]}));
        assert_eq!(class(json!({})), "BestEffort");
        assert_eq!(class(json!({"requests": {"cpu": "0"}})), "BestEffort");
        assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
        let both = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}});
        assert_eq!(class(both), "Guaranteed");
    }
}
