//! The service by which pods find the Kubernetes API: `kubernetes` in the namespace `default`, as in every cluster. It
//! has the first address of the service network, and leads to where this controller listens.
//!
//! Source: <https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/>.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use serde_json::{Value, json};
use warren_runtime::CancellationToken;
use warren_store::{Key, Snapshot, Transaction};
use warren_vocabulary::{
    ClusterConfig, ipam,
    resources::{ENDPOINTS, ENDPOINTSLICES, SERVICE_NAME, SERVICEADDRESSES, SERVICES},
};

use crate::{bootstrap, writes::Writer};

const NAMESPACE: &str = "default";
const NAME: &str = "kubernetes";
const PORT_NAME: &str = "https";
/// Where clients in pods expect it.
const PORT: u16 = 443;
/// What a client removes or changes is put back after this time.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Names that the server's certificate must have for clients in pods.
pub(crate) fn names(config: &ClusterConfig) -> Vec<String> {
    let qualified = format!("{NAME}.{NAMESPACE}.svc.{}", config.domain);
    let short = [NAME, "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned);
    let address = ipam::first_service_address(config).to_string();
    short.into_iter().chain([qualified, address]).collect()
}

/// The address by which others reach this machine's port: the one that is listened on, or else the one that leads to
/// everybody. `None`: it can be reached from this machine alone.
pub(crate) fn advertised(listen: SocketAddr) -> Option<Ipv4Addr> {
    let own = match listen.ip() {
        IpAddr::V4(address) if !address.is_unspecified() => address,
        IpAddr::V6(address) if !address.is_unspecified() => address.to_ipv4_mapped()?,
        // Connecting a datagram socket sends nothing: the kernel only chooses the route. The address is one of those
        // for documentation (RFC 5737), which no route but the default one has.
        _ => {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
            socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
            match socket.local_addr().ok()?.ip() {
                IpAddr::V4(address) => address,
                IpAddr::V6(_) => return None,
            }
        }
    };
    (!own.is_loopback()).then_some(own)
}

/// Keeps the service as it must be until stopped.
pub(crate) async fn keep(
    writer: Writer,
    config: ClusterConfig,
    listen: SocketAddr,
    advertised: Option<Ipv4Addr>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    if advertised.is_none() {
        tracing::warn!(
            "pods cannot reach the Kubernetes API: this machine has no address for others; give --advertise-address"
        );
    }
    loop {
        let snapshot = writer.store.snapshot();
        if let Some(transaction) = plan(&snapshot, &config, advertised, listen.port()) {
            // Another author was faster: the next look sees it.
            if let Err(error) = writer.commit(&snapshot, transaction).await {
                tracing::warn!(error = format!("{error:#}"), "cannot write the service {NAMESPACE}/{NAME}");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// What is missing or different; `None` when all is as it must be.
fn plan(
    snapshot: &Snapshot,
    config: &ClusterConfig,
    advertised: Option<Ipv4Addr>,
    port: u16,
) -> Option<Transaction> {
    let mut transaction = Transaction::new();
    let address = ipam::first_service_address(config).to_string();
    // A service that asked for the address in an earlier version keeps it: one that is in use is not taken away.
    let is_free = || !snapshot.list(SERVICES).any(|service| service.value["spec"]["clusterIP"] == address);
    if snapshot.get(&Key::new(SERVICES, NAMESPACE, NAME)).is_none() && is_free() {
        transaction = create_service(transaction, snapshot, &address, port);
    }
    let key = Key::new(ENDPOINTSLICES, NAMESPACE, NAME);
    let (endpoints, ports) = destination(advertised, port);
    match snapshot.get(&key) {
        None => transaction = transaction.create(key, slice(endpoints, ports)),
        Some(slice) if slice.value["endpoints"] != endpoints || slice.value["ports"] != ports => {
            let mut value = slice.value.clone();
            value["endpoints"] = endpoints;
            value["ports"] = ports;
            transaction = transaction.replace(key, slice.revision, value);
        }
        Some(_) => {}
    }
    transaction = keep_endpoints(transaction, snapshot, advertised, port);
    (!transaction.writes.is_empty()).then_some(transaction)
}

/// The same for clients that know no slices. They are not mirrored: the slice is there.
fn keep_endpoints(
    transaction: Transaction,
    snapshot: &Snapshot,
    advertised: Option<Ipv4Addr>,
    port: u16,
) -> Transaction {
    let ports = json!([{"name": PORT_NAME, "port": port, "protocol": "TCP"}]);
    let subsets: Vec<Value> = advertised
        .into_iter()
        .map(|address| json!({"addresses": [{"ip": address.to_string()}], "ports": ports}))
        .collect();
    let key = Key::new(ENDPOINTS, NAMESPACE, NAME);
    match snapshot.get(&key) {
        None => {
            let metadata = metadata(json!({"endpointslice.kubernetes.io/skip-mirror": "true"}));
            let value =
                json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets});
            transaction.create(key, value)
        }
        Some(found) if found.value["subsets"] != json!(subsets) => {
            let mut value = found.value.clone();
            value["subsets"] = json!(subsets);
            transaction.replace(key, found.revision, value)
        }
        Some(_) => transaction,
    }
}

/// The service and the reservation of its address.
fn create_service(transaction: Transaction, snapshot: &Snapshot, address: &str, port: u16) -> Transaction {
    let metadata = metadata(json!({"component": "apiserver", "provider": "kubernetes"}));
    let reservation = json!({
        "metadata": {"name": address},
        "spec": {"namespace": NAMESPACE, "name": NAME, "uid": metadata["uid"]},
    });
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
            "ports": [{"name": PORT_NAME, "port": PORT, "protocol": "TCP", "targetPort": port}],
        },
        "status": {"loadBalancer": {}},
    });
    let transaction = transaction.create(Key::new(SERVICES, NAMESPACE, NAME), service);
    let key = Key::new(SERVICEADDRESSES, "", address);
    match snapshot.get(&key) {
        None => transaction.create(key, reservation),
        Some(stale) => transaction.replace(key, stale.revision, reservation),
    }
}

fn slice(endpoints: Value, ports: Value) -> Value {
    let mut metadata = metadata(json!({SERVICE_NAME: NAME}));
    metadata["generation"] = json!(1);
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
    })
}

/// The slice's endpoints and ports.
fn destination(advertised: Option<Ipv4Addr>, port: u16) -> (Value, Value) {
    let endpoint = |address: Ipv4Addr| {
        json!({
            "addresses": [address.to_string()],
            "conditions": {"ready": true, "serving": true, "terminating": false},
        })
    };
    let endpoints: Vec<Value> = advertised.into_iter().map(endpoint).collect();
    (json!(endpoints), json!([{"name": PORT_NAME, "port": port, "protocol": "TCP"}]))
}

fn metadata(labels: Value) -> Value {
    let mut metadata = bootstrap::metadata(NAME, labels);
    metadata["namespace"] = json!(NAMESPACE);
    metadata
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use warren_store::{EmbeddedStore, Store, Write};

    use super::*;

    const HERE: Option<Ipv4Addr> = Some(Ipv4Addr::new(10, 0, 0, 1));

    async fn settle(store: &dyn Store, advertised: Option<Ipv4Addr>) -> Option<Transaction> {
        let planned = plan(&store.snapshot(), &ClusterConfig::default(), advertised, 6443);
        if let Some(transaction) = planned.clone() {
            store.commit(transaction).await.unwrap();
        }
        planned
    }

    #[tokio::test]
    async fn it_is_made_once_and_follows_the_controller() {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path()).unwrap();
        assert_eq!(settle(&*store, HERE).await.unwrap().writes.len(), 4);
        assert!(settle(&*store, HERE).await.is_none(), "nothing is left to be done");
        let moved = settle(&*store, Some(Ipv4Addr::new(10, 0, 0, 2))).await.unwrap();
        assert_eq!(moved.writes.len(), 2);
        let slice = store.snapshot().get(&Key::new(ENDPOINTSLICES, NAMESPACE, NAME)).unwrap().value.clone();
        assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.0.0.2"]));
        settle(&*store, None).await.unwrap();
        assert!(settle(&*store, None).await.is_none());
    }

    #[tokio::test]
    async fn what_is_removed_comes_back_with_the_same_address() {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path()).unwrap();
        settle(&*store, HERE).await.unwrap();
        let key = Key::new(SERVICES, NAMESPACE, NAME);
        let mut removal = Transaction::new();
        // As the API does it, and as somebody does it who knows nothing of reservations.
        removal.writes.push(Write::Delete(key.clone()));
        store.commit(removal).await.unwrap();
        settle(&*store, HERE).await.unwrap();
        assert_eq!(store.snapshot().get(&key).unwrap().value["spec"]["clusterIP"], "10.43.0.1");
    }

    #[test]
    fn the_address_is_the_one_that_is_listened_on() {
        assert_eq!(advertised("10.1.2.3:6443".parse().unwrap()), Some(Ipv4Addr::new(10, 1, 2, 3)));
        assert_eq!(advertised("127.0.0.1:6443".parse().unwrap()), None);
    }
}
