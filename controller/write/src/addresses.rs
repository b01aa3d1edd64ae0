//! Service addresses: chosen and reserved in the transaction that writes the service, released in the one that
//! removes it.
//!
//! A reservation is an object named after the address. One whose service is gone (removed by a version that did not
//! know about reservations) counts as free and is overwritten.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use warren_objects::{ErrorKind, FieldError};
use warren_state::{Key, Object, Snapshot, Transaction, Write};
use warren_vocabulary::{
    ClusterConfig, ipam,
    resources::{SERVICEADDRESSES, SERVICES},
};

use crate::{Refusal, Review, Verb, chain::Step, deletion, kinds, metadata, services::wants_address};

/// Addresses chosen by requests whose commit is still under way, so that concurrent requests choose others
/// instead of colliding in the store.
#[derive(Debug, Clone, Default)]
pub(crate) struct InFlight(Arc<Mutex<BTreeSet<Ipv4Addr>>>);

impl InFlight {
    /// A set is whole whatever happened to the thread that held it.
    fn lock(&self) -> MutexGuard<'_, BTreeSet<Ipv4Addr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The step that chooses addresses. A new service must have its address to be judged; a changed one must have been judged
/// before it gets another.
pub(crate) struct Allocation {
    verb: Verb,
    in_flight: InFlight,
    cluster: ClusterConfig,
}

impl Allocation {
    /// The steps for new and for changed services.
    pub(crate) fn pair(cluster: &ClusterConfig) -> (Self, Self) {
        let in_flight = InFlight::default();
        let step = |verb| Self { verb, in_flight: in_flight.clone(), cluster: cluster.clone() };
        (step(Verb::Create), step(Verb::Update))
    }
}

impl Step for Allocation {
    fn name(&self) -> &'static str {
        match self.verb {
            Verb::Create => "addresses",
            _ => "changed addresses",
        }
    }

    /// The controller brings the addresses of its own services.
    fn review(&self, snapshot: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
        let ends = review.new.as_ref().is_some_and(|new| deletion::is_finished(review.kind, new));
        if review.verb != self.verb || !review.is_by_client() || ends {
            return Ok(());
        }
        (kinds::hooks(review.kind).allocate)((&self.in_flight, &self.cluster), snapshot, review)
    }
}

/// One chosen address; forgotten when the request ends.
#[derive(Debug)]
pub struct Claim {
    in_flight: InFlight,
    address: Ipv4Addr,
    /// The revision of a reservation whose service is gone.
    stale: Option<u64>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.in_flight.lock().remove(&self.address);
    }
}

impl Claim {
    /// Adds the reservation to the transaction that writes the service.
    pub(crate) fn reserve(&self, transaction: Transaction, service: &Value) -> Transaction {
        let key = Key::new(SERVICEADDRESSES, "", &self.address.to_string());
        let value = json!({
            "metadata": {"name": self.address.to_string()},
            "spec": {
                "namespace": metadata::text(service, "namespace"), "name": metadata::text(service, "name"),
                "uid": metadata::text(service, "uid"),
            },
        });
        match self.stale {
            None => transaction.create(key, value),
            Some(revision) => transaction.replace(key, revision, value),
        }
    }
}

/// The address that a stored service holds.
pub(crate) fn held(service: &Value) -> Option<Ipv4Addr> {
    if !wants_address(service) {
        return None;
    }
    service["spec"]["clusterIP"].as_str()?.parse().ok()
}

/// The release of a service's address.
pub(crate) fn release(service: &Value) -> Option<Write> {
    let address = held(service)?;
    Some(Write::Delete(Key::new(SERVICEADDRESSES, "", &address.to_string())))
}

/// Chooses an address for a service that wants one and writes it into `spec`; headless services get `None`.
pub(crate) fn claim(
    in_flight: &InFlight,
    config: &ClusterConfig,
    snapshot: &Snapshot,
    service: &mut Value,
) -> Result<Option<Claim>, FieldError> {
    if !wants_address(service) {
        if service["spec"]["clusterIP"] == "None" {
            service["spec"]["clusterIPs"] = json!(["None"]);
        }
        return Ok(None);
    }
    let wanted = wanted(service);
    let mut busy = in_flight.lock();
    let mut taken = taken(snapshot);
    taken.extend(busy.iter());
    let address = match wanted {
        Some(text) => explicit(config, &taken, &text)?,
        None => ipam::next_service_address(config, &taken).ok_or_else(|| exhausted(config))?,
    };
    busy.insert(address);
    drop(busy);
    let key = Key::new(SERVICEADDRESSES, "", &address.to_string());
    let stale = snapshot.get(&key).map(|reservation| reservation.revision);
    let text = address.to_string();
    service["spec"]["clusterIP"] = json!(text);
    service["spec"]["clusterIPs"] = json!([text]);
    Ok(Some(Claim { in_flight: in_flight.clone(), address, stale }))
}

/// The address that the client asks for.
fn wanted(service: &Value) -> Option<String> {
    let spec = &service["spec"];
    let stated = spec["clusterIP"].as_str().or_else(|| spec["clusterIPs"][0].as_str());
    stated.filter(|text| !text.is_empty()).map(str::to_owned)
}

fn explicit(config: &ClusterConfig, taken: &BTreeSet<Ipv4Addr>, text: &str) -> Result<Ipv4Addr, FieldError> {
    let refuse = |why: String| FieldError {
        field: "spec.clusterIPs".into(),
        kind: ErrorKind::Invalid,
        value: Some(json!([text])),
        detail: format!("failed to allocate IP {text}: {why}"),
    };
    let address: Ipv4Addr = text.parse().map_err(|_| refuse("it is not an IPv4 address".into()))?;
    let range = config.service_cidr;
    if !ipam::is_service_address(config, address) {
        return Err(refuse(format!(
            "the provided IP ({address}) is not in the valid range. The range of valid IPs is {range}"
        )));
    }
    if taken.contains(&address) {
        return Err(refuse("provided IP is already allocated".into()));
    }
    Ok(address)
}

fn exhausted(config: &ClusterConfig) -> FieldError {
    FieldError {
        field: "spec.clusterIPs".into(),
        kind: ErrorKind::Invalid,
        value: Some(json!([])),
        detail: format!("failed to allocate a serviceIP: range {} is full", config.service_cidr),
    }
}

/// Reserved addresses whose service is there, and addresses that services hold without a reservation.
fn taken(snapshot: &Snapshot) -> BTreeSet<Ipv4Addr> {
    let reserved = snapshot.list(SERVICEADDRESSES).filter(|reservation| is_alive(snapshot, reservation));
    let reserved = reserved.filter_map(|reservation| reservation.key.name.parse().ok());
    reserved.chain(snapshot.list(SERVICES).filter_map(|service| held(&service.value))).collect()
}

fn is_alive(snapshot: &Snapshot, reservation: &Object) -> bool {
    let spec = &reservation.value["spec"];
    let text = |field: &str| spec[field].as_str().unwrap_or("");
    let service = snapshot.get(&Key::new(SERVICES, text("namespace"), text("name")));
    service.is_some_and(|service| metadata::text(&service.value, "uid") == text("uid"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn service(name: &str, spec: Value) -> Value {
        json!({"metadata": {"namespace": "d", "name": name, "uid": name}, "spec": spec})
    }

    fn state(services: &[Value], reservations: &[(&str, &str)]) -> Snapshot {
        let services = services.iter().map(|value| {
            Object::new(Key::new("services", "d", metadata::text(value, "name")), 1, value.clone())
        });
        let reservations = reservations.iter().map(|(address, name)| {
            let value =
                json!({"metadata": {"name": address}, "spec": {"namespace": "d", "name": name, "uid": name}});
            Object::new(Key::new(SERVICEADDRESSES, "", address), 1, value)
        });
        Snapshot::from_objects(1, services.chain(reservations))
    }

    #[test]
    fn concurrent_claims_differ() {
        let (in_flight, config) = (InFlight::default(), ClusterConfig::default());
        let snapshot = state(&[], &[]);
        let (mut first, mut second) = (service("a", json!({})), service("b", json!({})));
        let one = claim(&in_flight, &config, &snapshot, &mut first).unwrap().unwrap();
        let two = claim(&in_flight, &config, &snapshot, &mut second).unwrap().unwrap();
        assert_ne!(one.address, two.address);
        assert_eq!(first["spec"]["clusterIPs"][0], json!(one.address.to_string()));
        drop((one, two));
        assert!(in_flight.lock().is_empty());
    }

    #[test]
    fn explicit_addresses_are_checked() {
        let (in_flight, config) = (InFlight::default(), ClusterConfig::default());
        let holder = service("a", json!({"clusterIP": "10.43.0.77"}));
        let snapshot = state(&[holder], &[("10.43.0.77", "a"), ("10.43.0.78", "gone")]);
        let try_for = |address: &str| {
            claim(&in_flight, &config, &snapshot, &mut service("b", json!({"clusterIP": address})))
                .map(|claim| claim.unwrap().stale)
        };
        assert!(try_for("10.43.0.77").unwrap_err().to_string().contains("provided IP is already allocated"));
        assert!(try_for("10.44.0.1").unwrap_err().to_string().contains("not in the valid range"));
        assert!(try_for("nonsense").is_err());
        assert_eq!(try_for("10.43.0.79").unwrap(), None);
        assert_eq!(try_for("10.43.0.78").unwrap(), Some(1), "a reservation without its service is free");
    }

    #[test]
    fn headless_and_external_services_take_none() {
        let (in_flight, config) = (InFlight::default(), ClusterConfig::default());
        let snapshot = state(&[], &[]);
        let mut headless = service("a", json!({"clusterIP": "None"}));
        assert!(claim(&in_flight, &config, &snapshot, &mut headless).unwrap().is_none());
        assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
        let mut external = service("a", json!({"type": "ExternalName"}));
        assert!(claim(&in_flight, &config, &snapshot, &mut external).unwrap().is_none());
        assert!(release(&headless).is_none());
    }
}
