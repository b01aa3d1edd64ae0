//! `warren up`: makes the cluster be as wanted, from whatever there is.

use std::{collections::BTreeSet, time::Duration, time::Instant};

use anyhow::Context as _;
use bollard::query_parameters::InspectNetworkOptions;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    access::Api,
    containers::{Layout, Member, Ports, Role},
    engine::{CLUSTER_LABEL, LocalDocker, NODE_LABEL},
    image,
    image::Image,
    names::ClusterName,
    observe,
    observe::DockerSnapshot,
    plan::{self, Plan, Step},
    preflight,
    progress::Progress,
    upgrade, wait,
};
use crate::{
    args::{TokenRole, UpOptions},
    output,
};

/// How long a join token that `up` hands to a container is good for.
const TOKEN_SECONDS: u64 = 600;
/// Docker only becomes slower with more starts at a time (reference/state-and-storage.md, section 8).
const STARTS_AT_A_TIME: usize = 4;
/// How long a member that is replaced may take to stop.
const STOP_GRACE: Duration = Duration::from_secs(20);

pub(crate) async fn run(options: UpOptions) -> anyhow::Result<()> {
    let started = Instant::now();
    let progress = Progress::new();
    progress.now("looking at this machine");
    let cluster = options.cluster.name.clone();
    let engine = LocalDocker::connect().await?;
    preflight::machine(&engine).await?;
    let snapshot = DockerSnapshot::take(&engine, &cluster).await?;
    let networks = snapshot.networks(&options)?;
    let (ports, members) = (snapshot.ports(&options), snapshot.desired(&cluster, options.nodes));
    preflight::ports_are_free(&cluster, &ports, &snapshot.held_ports(), &snapshot.others)?;
    preflight::names_are_free(&cluster, &members, &snapshot.others)?;

    progress.now("importing the image");
    let image = Image::of_this_binary()?;
    if image.ensure(&engine).await? {
        progress.done(format_args!("image {} imported", image.name()));
    }
    image.tag_demonstration(&engine).await?;

    for consequence in consequences(&snapshot, &ports, options.nodes, &cluster) {
        progress.done(consequence);
    }
    let (socket, trusted_proxies) = (engine.socket.clone(), snapshot.trusted_proxies(&options));
    let layout = Layout { cluster, image: image.name(), socket, ports, trusted_proxies, networks };
    let desired: Vec<(Member, String)> =
        members.into_iter().map(|member| (member.clone(), layout.fingerprint(&member))).collect();
    let plan = plan::plan(&desired, &snapshot.observed(&engine, &layout.cluster).await?);
    let members: Vec<Member> = desired.into_iter().map(|(member, _)| member).collect();
    let up = Up { engine, layout, progress };
    up.carry_out(&plan, &members).await?;
    up.forget_images(&snapshot.images()).await?;
    drop(up.progress);
    let extra = members.iter().filter(|member| member.role == Role::Node).count();
    output::print(summary(&up.layout, extra, &plan, started.elapsed()));
    Ok(())
}

/// A run of `warren up`.
pub(crate) struct Up {
    pub(crate) engine: LocalDocker,
    pub(crate) layout: Layout,
    pub(crate) progress: Progress,
}

impl Up {
    async fn carry_out(&self, plan: &Plan, members: &[Member]) -> anyhow::Result<()> {
        self.ensure_network(plan.create_network).await?;
        if let Some((member, step)) = &plan.controller {
            self.progress.now("starting the controller");
            self.take_step(member, *step, None).await?;
        }
        self.progress.now("waiting for the controller");
        let api = wait::for_api(self).await?;
        if plan.controller.is_some() {
            self.progress.done("controller ready");
        }
        self.progress.now("starting nodes and gateway");
        stream::iter(&plan.at_once)
            .map(|(member, step)| self.take_step(member, *step, Some(&api)))
            .buffer_unordered(STARTS_AT_A_TIME)
            .try_collect::<()>()
            .await?;
        // Members that are about to be replaced are waited for then, and may be unwell until then.
        let kept: Vec<Member> =
            members.iter().filter(|member| !plan.one_by_one.contains(member)).cloned().collect();
        wait::for_members(self, &api, &kept, "ready").await?;
        for member in &plan.one_by_one {
            self.progress.now(format_args!("replacing {}", member.name));
            upgrade::replace(self, &api, member).await?;
        }
        Ok(())
    }

    async fn ensure_network(&self, missing: bool) -> anyhow::Result<()> {
        let name = self.layout.cluster.network();
        if missing {
            self.progress.now("creating the network");
            self.engine.create_network(name, self.layout.cluster.as_str()).await?;
        }
        let network = self.engine.docker.inspect_network(name, None::<InspectNetworkOptions>).await;
        let network = network.context("cannot look at the cluster's network")?;
        let apart = preflight::network_is_apart(&network, &self.layout.networks);
        if missing && apart.is_err() {
            // Nothing is in it yet, and it must not stand in the way of the mend.
            self.engine.docker.remove_network(name).await.context("cannot remove the cluster's network")?;
        }
        apart
    }

    /// Carries out one step. A member that has yet to join needs the API, for a token.
    async fn take_step(&self, member: &Member, step: Step, api: Option<&Api>) -> anyhow::Result<()> {
        match step {
            Step::Start => self.engine.start(&member.name).await,
            Step::Unpause => self.engine.unpause(&member.name).await,
            Step::Restart => {
                self.progress
                    .done(format_args!("nobody held the ports of {}: it is started anew", member.name));
                self.engine.stop(&member.name, STOP_GRACE).await?;
                self.engine.start(&member.name).await
            }
            Step::Create => self.create(member, api).await,
            Step::Recreate => {
                self.remove(member).await?;
                self.create(member, None).await
            }
            Step::Rejoin => {
                self.remove(member).await?;
                self.create(member, api).await
            }
        }
    }

    /// Creates and starts the member's container, with a join token if there is an API to ask for one.
    pub(crate) async fn create(&self, member: &Member, api: Option<&Api>) -> anyhow::Result<()> {
        let token = match api {
            // One of this name that is still known has lost its state directory: it joins as a new one.
            Some(api) => {
                api.forget_member(&member.name).await?;
                let role = if member.role == Role::Gateway { TokenRole::Gateway } else { TokenRole::Node };
                Some(api.create_token(role, TOKEN_SECONDS).await?)
            }
            None => None,
        };
        self.engine.create(&member.name, self.layout.body(member, token.as_deref())).await?;
        self.engine.start(&member.name).await
    }

    /// Stops and removes the member's container; its state directory stays.
    pub(crate) async fn remove(&self, member: &Member) -> anyhow::Result<()> {
        self.engine.stop(&member.name, STOP_GRACE).await?;
        self.engine.remove(&member.name).await?;
        if member.role == Role::Node {
            // They died with their node, and they lie in the cgroup of a container that is gone.
            let cluster = self.layout.cluster.as_str();
            for pod in self.engine.containers(&format!("{NODE_LABEL}={}", member.name)).await? {
                if observe::label(&pod, CLUSTER_LABEL) == Some(cluster) && observe::is_pods(&pod) {
                    self.engine.remove(observe::name(&pod)).await?;
                }
            }
        }
        Ok(())
    }

    /// Removes the images of earlier binaries, unless something uses them.
    async fn forget_images(&self, before: &BTreeSet<String>) -> anyhow::Result<()> {
        let now = DockerSnapshot::take(&self.engine, &self.layout.cluster).await?;
        let used: BTreeSet<&String> = now
            .members
            .iter()
            .chain(&now.others)
            .filter_map(|container| container.image_id.as_ref())
            .collect();
        for identifier in before.iter().filter(|identifier| !used.contains(identifier)) {
            for name in image::remove(&self.engine, identifier).await? {
                self.progress.done(format_args!("image {name} removed"));
            }
        }
        Ok(())
    }
}

/// What it means for people that a cluster that is there changes.
fn consequences(
    snapshot: &DockerSnapshot,
    now: &Ports,
    nodes: Option<u16>,
    cluster: &ClusterName,
) -> Vec<String> {
    let mut said = Vec::new();
    let option = cluster.option();
    let before = snapshot.remembered_ports();
    if let Some(old) = before.api.filter(|old| *old != now.api) {
        said.push(format!(
            "the API moves from port {old} to {}: kubeconfigs that were handed out stop working; replace each by warren \
             kubeconfig{option}",
            now.api
        ));
    }
    for (name, old, new) in [("HTTP", before.http, now.http), ("HTTPS", before.https, now.https)] {
        if let Some(old) = old.filter(|old| *old != new) {
            said.push(format!(
                "the gateway's {name} moves from port {old} to {new}: its old address stops answering (kubeconfigs stay \
                 valid)"
            ));
        }
    }
    let there = snapshot.node_count(cluster);
    if let Some(wanted) = nodes.filter(|_| there > 0) {
        let wanted = usize::from(wanted);
        if wanted > there {
            said.push(format!(
                "the cluster grows from {there} to {wanted} nodes (kubeconfigs and addresses stay valid)"
            ));
        } else if wanted < there {
            said.push(format!(
                "the cluster keeps its {there} nodes: --nodes {wanted} takes none away. To remove one: kubectl drain \
                 NODE, warren member remove NODE{option}, docker rm -f NODE"
            ));
        }
    }
    said
}

fn summary(layout: &Layout, nodes: usize, plan: &Plan, took: Duration) -> String {
    let (cluster, ports) = (&layout.cluster, &layout.ports);
    let (option, warren) = (cluster.option(), called());
    let done = if plan.is_empty() { "was up already" } else { "is up" };
    format!(
        "cluster {cluster} {done}: {nodes} nodes Ready, gateway at http://127.0.0.1:{}/ ({:.1} s)\n\n\
         What next:\n  \
         {warren} kubeconfig{option} --output {cluster}.kubeconfig && export KUBECONFIG=$PWD/{cluster}.kubeconfig\n  \
         kubectl get nodes\n  \
         kubectl apply -f deploy/examples/hello/hello.yaml && curl http://127.0.0.1:{}/\n  \
         {warren} status{option}\n  \
         {warren} down{option}\n",
        ports.http,
        took.as_secs_f64(),
        ports.http,
    )
}

/// How the user called this program.
fn called() -> String {
    std::env::args().next().filter(|name| !name.is_empty()).unwrap_or_else(|| "warren".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_running_cluster_is_said_with_what_it_breaks() {
        let dev: ClusterName = "dev".parse().unwrap();
        let snapshot = observe::tests::running(&dev, Ports { api: 6443, http: 8080, https: 8443 }, 3);
        let said = |ports, nodes| consequences(&snapshot, &ports, nodes, &dev).join("\n");
        let same = Ports { api: 6443, http: 8080, https: 8443 };
        assert_eq!(said(same, None), "");
        let moved = said(Ports { api: 7443, ..same }, Some(3));
        assert!(moved.contains("from port 6443 to 7443") && moved.contains("stop working"), "{moved}");
        assert!(moved.contains("warren kubeconfig --name dev"), "{moved}");
        let gateway = said(Ports { http: 9080, ..same }, None);
        assert!(gateway.contains("HTTP moves") && gateway.contains("stay valid"), "{gateway}");
        assert!(said(same, Some(5)).contains("grows from 3 to 5"));
        assert!(said(same, Some(2)).contains("takes none away"));
        assert_eq!(consequences(&DockerSnapshot::nothing(), &same, Some(2), &dev), Vec::<String>::new());
    }
}
