//! Reports: what members observed, written into the store by compare-and-swap.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use serde_json::Value;
use tonic::Status;
use warren_proto::{
    control::{EventReport, NetworkReport, NodeReport, PeerReport, PodStatus, PodsReport},
    vocabulary::WireGuardKey,
};
use warren_runtime::{peers::worst, rate::shown};
use warren_store::{CommitError, Key, Object, Snapshot, Transaction};
use warren_vocabulary::{
    member::Member,
    resources::{NODES, PODS},
};
use warren_write::{Author, Refused};

use crate::{
    Nodes, events,
    identity::{self, Caller},
    json::text_at,
    node_status,
    status::{self, Observation},
    texts,
    writes::WriteError,
};

/// An IP packet's length is a number of sixteen bits.
const LARGEST_PACKET: u32 = 65_535;

/// How often a write is planned anew when another author wrote the object meanwhile.
const ATTEMPTS: usize = 32;
/// Commits of one report that are under way together, so that they share disk writes.
const CONCURRENT: usize = 16;

/// The last thing that a member said about its tunnel; kept in memory only.
#[derive(Clone)]
pub(crate) struct Tunnel {
    pub(crate) reported: Instant,
    pub(crate) peers: Vec<PeerReport>,
}

/// Why a report was not written.
pub(crate) enum Unwritten {
    /// The gate did not let it pass.
    Refused(Refused),
    /// Anything else.
    Failed(Status),
}

impl From<Status> for Unwritten {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

/// As the member is told.
impl From<Unwritten> for Status {
    fn from(unwritten: Unwritten) -> Self {
        match unwritten {
            Unwritten::Refused(refused) => {
                Self::failed_precondition(format!("the report is refused: {refused}"))
            }
            Unwritten::Failed(status) => status,
        }
    }
}

impl Nodes {
    /// Commits what `plan` makes of the newest state, again and again until no other author comes between.
    pub(crate) async fn update(
        &self,
        node: &str,
        what: &str,
        plan: impl Fn(&Snapshot) -> Result<Option<Transaction>, Status>,
    ) -> Result<(), Unwritten> {
        for _ in 0..ATTEMPTS {
            let snapshot = self.store.snapshot();
            let Some(transaction) = plan(&snapshot)? else { return Ok(()) };
            match self.writer.commit(Author::node(node), &snapshot, transaction).await {
                Ok(_) => return Ok(()),
                Err(WriteError::Store(CommitError::Conflict(_))) => {
                    metrics::counter!("warren_nodes_report_conflicts_total").increment(1);
                }
                Err(WriteError::Refused(refused)) => return Err(Unwritten::Refused(refused)),
                Err(error) => {
                    return Err(Status::unavailable(format!("cannot store {what}: {error}")).into());
                }
            }
        }
        Err(Status::aborted(format!("{what} kept changing; report it again")).into())
    }

    /// Events first: they are about pods that the same report may end.
    pub(crate) async fn report_pods(&self, caller: &Caller, mut report: PodsReport) -> Result<(), Status> {
        let now = Timestamp::now();
        self.bound_events(caller, &mut report.events);
        report.events.iter_mut().for_each(texts::event);
        report.pods.iter_mut().for_each(texts::pod);
        for event in &report.events {
            self.record_event(caller, event, now).await?;
        }
        // Collected first: futures that borrow from a mapped stream are not general enough for an async trait.
        let updates: Vec<_> = report.pods.iter().map(|pod| self.update_pod(&caller.name, pod, now)).collect();
        let outcomes: Vec<_> = stream::iter(updates).buffer_unordered(CONCURRENT).collect().await;
        outcomes.into_iter().collect()
    }

    /// Drops the events that are beyond the member's rate: whatever it repeats, it does not fill the store.
    fn bound_events(&self, caller: &Caller, events: &mut Vec<EventReport>) {
        let kept = self.calls.events(&caller.name, events.len(), Instant::now());
        let dropped = events.len() - kept;
        if dropped == 0 {
            return;
        }
        events.truncate(kept);
        metrics::counter!("warren_nodes_dropped_events_total").increment(dropped as u64);
        if let Some(unsaid) = self.refusals.now() {
            tracing::warn!(
                member = caller.name,
                dropped,
                unsaid,
                "a member reports more events than are kept"
            );
        }
    }

    /// A report that is refused is kept: the next ones are not held up by it.
    async fn update_pod(&self, node: &str, report: &PodStatus, now: Timestamp) -> Result<(), Status> {
        let what = format!("pod {}/{}", report.namespace, report.name);
        let key = Key::new(PODS, &report.namespace, &report.name);
        match self.update(node, &what, |snapshot| Ok(plan_pod(snapshot, node, report, now))).await {
            Ok(()) => self.refused_reports.forget(&key),
            Err(Unwritten::Refused(refused)) => {
                self.refused_reports.note(key, node, report, &refused);
                self.wake.notify_one();
            }
            Err(Unwritten::Failed(status)) => return Err(status),
        }
        Ok(())
    }

    /// Tries refused reports again, for ever.
    pub(crate) async fn retry_refused_reports(&self) {
        let mut ticks = tokio::time::interval(crate::REFUSED_REPORTS);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for refused in self.refused_reports.all(&self.store.snapshot()) {
                let outcome = self.update_pod(&refused.node, &refused.report, Timestamp::now()).await;
                if let Err(status) = outcome {
                    tracing::debug!(%status, "a refused report waits on");
                }
            }
        }
    }

    async fn record_event(&self, caller: &Caller, event: &EventReport, now: Timestamp) -> Result<(), Status> {
        let what = format!("an event of pod {}/{}", event.pod_namespace, event.pod_name);
        let recorded = self.update(&caller.name, &what, |snapshot| {
            if own_pod(snapshot, &caller.name, &event.pod_namespace, &event.pod_name, &event.pod_uid)
                .is_none()
            {
                return Ok(None);
            }
            let uid = uuid::Uuid::new_v4().to_string();
            let (key, value) = events::next(snapshot, event, &caller.name, &uid, now);
            Ok(Some(put(snapshot.get(&key), key, value)))
        });
        match recorded.await {
            // In a namespace that is going away, for instance: nothing hangs on it.
            Err(Unwritten::Refused(refused)) => {
                tracing::debug!(%refused, "an event was refused");
                metrics::counter!("warren_nodes_dropped_events_total").increment(1);
                Ok(())
            }
            recorded => recorded.map_err(Status::from),
        }
    }

    pub(crate) async fn report_node(&self, caller: &Caller, mut report: NodeReport) -> Result<(), Status> {
        let now = Timestamp::now();
        texts::node(&mut report);
        if let Some(own) = identity::find(&self.store.snapshot(), &caller.name) {
            // Whatever the node believes that it can run, each pod needs an address.
            let addresses = u32::try_from(own.pod_cidr.pod_addresses().count()).unwrap_or(u32::MAX);
            report.max_pods = report.max_pods.min(addresses);
        }
        let address = texts::address(&report.internal_ip)
            .map_err(|error| Status::invalid_argument(format!("internal_ip: {error}")))?;
        if address.is_none()
            && !report.internal_ip.is_empty()
            && let Some(unsaid) = self.refusals.now()
        {
            let address = shown(&report.internal_ip);
            tracing::warn!(
                member = caller.name,
                address,
                unsaid,
                "others cannot reach a node by the address it reports"
            );
        }
        let what = format!("node {}", caller.name);
        let reported = self.update(&caller.name, &what, |snapshot| {
            let key = Key::new(NODES, "", &caller.name);
            let known = snapshot.get(&key);
            let base = match known {
                Some(known) => known.value.clone(),
                None => {
                    let member = identity::find(snapshot, &caller.name);
                    let member = member.ok_or_else(|| Status::permission_denied("the member was removed"))?;
                    node_status::new_node(&member, &uuid::Uuid::new_v4().to_string(), now)
                }
            };
            let value = node_status::next(&base, &report, address, now);
            let unchanged = known.is_some_and(|known| known.value == value);
            Ok((!unchanged).then(|| put(known, key, value)))
        });
        reported.await.map_err(Status::from)
    }

    pub(crate) async fn report_network(&self, caller: &Caller, report: NetworkReport) -> Result<(), Status> {
        let key: WireGuardKey = report
            .public_key
            .parse()
            .map_err(|error| Status::invalid_argument(format!("public_key: {error}")))?;
        let endpoint = endpoint(&report)?;
        let backend = match report.backend.as_str() {
            "" => None,
            known @ ("kernel" | "userspace") => Some(known.to_owned()),
            other => {
                let other = shown(other);
                return Err(Status::invalid_argument(format!(
                    "backend: {other:?} is neither kernel nor userspace"
                )));
            }
        };
        if report.mtu > LARGEST_PACKET {
            return Err(Status::invalid_argument(format!("mtu: {} is larger than any packet", report.mtu)));
        }
        self.update(&caller.name, &format!("member {}", caller.name), |snapshot| {
            let Some(object) = snapshot.get(&Member::key(&caller.name)) else { return Ok(None) };
            let old = Member::from_object(object).map_err(Status::internal)?;
            let public_key = Some(key.to_string());
            // Members are compared when a key is new, not with every report of it.
            let twin = (old.public_key != public_key)
                .then(|| identity::members(snapshot))
                .and_then(|mut all| all.find(|other| other.name != old.name && other.public_key == public_key));
            if let Some(twin) = twin {
                return Err(Status::already_exists(format!(
                    "member {} has the same WireGuard key (a cloned machine?); remove wireguard.key from the state directory of one of them and restart it",
                    twin.name
                )));
            }
            let new = Member {
                public_key,
                endpoint: endpoint.clone(),
                backend: backend.clone(),
                mtu: Some(report.mtu).filter(|mtu| *mtu > 0),
                ..old.clone()
            };
            Ok((new != old).then(|| put(Some(object), object.key.clone(), new.to_value())))
        })
        .await?;
        let tunnel =
            Tunnel { reported: Instant::now(), peers: peers(worst(report.peers), &self.store.snapshot()) };
        self.networks.lock().insert(caller.name.clone(), tunnel);
        Ok(())
    }
}

/// `ADDRESS:PORT`; nothing while the member does not know its address (it then dials its peers).
fn endpoint(report: &NetworkReport) -> Result<Option<String>, Status> {
    if report.underlay_address.is_empty() {
        return Ok(None);
    }
    let address = texts::address(&report.underlay_address)
        .map_err(|error| Status::invalid_argument(format!("underlay_address: {error}")))?;
    // Peers would dial themselves, or everybody.
    let Some(address) = address else { return Ok(None) };
    match u16::try_from(report.listen_port) {
        Ok(port) if port > 0 => Ok(Some(std::net::SocketAddr::new(address, port).to_string())),
        _ => Err(Status::invalid_argument(format!("listen_port: {} is no port", report.listen_port))),
    }
}

/// What is said of other members; each once, its endpoint only if it is one.
fn peers(reported: Vec<PeerReport>, snapshot: &Snapshot) -> Vec<PeerReport> {
    let mut peers = BTreeMap::new();
    for mut peer in reported {
        if snapshot.get(&Member::key(&peer.name)).is_some() {
            if peer.endpoint.parse::<std::net::SocketAddr>().is_err() {
                peer.endpoint.clear();
            }
            peers.insert(peer.name.clone(), peer);
        }
    }
    peers.into_values().collect()
}

fn put(known: Option<&Arc<Object>>, key: Key, value: Value) -> Transaction {
    match known {
        Some(known) => Transaction::new().replace(key, known.revision, value),
        None => Transaction::new().create(key, value),
    }
}

/// The pod, if it is still this one and runs on this node.
pub(crate) fn own_pod<'a>(
    snapshot: &'a Snapshot,
    node: &str,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Option<&'a Arc<Object>> {
    snapshot.get(&Key::new(PODS, namespace, name)).filter(|pod| {
        text_at(&pod.value, "/metadata/uid") == uid && text_at(&pod.value, "/spec/nodeName") == node
    })
}

/// The write that a pod's report asks for, if any.
fn plan_pod(snapshot: &Snapshot, node: &str, report: &PodStatus, now: Timestamp) -> Option<Transaction> {
    let pod = own_pod(snapshot, node, &report.namespace, &report.name, &report.uid)?;
    let metadata = &pod.value["metadata"];
    if report.gone {
        // Gone without being told to (an agent that lost its state): the agent starts it again.
        metadata.get("deletionTimestamp").filter(|time| !time.is_null())?;
        if metadata["finalizers"].as_array().is_none_or(Vec::is_empty) {
            return Some(Transaction::new().delete(pod.key.clone(), pod.revision));
        }
    }
    let host = snapshot.get(&Key::new(NODES, "", node));
    let host_ip = host.and_then(|host| internal_ip(&host.value));
    let mut value = pod.value.clone();
    value["status"] = status::next(&pod.value, &Observation { report, host_ip, now });
    if report.gone {
        // A client's finalizer keeps the object; grace zero says that the node has let it go.
        value["metadata"]["deletionGracePeriodSeconds"] = 0.into();
    }
    (value != pod.value).then(|| put(Some(pod), pod.key.clone(), value))
}

fn internal_ip(node: &Value) -> Option<&str> {
    let addresses = node.pointer("/status/addresses")?.as_array()?;
    let internal = addresses.iter().find(|address| text_at(address, "/type") == "InternalIP")?;
    Some(text_at(internal, "/address"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(extra: Value) -> Snapshot {
        let mut metadata = json!({"name": "web", "namespace": "default", "uid": "u"});
        metadata.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        let value = json!({"metadata": metadata, "spec": {"nodeName": "n", "containers": []}});
        Snapshot::from_objects(3, [Object::new(Key::new(PODS, "default", "web"), 3, value)])
    }
    fn gone() -> PodStatus {
        PodStatus {
            uid: "u".into(),
            namespace: "default".into(),
            name: "web".into(),
            gone: true,
            ..PodStatus::default()
        }
    }
    fn plan(snapshot: &Snapshot, node: &str, report: &PodStatus) -> Option<Transaction> {
        plan_pod(snapshot, node, report, "2026-01-01T00:00:00Z".parse().expect("a time"))
    }
    const DELETED: &str = "2026-01-01T00:00:00Z";

    #[test]
    fn a_deleted_pod_that_is_gone_is_removed() {
        let transaction = plan(&pod(json!({"deletionTimestamp": DELETED})), "n", &gone()).expect("a write");
        assert!(matches!(&transaction.writes[..], [warren_store::Write::Delete(key)] if &*key.name == "web"));
    }

    #[test]
    fn a_finalizer_keeps_the_object() {
        let snapshot = pod(json!({"deletionTimestamp": DELETED, "finalizers": ["example.com/x"]}));
        let transaction = plan(&snapshot, "n", &gone()).expect("a write");
        let [warren_store::Write::Put(_, value)] = &transaction.writes[..] else { panic!("{transaction:?}") };
        assert_eq!(value["metadata"]["deletionGracePeriodSeconds"], 0);
    }

    #[test]
    fn what_is_not_ours_or_not_asked_for_is_ignored() {
        let deleted = pod(json!({"deletionTimestamp": DELETED}));
        assert_eq!(plan(&deleted, "other", &gone()), None);
        assert_eq!(plan(&deleted, "n", &PodStatus { uid: "v".into(), ..gone() }), None);
        assert_eq!(plan(&pod(json!({})), "n", &gone()), None, "nobody deleted it");
    }

    #[test]
    fn an_endpoint_is_checked() {
        let report = |address: &str, port| NetworkReport {
            underlay_address: address.into(),
            listen_port: port,
            ..NetworkReport::default()
        };
        assert_eq!(endpoint(&report("", 0)).expect("unknown"), None);
        assert_eq!(endpoint(&report("192.0.2.1", 51820)).expect("good").as_deref(), Some("192.0.2.1:51820"));
        assert_eq!(endpoint(&report("fd00::1", 51820)).expect("good").as_deref(), Some("[fd00::1]:51820"));
        for elsewhere in ["127.0.0.1", "224.0.0.1", "0.0.0.0"] {
            assert_eq!(endpoint(&report(elsewhere, 51820)).expect("unknown"), None, "{elsewhere}");
        }
        for bad in [report("host", 51820), report("192.0.2.1", 0), report("192.0.2.1", 70_000)] {
            assert!(endpoint(&bad).is_err(), "{bad:?}");
        }
    }
}
