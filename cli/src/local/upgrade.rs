//! Replaces a running member's container, one member at a time: a node's pods are moved away first.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api as Objects, DeleteParams, ListParams, Patch, PatchParams};

use super::{
    access::{Api, said},
    containers::{Member, Role},
    up::Up,
    wait,
};

/// How long pods may take to leave a node before it is replaced under them.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(200);

/// Replaces the member's container and waits until it takes part again. Its identity is in its state
/// directory, so it needs no token.
pub(crate) async fn replace(up: &Up, api: &Api, member: &Member) -> anyhow::Result<()> {
    let cordoned = member.role == Role::Node && cordon(api, &member.name).await?;
    if member.role == Role::Node {
        drain(up, api, &member.name).await?;
    }
    up.remove(member).await?;
    up.create(member, None).await?;
    wait::for_members(up, api, std::slice::from_ref(member), "replaced").await?;
    if cordoned {
        set_unschedulable(api, &member.name, false).await?;
    }
    Ok(())
}

/// Keeps new pods away; false if someone else already does, so that it is left as it was.
async fn cordon(api: &Api, name: &str) -> anyhow::Result<bool> {
    let nodes: Objects<Node> = Objects::all(api.client.clone());
    let node = nodes.get(name).await.map_err(said).with_context(|| format!("cannot read the node {name}"))?;
    if node.spec.and_then(|spec| spec.unschedulable) == Some(true) {
        return Ok(false);
    }
    set_unschedulable(api, name, true).await?;
    Ok(true)
}

async fn set_unschedulable(api: &Api, name: &str, value: bool) -> anyhow::Result<()> {
    let nodes: Objects<Node> = Objects::all(api.client.clone());
    let patch = Patch::Merge(serde_json::json!({"spec": {"unschedulable": value}}));
    let patched = nodes.patch(name, &PatchParams::default(), &patch).await.map_err(said);
    patched.map(|_| ()).with_context(|| format!("cannot change whether {name} takes pods"))
}

/// Deletes the node's pods that someone replaces, and waits until they are gone. A pod without an
/// owner stays: it comes back with its node.
async fn drain(up: &Up, api: &Api, node: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + DRAIN_TIMEOUT;
    let mut asked = std::collections::BTreeSet::new();
    loop {
        let pods = owned_pods(api, node).await?;
        if pods.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            up.progress.done(format_args!("warning: {} pods did not leave {node} in time", pods.len()));
            return Ok(());
        }
        up.progress.now(format_args!("moving {} pods away from {node}", pods.len()));
        for pod in pods {
            let (Some(name), Some(namespace)) = (pod.metadata.name, pod.metadata.namespace) else { continue };
            if pod.metadata.deletion_timestamp.is_none() && asked.insert((namespace.clone(), name.clone())) {
                let pods: Objects<Pod> = Objects::namespaced(api.client.clone(), &namespace);
                match pods.delete(&name, &DeleteParams::default()).await {
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(error) => {
                        return Err(error)
                            .with_context(|| format!("cannot delete the pod {namespace}/{name}"));
                    }
                }
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn owned_pods(api: &Api, node: &str) -> anyhow::Result<Vec<Pod>> {
    let pods: Objects<Pod> = Objects::all(api.client.clone());
    let selector = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let listed = pods
        .list(&selector)
        .await
        .map_err(said)
        .with_context(|| format!("cannot list the pods of {node}"))?;
    let owned = |pod: &Pod| {
        pod.metadata.owner_references.iter().flatten().any(|owner| owner.controller == Some(true))
    };
    Ok(listed.items.into_iter().filter(owned).collect())
}
