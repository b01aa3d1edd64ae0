//! A controller that starts without an object: everything else is done, and the object can be read and deleted.

use std::{net::SocketAddr, time::Duration};

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use warren_runtime::{CancellationToken, tasks::Bound};

struct Running {
    stop: CancellationToken,
    bound: Bound,
    client: Client,
}

impl Running {
    async fn start(data: &std::path::Path, quarantine: &[&str]) -> Self {
        let stop = CancellationToken::new();
        let config = warren_controller::Config {
            data_dir: data.to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            sans: Vec::new(),
            advertise: None,
            networks: Default::default(),
            restore: None,
            quarantine: quarantine.iter().map(|key| key.parse().expect("a key")).collect(),
        };
        let bound = warren_controller::run(config, stop.clone()).await.expect("the controller starts");
        let kubeconfig = Kubeconfig::read_from(data.join("admin.kubeconfig")).expect("a kubeconfig");
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .expect("a usable kubeconfig");
        let port = bound.address("api").expect("it listens").port();
        config.cluster_url = format!("https://127.0.0.1:{port}").parse().expect("a URL");
        Self { stop, bound, client: Client::try_from(config).expect("a client") }
    }

    async fn end(self) {
        drop(self.client);
        self.stop.cancel();
        self.bound.tasks.wait().await.expect("a clean end");
    }

    async fn scale(&self, name: &str, replicas: i32) {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), "default");
        let patch = json!({"spec": {"replicas": replicas}});
        api.patch(name, &Default::default(), &kube::api::Patch::Merge(patch)).await.expect("scaled");
    }

    /// Waits until so many pods of an app exist.
    async fn pods(&self, app: &str, wanted: usize) {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), "default");
        let selector = ListParams::default().labels(&format!("app={app}"));
        let reached = async {
            while api.list(&selector).await.expect("pods").items.len() != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), reached).await.expect("the pods come or go");
    }
}

fn deployment(name: &str) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    }))
    .expect("a deployment")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_aside_is_kept_and_nothing_is_done_for_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let first = Running::start(&data, &[]).await;
    let deployments: Api<Deployment> = Api::namespaced(first.client.clone(), "default");
    for name in ["aside", "plain"] {
        deployments.create(&PostParams::default(), &deployment(name)).await.expect("created");
        first.pods(name, 1).await;
    }
    drop(deployments);
    first.end().await;
    let file = std::fs::read_to_string(data.join("starting")).expect("the word of a start");
    assert_eq!(file.trim(), "0", "the start was finished");

    let second = Running::start(&data, &["deployments.apps/default/aside", "pods/default/absent"]).await;
    second.scale("aside", 3).await;
    second.scale("plain", 3).await;
    second.pods("plain", 3).await;
    second.pods("aside", 1).await;
    let sets: Api<ReplicaSet> = Api::namespaced(second.client.clone(), "default");
    assert_eq!(sets.list(&ListParams::default()).await.expect("sets").items.len(), 2, "what it owns stays");
    drop(sets);
    let deployments: Api<Deployment> = Api::namespaced(second.client.clone(), "default");
    assert_eq!(deployments.get("aside").await.expect("readable").spec.expect("a spec").replicas, Some(3));
    deployments.delete("aside", &DeleteParams::default()).await.expect("deletable");
    second.pods("aside", 0).await;
    drop(deployments);
    second.end().await;
}
