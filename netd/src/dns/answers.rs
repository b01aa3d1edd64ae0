//! The zone, in the form that answers are made of.

use std::{collections::BTreeSet, sync::Arc};

use hickory_proto::rr::{
    LowerName, Name, RData, Record, RecordType,
    rdata::{A, CNAME, PTR, SOA, SRV, TXT},
};
use imbl::HashMap;
use ipnet::Ipv4Net;

use crate::{
    plan::zone::{self, Data, Zone},
    world::Network,
};

/// Aliases that are followed, one to the next.
const ALIASES: usize = 8;
/// Seconds that clients may remember an answer: how long a removed pod may still be named.
pub(super) const TTL: u32 = 5;

/// What we say to a question. The aliases that led there come first.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// Not ours: ask others.
    Foreign,
    /// Ours, and there is no such name.
    NoName(Vec<Record>),
    /// Ours; no records when the name has none of that type.
    Records(Vec<Record>, Vec<Record>),
    /// Ours, and a name of others has the answer.
    Elsewhere(Vec<Record>, Name),
    /// Aliases that lead to each other, or on and on.
    Circle,
}

/// All answers of one zone. A copy costs nothing, and shares what does not change.
#[derive(Clone, Default)]
pub(super) struct Answers {
    origin: Option<LowerName>,
    names: HashMap<LowerName, Arc<[Record]>>,
    /// Addresses whose reverse names are ours.
    networks: Vec<Ipv4Net>,
    authority: Option<Record>,
}

impl Answers {
    pub(super) fn new(zone: &Zone, network: &Network) -> Self {
        let Some(origin) = name(&zone.origin) else { return Self::default() };
        let mut answers = Self {
            authority: authority(&origin),
            origin: Some(origin.into()),
            names: HashMap::new(),
            networks: vec![network.cluster_cidr, network.service_cidr],
        };
        answers.update(zone, zone.names.keys());
        answers
    }

    /// The same with what `zone` says of some names.
    pub(super) fn updated(&self, zone: &Zone, names: &BTreeSet<String>) -> Self {
        let mut answers = self.clone();
        answers.update(zone, names);
        answers
    }

    fn update<'n>(&mut self, zone: &Zone, names: impl IntoIterator<Item = &'n String>) {
        for text in names {
            let Some(owner) = name(text) else { continue };
            let key = LowerName::from(&owner);
            match zone.names.get(text) {
                Some(data) => {
                    let records = data.iter().filter_map(|data| record(&owner, data)).collect();
                    self.names.insert(key, records);
                }
                None => _ = self.names.remove(&key),
            }
        }
    }

    /// Tells clients how long to remember that something is not there.
    pub(super) fn authority(&self) -> Option<&Record> {
        self.authority.as_ref()
    }

    /// The answer to one question. Records of one type are rotated by `turn`: clients take the first.
    pub(super) fn answer(&self, asked: &LowerName, kind: RecordType, turn: usize) -> Answer {
        let mut aliases = Vec::new();
        let mut name = asked.clone();
        while aliases.len() <= ALIASES {
            let Some(records) = self.names.get(&name) else {
                return match (self.is_ours(&name), aliases.is_empty()) {
                    (true, _) => Answer::NoName(aliases),
                    (false, true) => Answer::Foreign,
                    (false, false) => Answer::Elsewhere(aliases, name.into()),
                };
            };
            match &records[..] {
                // Who asks for the alias itself, or for anything, gets it and nothing behind it.
                [alias @ Record { data: RData::CNAME(target), .. }]
                    if ![RecordType::CNAME, RecordType::ANY].contains(&kind) =>
                {
                    name = LowerName::from(&target.0);
                    aliases.push(alias.clone());
                }
                _ => return Answer::Records(aliases, Self::of_type(records, kind, turn)),
            }
        }
        Answer::Circle
    }

    /// How many names there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    fn of_type(records: &[Record], kind: RecordType, turn: usize) -> Vec<Record> {
        let matches = |record: &&Record| kind == RecordType::ANY || record.record_type() == kind;
        let mut found: Vec<Record> = records.iter().filter(matches).cloned().collect();
        if !found.is_empty() {
            let turn = turn % found.len();
            found.rotate_left(turn);
        }
        found
    }

    fn is_ours(&self, asked: &LowerName) -> bool {
        if self.origin.as_ref().is_some_and(|origin| origin.zone_of(asked)) {
            return true;
        }
        let address = zone::reverse_address(&asked.to_string());
        address.is_some_and(|address| self.networks.iter().any(|network| network.contains(&address)))
    }
}

/// Label by label: what a host name may be is for others to judge.
fn name(text: &str) -> Option<Name> {
    let labels = text.strip_suffix('.').unwrap_or(text).split('.').map(str::as_bytes);
    match Name::from_labels(labels) {
        Ok(mut name) => {
            name.set_fqdn(true);
            Some(name)
        }
        Err(error) => {
            tracing::warn!(name = text, %error, "a name cannot be served");
            None
        }
    }
}

fn record(owner: &Name, data: &Data) -> Option<Record> {
    let data = match data {
        Data::A(address) => RData::A(A(*address)),
        Data::Srv { port, target } => RData::SRV(SRV::new(0, 100, *port, name(target)?)),
        Data::Ptr(target) => RData::PTR(PTR(name(target)?)),
        Data::Cname(target) => RData::CNAME(CNAME(name(target)?)),
        Data::Txt(text) => RData::TXT(TXT::new(vec![text.clone()])),
    };
    Some(Record::from_rdata(owner.clone(), TTL, data))
}

fn authority(origin: &Name) -> Option<Record> {
    let (server, contact) = (name(&format!("ns.dns.{origin}"))?, name(&format!("hostmaster.{origin}"))?);
    let soa = SOA::new(server, contact, 1, 7_200, 1_800, 86_400, TTL);
    Some(Record::from_rdata(origin.clone(), TTL, RData::SOA(soa)))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        net::Ipv4Addr,
    };

    use super::*;
    use crate::world::{NamedEndpoint, Service};

    fn answers() -> Answers {
        let network = Network {
            cluster_cidr: "10.42.0.0/16".parse().expect("net"),
            pod_cidr: "10.42.1.0/24".parse().expect("cidr"),
            service_cidr: "10.43.0.0/16".parse().expect("net"),
            address: Ipv4Addr::new(10, 42, 1, 1),
            dns_address: Ipv4Addr::new(10, 43, 0, 10),
            domain: "cluster.local".into(),
        };
        let web = Service { address: Some(Ipv4Addr::new(10, 43, 1, 1)), ..Service::default() };
        let endpoint = |n| NamedEndpoint { address: Ipv4Addr::new(10, 42, 1, n), hostname: String::new() };
        let pods = Service { endpoints: (2..6).map(endpoint).collect(), ..Service::default() };
        let out = Service { external_name: Some("example.com".into()), ..Service::default() };
        let services = [("web", web), ("pods", pods), ("out", out)];
        let services = services.map(|(name, service)| (("default".to_owned(), name.to_owned()), service));
        let mut services = BTreeMap::from(services);
        let mut alias = |name: &str, target: &str| {
            let external_name = Some(format!("{target}.default.svc.cluster.local"));
            let service = Service { external_name, ..Service::default() };
            services.insert(("default".to_owned(), name.to_owned()), service);
        };
        for (name, target) in [
            ("alias-to-out", "out"),
            ("alias-to-web", "Web"),
            ("alias-to-nothing", "nothing"),
            ("circle", "circle"),
            ("circle-a", "circle-b"),
            ("circle-b", "circle-a"),
            ("alias-9", "web"),
        ] {
            alias(name, target);
        }
        for number in 0..9 {
            alias(&format!("alias-{number}"), &format!("alias-{}", number + 1));
        }
        Answers::new(&zone::plan(&network, &services), &network)
    }

    fn ask(name: &str, kind: RecordType, turn: usize) -> Answer {
        answers().answer(&name.parse().expect("a name"), kind, turn)
    }

    #[test]
    fn a_service_answers_with_its_address_and_without_ipv6() {
        for asked in ["web.default.svc.cluster.local.", "WEB.Default.svc.cluster.local."] {
            let Answer::Records(_, records) = ask(asked, RecordType::A, 0) else { panic!("no records") };
            assert_eq!(records.len(), 1);
            assert_eq!(records[0].ttl, TTL);
            assert_eq!(records[0].data, RData::A(A::new(10, 43, 1, 1)));
        }
        assert_eq!(
            ask("web.default.svc.cluster.local.", RecordType::AAAA, 0),
            Answer::Records(vec![], vec![])
        );
    }

    #[test]
    fn search_domains_find_nothing_and_say_so() {
        for absent in ["nothing.default.svc.cluster.local.", "example.com.svc.cluster.local."] {
            assert_eq!(ask(absent, RecordType::A, 0), Answer::NoName(vec![]));
        }
        assert_eq!(ask("example.com.", RecordType::A, 0), Answer::Foreign);
        assert_eq!(ask("local.", RecordType::A, 0), Answer::Foreign);
    }

    #[test]
    fn reverse_names_of_the_overlay_are_ours_and_others_are_not() {
        assert!(
            matches!(ask("1.1.43.10.in-addr.arpa.", RecordType::PTR, 0), Answer::Records(_, records) if records.len() == 1)
        );
        assert_eq!(ask("9.9.42.10.in-addr.arpa.", RecordType::PTR, 0), Answer::NoName(vec![]));
        assert_eq!(ask("1.2.0.192.in-addr.arpa.", RecordType::PTR, 0), Answer::Foreign);
    }

    #[test]
    fn pods_take_turns_at_being_the_first() {
        let first = |turn| match ask("pods.default.svc.cluster.local.", RecordType::A, turn) {
            Answer::Records(_, records) => {
                assert_eq!(records.len(), 4);
                records[0].data.to_string()
            }
            other => panic!("{other:?}"),
        };
        let firsts: BTreeSet<String> = (0..4).map(first).collect();
        assert_eq!(firsts.len(), 4);
    }

    #[test]
    fn aliases_are_followed_to_their_end() {
        let name = |short: &str| format!("{short}.default.svc.cluster.local.");
        let elsewhere = |short: &str, hops: usize| {
            let Answer::Elsewhere(aliases, target) = ask(&name(short), RecordType::A, 0) else {
                panic!("{short}")
            };
            assert_eq!((aliases.len(), target.to_string().as_str()), (hops, "example.com."));
        };
        elsewhere("out", 1);
        elsewhere("alias-to-out", 2);
        let Answer::Records(aliases, records) = ask(&name("alias-to-web"), RecordType::A, 0) else {
            panic!("web")
        };
        assert_eq!((aliases.len(), records.len()), (1, 1));
        assert_eq!(aliases[0].name.to_string(), name("alias-to-web"));
        let Answer::Records(aliases, records) = ask(&name("alias-to-web"), RecordType::AAAA, 0) else {
            panic!("web")
        };
        assert_eq!((aliases.len(), records.len()), (1, 0));
        assert!(
            matches!(ask(&name("alias-to-nothing"), RecordType::A, 0), Answer::NoName(aliases) if aliases.len() == 1)
        );
        for circle in ["circle", "circle-a", "circle-b", "alias-0"] {
            assert_eq!(ask(&name(circle), RecordType::A, 0), Answer::Circle, "{circle}");
        }
        // As long as it may be.
        assert!(
            matches!(ask(&name("alias-2"), RecordType::A, 0), Answer::Records(aliases, _) if aliases.len() == 8)
        );
        let Answer::Records(none, alias) = ask(&name("circle"), RecordType::CNAME, 0) else {
            panic!("the alias")
        };
        assert_eq!((none.len(), alias.len()), (0, 1));
    }
}
