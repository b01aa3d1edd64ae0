//! Defaults of Services and EndpointSlices. Cluster addresses and node ports are allocated elsewhere.

use serde_json::{Value, json};

use crate::json::{default_to, ensure_map, get, has, items_mut, text};

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
