//! The cluster's networks: decided at the first start, kept in the store, and the same ever after.

use std::fmt::Display;

use anyhow::{Context as _, bail, ensure};
use ipnet::Ipv4Net;
use serde::Deserialize as _;
use serde_json::json;
use warren_store::{Key, Snapshot, Store, Transaction};
use warren_vocabulary::{Networks, resources::NETWORKS};

use crate::bootstrap;

const NAME: &str = "cluster";

/// The networks as an operator asks for them; what is not asked for is as it is, or as by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct WantedNetworks {
    /// All members' addresses.
    pub cluster: Option<Ipv4Net>,
    /// All service addresses.
    pub services: Option<Ipv4Net>,
    /// The prefix length of one member's part of the cluster network.
    pub node_prefix: Option<u8>,
}

impl WantedNetworks {
    /// Completed by `others` where nothing is asked for.
    ///
    /// # Errors
    /// When these cannot be a cluster's networks.
    pub fn or(self, others: Networks) -> anyhow::Result<Networks> {
        let cluster = self.cluster.unwrap_or(others.cluster());
        let services = self.services.unwrap_or(others.services());
        Ok(Networks::new(cluster, services, self.node_prefix.unwrap_or(others.node_prefix()))?)
    }

    /// That nothing else is asked for than what the cluster has.
    ///
    /// # Errors
    /// When it is; the text names the option and what the cluster has.
    pub fn agree(self, decided: Networks) -> anyhow::Result<()> {
        same("--cluster-network", self.cluster, decided.cluster())?;
        same("--service-network", self.services, decided.services())?;
        same("--node-network-prefix", self.node_prefix, decided.node_prefix())
    }
}

fn same<T: Display + PartialEq>(option: &str, wanted: Option<T>, decided: T) -> anyhow::Result<()> {
    match wanted {
        Some(wanted) if wanted != decided => bail!(
            "{option} {wanted} is not what this cluster was founded with ({decided}): members and services have their \
             addresses from it, so it cannot be changed; leave the option out, or found another cluster"
        ),
        _ => Ok(()),
    }
}

/// The cluster's networks. The first start decides them; a store from before they could be chosen has the defaults. It is
/// written before there is a gate for writes, which needs to know the networks.
pub(crate) async fn settle(store: &dyn Store, wanted: WantedNetworks) -> anyhow::Result<Networks> {
    let snapshot = store.snapshot();
    if let Some(decided) = stored(&snapshot)? {
        wanted.agree(decided)?;
        return Ok(decided);
    }
    let networks = if snapshot.is_empty() {
        wanted.or(Networks::default())?
    } else {
        wanted.agree(Networks::default())?;
        Networks::default()
    };
    let value = json!({ "metadata": bootstrap::metadata(NAME, json!({})), "spec": networks });
    store.commit(Transaction::new().create(Key::new(NETWORKS, "", NAME), value)).await?;
    let (cluster, services) = (networks.cluster(), networks.services());
    let (prefix, members) = (networks.node_prefix(), networks.members());
    tracing::info!(%cluster, %services, prefix, members, "the cluster's networks are decided");
    Ok(networks)
}

fn stored(snapshot: &Snapshot) -> anyhow::Result<Option<Networks>> {
    let Some(object) = snapshot.get(&Key::new(NETWORKS, "", NAME)) else {
        ensure!(snapshot.list(NETWORKS).next().is_none(), "the store holds networks of another name");
        return Ok(None);
    };
    let networks = Networks::deserialize(&object.value["spec"]);
    Ok(Some(networks.with_context(|| format!("the stored networks ({}) are malformed", object.key))?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use warren_store::EmbeddedStore;

    use super::*;
    use crate::writes::Writer;

    fn writer(store: &Arc<EmbeddedStore>) -> Writer {
        let gate = Arc::new(warren_write::Gate::new(&warren_vocabulary::ClusterConfig::default()));
        Writer { store: Arc::clone(store) as Arc<dyn Store>, gate, name: "bootstrap" }
    }

    fn cluster(text: &str) -> WantedNetworks {
        WantedNetworks { cluster: Some(text.parse().unwrap()), ..WantedNetworks::default() }
    }

    #[tokio::test]
    async fn the_first_start_decides_and_later_ones_must_agree() {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path()).unwrap();
        let wanted = WantedNetworks { node_prefix: Some(25), ..cluster("10.64.0.0/11") };
        let decided = settle(&*store, wanted).await.unwrap();
        assert_eq!((decided.node_prefix(), decided.members()), (25, 16_383));
        bootstrap::namespaces(&writer(&store)).await.unwrap();
        for agrees in [WantedNetworks::default(), wanted, cluster("10.64.0.0/11")] {
            assert_eq!(settle(&*store, agrees).await.unwrap(), decided);
        }
        let other = WantedNetworks { node_prefix: Some(24), ..WantedNetworks::default() };
        for (differs, option) in [
            (cluster("10.42.0.0/16"), "--cluster-network 10.42.0.0/16 is not"),
            (other, "--node-network-prefix 24 is not"),
        ] {
            let error = settle(&*store, differs).await.unwrap_err().to_string();
            assert!(error.starts_with(option) && error.contains("founded with"), "{error}");
        }
        assert_eq!(settle(&*store, WantedNetworks::default()).await.unwrap(), decided);
    }

    #[tokio::test]
    async fn a_cluster_from_before_has_the_defaults() {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path()).unwrap();
        bootstrap::namespaces(&writer(&store)).await.unwrap();
        assert!(settle(&*store, cluster("10.64.0.0/11")).await.is_err(), "its members have other addresses");
        assert_eq!(settle(&*store, WantedNetworks::default()).await.unwrap(), Networks::default());
    }

    #[tokio::test]
    async fn networks_that_cannot_be_are_not_stored() {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path()).unwrap();
        let error = settle(&*store, cluster("10.32.0.0/12")).await.unwrap_err().to_string();
        assert!(error.contains("overlap"), "{error}");
        assert!(store.snapshot().is_empty());
    }
}
