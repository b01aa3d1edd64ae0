//! The administrator's way into a local cluster: a kubeconfig, and a client made from it.

use anyhow::{Context as _, anyhow};
use bollard::models::ContainerSummary;
use http_body_util::BodyExt as _;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    containers::API_PORT_LABEL,
    engine::{CLUSTER_LABEL, LocalDocker},
    names::ClusterName,
    observe,
};
use crate::args::{AccessOptions, TokenRole};

/// The file that the controller writes into its data directory.
const ADMINISTRATOR_FILE: &str = "admin.kubeconfig";

/// The kubeconfig of the cluster's administrator, with the API's address as seen from this machine.
pub(crate) async fn kubeconfig(engine: &LocalDocker, cluster: &ClusterName) -> anyhow::Result<String> {
    let port = api_port(engine, cluster).await?;
    let text = administrator_file(engine, cluster)
        .await?
        .with_context(|| format!("the controller of cluster {cluster} has not written a kubeconfig yet: wait, or see docker logs {}", cluster.controller()))?;
    localized(&text, cluster, port)
}

/// Writes what only its owner may read. A link, or a file of another mode that is there, is replaced and never written
/// through.
pub(crate) fn write_private(file: &std::path::Path, text: &str) -> anyhow::Result<()> {
    warren_runtime::identity::write_private(file, text.as_bytes())
}

/// A client for the cluster's API.
pub(crate) async fn client(engine: &LocalDocker, cluster: &ClusterName) -> anyhow::Result<Api> {
    Api::from_kubeconfig(&kubeconfig(engine, cluster).await?).await
}

/// A client for the API of the cluster that was asked for: one of containers here, or the one of a kubeconfig.
pub(crate) async fn api(options: &AccessOptions) -> anyhow::Result<Api> {
    match &options.kubeconfig {
        Some(file) => {
            let text =
                std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            Api::from_kubeconfig(&text).await.with_context(|| format!("cannot use {}", file.display()))
        }
        None => client(&LocalDocker::connect().await?, &options.name).await,
    }
}

/// What the controller wrote, if it has.
pub(crate) async fn administrator_file(
    engine: &LocalDocker,
    cluster: &ClusterName,
) -> anyhow::Result<Option<String>> {
    let path = cluster.state_root().join(cluster.controller()).join(ADMINISTRATOR_FILE);
    let file = engine.read_file(&cluster.controller(), &path).await?;
    file.map(|bytes| String::from_utf8(bytes).context("the kubeconfig is not text")).transpose()
}

/// The port under which the cluster's API is published.
async fn api_port(engine: &LocalDocker, cluster: &ClusterName) -> anyhow::Result<u16> {
    let containers = engine.containers(&format!("{CLUSTER_LABEL}={cluster}")).await?;
    published_api(&containers, cluster).with_context(|| {
        format!("there is no cluster {cluster} on this machine: run warren up{}", cluster.option())
    })
}

/// Where the cluster's own controller publishes the API, whatever labels other containers bear.
fn published_api(containers: &[ContainerSummary], cluster: &ClusterName) -> Option<u16> {
    let is_controller = |container: &&ContainerSummary| {
        observe::is_member(container, cluster) && observe::name(container) == cluster.controller()
    };
    observe::label(containers.iter().find(is_controller)?, API_PORT_LABEL)?.parse().ok()
}

/// The controller's kubeconfig for use on this machine. Everything in it is named after the cluster,
/// so that the kubeconfigs of several clusters can be merged.
pub(crate) fn localized(text: &str, cluster: &ClusterName, port: u16) -> anyhow::Result<String> {
    let written: serde_json::Value =
        serde_yaml_ng::from_str(text).context("the controller's kubeconfig is damaged")?;
    let field = |pointer: &str| {
        written
            .pointer(pointer)
            .and_then(serde_json::Value::as_str)
            .with_context(|| format!("the controller's kubeconfig lacks {pointer}"))
    };
    let (ca, certificate, key) = (
        field("/clusters/0/cluster/certificate-authority-data")?,
        field("/users/0/user/client-certificate-data")?,
        field("/users/0/user/client-key-data")?,
    );
    let user = format!("{cluster}-admin");
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster.as_str(), "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority-data": ca,
        }}],
        "users": [{"name": user, "user": {"client-certificate-data": certificate, "client-key-data": key}}],
        "contexts": [{"name": cluster.as_str(), "context": {"cluster": cluster.as_str(), "user": user}}],
        "current-context": cluster.as_str(),
    });
    serde_yaml_ng::to_string(&config).context("cannot write the kubeconfig")
}

/// What a rotation of the Secrets' key did.
#[derive(Debug, Deserialize)]
pub(crate) struct Rotated {
    pub(crate) key: String,
    pub(crate) objects: usize,
}

/// The cluster's API, as its administrator.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) client: Client,
}

impl Api {
    pub(crate) async fn from_kubeconfig(text: &str) -> anyhow::Result<Self> {
        let kubeconfig = Kubeconfig::from_yaml(text).context("the kubeconfig is damaged")?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .context("the kubeconfig is damaged")?;
        config.connect_timeout = Some(std::time::Duration::from_secs(5));
        config.read_timeout = Some(std::time::Duration::from_secs(30));
        config.write_timeout = Some(std::time::Duration::from_secs(30));
        Ok(Self { client: Client::try_from(config).context("cannot make a client for the API")? })
    }

    /// GET as text.
    pub(crate) async fn text(&self, path: &str) -> anyhow::Result<String> {
        self.client.request_text(request("GET", path, Vec::new())?).await.map_err(said)
    }

    /// GET as JSON.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.client.request(request("GET", path, Vec::new())?).await.map_err(said)
    }

    /// DELETE, whatever the answer's form.
    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        let answer = self.client.request::<serde_json::Value>(request("DELETE", path, Vec::new())?).await;
        answer.map(|_| ()).map_err(said)
    }

    /// Encrypts all Secrets by a new key.
    pub(crate) async fn rotate_secrets(&self) -> anyhow::Result<Rotated> {
        let asked = request("POST", "/warren/v1/secrets/rotate", Vec::new())?;
        self.client.request(asked).await.map_err(said)
    }

    /// GET, written down as it comes; an answer that breaks off is an error.
    pub(crate) async fn download(&self, path: &str, out: &mut impl std::io::Write) -> anyhow::Result<()> {
        let asked = request("GET", path, Vec::new())?.map(kube::client::Body::from);
        let answer = self.client.send(asked).await?;
        let is_ok = answer.status().is_success();
        let mut body = answer.into_body();
        let mut said = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.context("the answer breaks off")?.into_data() else { continue };
            if is_ok { out.write_all(&data)? } else { said.extend_from_slice(&data) }
        }
        let said: serde_json::Value = serde_json::from_slice(&said).unwrap_or_default();
        anyhow::ensure!(is_ok, "{}", said["message"].as_str().unwrap_or("the controller refuses"));
        Ok(())
    }

    /// Removes a member if there is one of this name.
    pub(crate) async fn forget_member(&self, name: &str) -> anyhow::Result<()> {
        let path = format!("/warren/v1/members/{name}");
        match self.client.request::<serde_json::Value>(request("DELETE", &path, Vec::new())?).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(said(error)).with_context(|| format!("cannot remove the former member {name}")),
        }
    }

    /// A single-use token with which one member can join.
    pub(crate) async fn create_token(
        &self,
        role: TokenRole,
        lifetime_seconds: u64,
    ) -> anyhow::Result<String> {
        #[derive(Deserialize)]
        struct Created {
            token: String,
        }
        let wanted = serde_json::to_vec(
            &serde_json::json!({"role": role.as_str(), "lifetimeSeconds": lifetime_seconds}),
        )?;
        let created = self.client.request::<Created>(request("POST", "/warren/v1/tokens", wanted)?).await;
        created.map(|created| created.token).map_err(said).context("cannot create a join token")
    }
}

/// What the API said, without the frame around it; or that nobody answers, which needs no chain of causes.
pub(crate) fn said(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => anyhow!(status.message),
        kube::Error::HyperError(_) | kube::Error::Service(_) => {
            tracing::debug!(
                error = format!("{:#}", anyhow::Error::from(error)),
                "the controller does not answer"
            );
            anyhow!(
                "the controller does not answer: see that it runs (here: docker ps, then warren up; elsewhere: systemctl \
                 status warren-controller). Pods, services and the gateway go on without it"
            )
        }
        error => error.into(),
    }
}

fn request(method: &str, path: &str, body: Vec<u8>) -> anyhow::Result<http::Request<Vec<u8>>> {
    http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(http::header::ACCEPT, "application/json")
        .body(body)
        .with_context(|| format!("{path:?} is no path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = "apiVersion: v1\nkind: Config\ncurrent-context: warren\nclusters:\n- name: warren\n  cluster:\n    \
        server: https://127.0.0.1:6443\n    certificate-authority-data: Y2E=\ncontexts: []\nusers:\n- name: warren-admin\n  \
        user:\n    client-certificate-data: Y2VydA==\n    client-key-data: a2V5\n";

    #[test]
    fn the_kubeconfig_names_this_cluster_and_its_published_port() {
        let cluster = "dev".parse().unwrap();
        let text = localized(WRITTEN, &cluster, 7443).unwrap();
        let config = Kubeconfig::from_yaml(&text).unwrap();
        assert_eq!(config.current_context.as_deref(), Some("dev"));
        assert_eq!(
            config.clusters[0].cluster.as_ref().unwrap().server.as_deref(),
            Some("https://127.0.0.1:7443")
        );
        assert_eq!(config.auth_infos[0].name, "dev-admin");
        assert!(text.contains("client-key-data: a2V5"));
    }

    #[test]
    fn a_pods_labels_do_not_lead_the_administrator_elsewhere() {
        let dev = "dev".parse().unwrap();
        let container = |name: &str, port: &str| {
            let labels = [
                (CLUSTER_LABEL, "dev"),
                (super::super::containers::ROLE_LABEL, "controller"),
                (API_PORT_LABEL, port),
            ];
            ContainerSummary {
                names: Some(vec![format!("/{name}")]),
                labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                ..ContainerSummary::default()
            }
        };
        let pod = container("warren_evil_default_c_0c1d_0", "666");
        assert_eq!(published_api(&[pod.clone(), container("dev-controller", "6443")], &dev), Some(6443));
        assert_eq!(published_api(&[pod], &dev), None);
    }

    #[test]
    fn a_damaged_kubeconfig_is_an_error_that_names_the_field() {
        let error = localized("clusters: []", &"dev".parse().unwrap(), 1).unwrap_err();
        assert!(error.to_string().contains("certificate-authority-data"), "{error}");
    }
}
