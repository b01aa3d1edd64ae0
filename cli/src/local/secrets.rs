//! `warren secrets`: the key by which Secrets are encrypted at rest.

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;

use super::access;
use crate::{
    args::{AccessOptions, SecretsAction},
    output,
};

#[derive(Debug, Deserialize)]
struct Pods {
    items: Vec<Value>,
}

pub(crate) async fn run(cluster: &AccessOptions, action: SecretsAction) -> anyhow::Result<()> {
    let api = access::api(cluster).await?;
    match action {
        SecretsAction::Rotate => {
            let rotated = api.rotate_secrets().await.context("cannot change the key of the Secrets")?;
            output::print(format_args!(
                "{} objects are encrypted by the new key {}; backups taken before open with the old key that is in them\n",
                rotated.objects, rotated.key
            ));
            let pods: Pods = api.get("/api/v1/pods").await.context("cannot list the pods")?;
            if let Some(hint) = hint(&pods.items) {
                output::print(hint);
            }
        }
    }
    Ok(())
}

/// What no key of ours protects: Docker writes a container's environment into its own files.
fn hint(pods: &[Value]) -> Option<String> {
    let taking: Vec<String> = pods.iter().filter(|pod| takes_secrets_by_environment(pod)).map(name).collect();
    let (first, others) = taking.split_first()?;
    let others = if others.is_empty() { String::new() } else { format!(" (and {} more)", others.len()) };
    Some(format!(
        "hint: {first}{others} gets Secrets as environment variables, which Docker keeps readable on the node's disk \
         (/var/lib/docker/containers/*/config.v2.json); mounted as files they stay in memory\n"
    ))
}

fn name(pod: &Value) -> String {
    let word = |field: &str| pod["metadata"][field].as_str().unwrap_or_default();
    format!("pod {}/{}", word("namespace"), word("name"))
}

fn takes_secrets_by_environment(pod: &Value) -> bool {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let containers = list(&pod["spec"]["containers"]).into_iter().chain(list(&pod["spec"]["initContainers"]));
    containers.into_iter().any(|container| {
        list(&container["envFrom"]).iter().any(|source| source["secretRef"].is_object())
            || list(&container["env"]).iter().any(|entry| entry["valueFrom"]["secretKeyRef"].is_object())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, container: Value) -> Value {
        json!({"metadata": {"namespace": "default", "name": name}, "spec": {"containers": [container]}})
    }

    #[test]
    fn pods_that_take_secrets_by_environment_are_named() {
        let key = json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]});
        let all = json!({"envFrom": [{"secretRef": {"name": "s"}}]});
        let plain =
            json!({"env": [{"name": "A", "value": "b"}], "envFrom": [{"configMapRef": {"name": "c"}}]});
        assert_eq!(hint(&[pod("plain", plain.clone())]), None);
        let one = hint(&[pod("plain", plain), pod("one", key.clone())]).unwrap();
        assert!(one.starts_with("hint: pod default/one gets") && one.contains("config.v2.json"), "{one}");
        let two = hint(&[pod("one", key), pod("two", all)]).unwrap();
        assert!(two.contains("default/one (and 1 more)"), "{two}");
    }
}
