//! Defaults of Services, Ingresses and EndpointSlices. Cluster addresses and node ports are allocated elsewhere.

use serde_json::{Value, json};

use crate::json::{default_to, ensure_map, get, has, items, items_mut, text};

/// A Service.
pub(crate) fn service(value: &mut Value) {
    if let Some(spec) = ensure_map(value, "spec") {
        default_to(spec, "type", "ClusterIP");
        let kind = text(spec, "type").to_owned();
        affinity(spec);
        items_mut(spec, "ports").for_each(port);
        if kind != "ExternalName" {
            default_to(spec, "internalTrafficPolicy", "Cluster");
            default_to(spec, "ipFamilyPolicy", "SingleStack");
            default_to(spec, "ipFamilies", json!(["IPv4"]));
            let address = text(spec, "clusterIP").to_owned();
            if !address.is_empty() {
                default_to(spec, "clusterIPs", json!([address]));
            }
        }
        if kind == "NodePort" || kind == "LoadBalancer" {
            default_to(spec, "externalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            default_to(spec, "allocateLoadBalancerNodePorts", true);
        }
    }
    if let Some(status) = ensure_map(value, "status") {
        default_to(status, "loadBalancer", json!({}));
    }
}

/// The affinity's time-out belongs to ClientIP alone.
fn affinity(spec: &mut Value) {
    default_to(spec, "sessionAffinity", "None");
    if text(spec, "sessionAffinity") == "ClientIP" {
        if let Some(config) = ensure_map(spec, "sessionAffinityConfig")
            && let Some(client) = ensure_map(config, "clientIP")
        {
            default_to(client, "timeoutSeconds", 10_800);
        }
    } else if text(spec, "sessionAffinity") == "None"
        && let Some(map) = spec.as_object_mut()
    {
        map.remove("sessionAffinityConfig");
    }
}

fn port(port: &mut Value) {
    default_to(port, "protocol", "TCP");
    let target = get(port, "targetPort");
    let unset = target.is_null() || target.as_i64() == Some(0) || target.as_str() == Some("");
    if unset && has(port, "port") {
        port["targetPort"] = get(port, "port").clone();
    }
}

/// A Service that stops being external loses the node ports and policies it got as one.
pub(crate) fn drop_what_the_type_does_not_allow(old: &Value, new: &mut Value) {
    let (before, after) = (text(old, "spec.type").to_owned(), text(new, "spec.type").to_owned());
    let external = |kind: &str| kind == "NodePort" || kind == "LoadBalancer";
    let Some(spec) = new.get_mut("spec").filter(|spec| spec.is_object()) else { return };
    let old = get(old, "spec");
    if before == "LoadBalancer" && after != "LoadBalancer" {
        drop_if_same(
            old,
            spec,
            &["allocateLoadBalancerNodePorts", "loadBalancerClass", "healthCheckNodePort"],
        );
    }
    if external(&before) && !external(&after) {
        drop_if_same(old, spec, &["externalTrafficPolicy", "healthCheckNodePort"]);
        let known: Vec<&Value> = items(old, "ports").iter().map(|port| get(port, "nodePort")).collect();
        items_mut(spec, "ports").for_each(|port| {
            if known.contains(&get(port, "nodePort"))
                && let Some(map) = port.as_object_mut()
            {
                map.remove("nodePort");
            }
        });
    }
}

fn drop_if_same(old: &Value, new: &mut Value, fields: &[&str]) {
    if let Some(map) = new.as_object_mut() {
        map.retain(|field, value| !(fields.contains(&field.as_str()) && get(old, field) == value));
    }
}

/// An Ingress.
pub(crate) fn ingress(value: &mut Value) {
    if let Some(status) = ensure_map(value, "status") {
        default_to(status, "loadBalancer", json!({}));
    }
}

/// An EndpointSlice.
pub(crate) fn endpoint_slice(value: &mut Value) {
    items_mut(value, "ports").for_each(|port| {
        default_to(port, "name", "");
        default_to(port, "protocol", "TCP");
    });
}

#[cfg(test)]
mod tests {
    use crate::defaults::apply;
    use serde_json::json;

    #[test]
    fn a_service_that_stops_being_external() {
        let old = json!({"spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Cluster",
            "allocateLoadBalancerNodePorts": true, "ports": [{"port": 80, "nodePort": 30001}]}});
        let mut new = old.clone();
        new["spec"]["type"] = json!("ClusterIP");
        new["spec"]["ports"][0]["port"] = json!(81);
        crate::defaults::adapt("services", &old, &mut new);
        assert_eq!(new, json!({"spec": {"type": "ClusterIP", "ports": [{"port": 81}]}}));
        let mut chosen = old.clone();
        chosen["spec"]["ports"][0]["nodePort"] = json!(30002);
        chosen["spec"]["type"] = json!("NodePort");
        crate::defaults::adapt("services", &old, &mut chosen);
        assert_eq!(chosen["spec"]["ports"][0]["nodePort"], 30002);
        assert!(chosen["spec"].get("allocateLoadBalancerNodePorts").is_none());
        assert_eq!(chosen["spec"]["externalTrafficPolicy"], "Cluster");
    }

    #[test]
    fn services() {
        let mut value = json!({"spec": {"ports": [{"port": 80}, {"port": 443, "targetPort": "tls"}]}});
        apply("services", &mut value);
        assert_eq!(
            value["spec"],
            json!({
                "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80},
                    {"port": 443, "protocol": "TCP", "targetPort": "tls"}]
            })
        );
        let mut value = json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP", "clusterIP": "10.43.0.9"}});
        apply("services", &mut value);
        assert_eq!(value["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10_800);
        assert_eq!(value["spec"]["externalTrafficPolicy"], "Cluster");
        assert_eq!(value["spec"]["allocateLoadBalancerNodePorts"], true);
        assert_eq!(value["spec"]["clusterIPs"], json!(["10.43.0.9"]));
        let mut value = json!({"spec": {"type": "ExternalName", "externalName": "example.com"}});
        apply("services", &mut value);
        assert!(value["spec"].get("ipFamilies").is_none());
    }
}
