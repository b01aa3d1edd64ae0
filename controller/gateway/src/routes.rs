//! The compiled route table: which rule a request matches, and which endpoints serve it. Pure.
//!
//! Order of precedence, as Kubernetes defines it: an exact host before a wildcard of one label before a
//! rule for any host; within a host an exact path before a prefix, a longer prefix before a shorter one;
//! then the default backend. Prefixes match whole path elements: `/foo` matches `/foo`, `/foo/` and
//! `/foo/bar`, never `/foobar`. Regular expressions, which only an annotation makes of a path, come between the two.
//!
//! Of two rules for the same host and path, the one of the older Ingress is in force: no Ingress takes over what an older
//! one has.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use regex::Regex;
use warren_proto::control::{BasicAuthentication, HttpPolicy, HttpRoute, PathType};

use crate::{
    addresses::Refused,
    demand::{self, Demand, Demands},
    endpoint::Endpoint,
    metrics::RequestCounters,
    path,
    policy::Policy,
    rewrite,
    tally::{Member, Tallies, Tally},
};

/// What a table is compiled from.
#[derive(Debug, Default)]
pub struct Rules<'a> {
    /// By key.
    pub routes: Vec<(&'a str, &'a HttpRoute)>,
    /// Who may pass, by the key that policies name.
    pub users: HashMap<&'a str, &'a BasicAuthentication>,
    /// What names outside of the cluster stand for now.
    pub external: HashMap<(&'a str, u16), Vec<IpAddr>>,
}

impl<'a, T: IntoIterator<Item = (&'a str, &'a HttpRoute)>> From<T> for Rules<'a> {
    fn from(routes: T) -> Self {
        Self { routes: routes.into_iter().collect(), ..Self::default() }
    }
}

/// One rule's target.
#[derive(Debug)]
pub struct Route {
    /// "NAMESPACE/INGRESS".
    pub ingress: Arc<str>,
    /// "NAMESPACE/SERVICE:PORT".
    pub backend: Arc<str>,
    /// Where requests may go; none while the service has no ready endpoint.
    pub endpoints: Vec<Arc<Endpoint>>,
    pub(crate) policy: Arc<Policy>,
    /// Where the rule's path is a regular expression.
    pub(crate) pattern: Option<Regex>,
    pub(crate) counters: RequestCounters,
    /// What is admitted for its service, by this rule or another.
    pub(crate) demand: Arc<Demand>,
    /// What the pods behind its endpoints make of it, where they are known.
    tallies: HashMap<SocketAddr, Arc<Tally>>,
}

impl Route {
    /// Whether requests of this rule may go to exactly this endpoint.
    pub(crate) fn leads_to(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.endpoints.iter().any(|known| Arc::ptr_eq(known, endpoint))
    }

    /// Where to count what the pod behind an endpoint answers.
    pub(crate) fn tally(&self, endpoint: &Endpoint) -> Option<&Tally> {
        self.tallies.get(&endpoint.address()).map(Arc::as_ref)
    }
}

/// All rules of one revision.
#[derive(Debug, Default)]
pub struct RouteTable {
    revision: u64,
    hosts: HashMap<Box<str>, Paths>,
    /// By what follows the first label.
    wildcards: HashMap<Box<str>, Paths>,
    any_host: Paths,
    default: Option<Arc<Route>>,
    endpoints: HashMap<SocketAddr, Arc<Endpoint>>,
    /// Those that ask for something, by the key of their rule.
    policies: HashMap<Box<str>, Arc<Policy>>,
    demands: Demands,
    tallies: Tallies,
    problems: Vec<String>,
}

/// The rules of one host.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<Box<str>, Arc<Route>>,
    /// Without the trailing slash; "" is the root.
    prefixes: HashMap<Box<str>, Arc<Route>>,
    /// The lengths that occur among the prefixes, longest first: what bounds the work per request.
    lengths: Vec<usize>,
    /// Regular expressions by their text, longest first.
    patterns: BTreeMap<(Reverse<usize>, Box<str>), Arc<Route>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exact,
    Prefix,
    Pattern,
}

impl Paths {
    fn find(&self, path: &str) -> Option<&Arc<Route>> {
        if let Some(route) = self.exact.get(path) {
            return Some(route);
        }
        let matching =
            |route: &&Arc<Route>| route.pattern.as_ref().is_some_and(|pattern| pattern.is_match(path));
        if let Some(route) = self.patterns.values().find(matching) {
            return Some(route);
        }
        let bytes = path.as_bytes();
        let ends_element = |length: usize| length == bytes.len() || bytes.get(length) == Some(&b'/');
        let candidates = self.lengths.iter().filter(|length| ends_element(**length));
        candidates.filter_map(|length| path.get(..*length)).find_map(|prefix| self.prefixes.get(prefix))
    }

    /// The rule that was there before, if any: it stays.
    fn insert(&mut self, kind: Kind, path: &str, route: &Arc<Route>) -> Option<Arc<Route>> {
        if kind == Kind::Pattern {
            let place = (Reverse(path.len()), path.into());
            if let Some(earlier) = self.patterns.get(&place) {
                return Some(earlier.clone());
            }
            self.patterns.insert(place, route.clone());
            return None;
        }
        let path = path::of_rule(path);
        let (rules, path) = match kind {
            Kind::Exact => (&mut self.exact, path.as_str()),
            _ => (&mut self.prefixes, path.trim_end_matches('/')),
        };
        if let Some(earlier) = rules.get(path) {
            return Some(earlier.clone());
        }
        rules.insert(path.into(), route.clone());
        None
    }

    fn seal(&mut self) {
        let lengths: BTreeSet<_> = self.prefixes.keys().map(|prefix| Reverse(prefix.len())).collect();
        self.lengths = lengths.into_iter().map(|Reverse(length)| length).collect();
    }
}

impl RouteTable {
    /// Compiles the rules of `revision`. Endpoints that `previous` knows keep their state. Whatever the order of
    /// the rules, the table is the same: of two for one host and path the older one wins, then the first by key.
    /// Nothing leads to an address that is `refused`.
    pub fn compile(revision: u64, rules: &Rules<'_>, refused: &Refused, previous: Option<&Self>) -> Self {
        let routes: BTreeMap<_, _> =
            rules.routes.iter().map(|(key, route)| (rule_order(key, route), (*key, *route))).collect();
        let mut compilation =
            Compilation { rules, refused, previous, table: Self { revision, ..Self::default() } };
        for (key, rule) in routes.into_values() {
            if let Some(route) = compilation.route(key, rule) {
                compilation.table.insert(key, rule, &route);
            }
        }
        let mut table = compilation.table;
        let hosts = table.hosts.values_mut().chain(table.wildcards.values_mut());
        hosts.chain([&mut table.any_host]).for_each(Paths::seal);
        table
    }

    fn insert(&mut self, key: &str, rule: &HttpRoute, route: &Arc<Route>) {
        if rule.is_default {
            if let Some(earlier) = &self.default {
                let problem = format!("{key}: the default backend of {} is in force", earlier.ingress);
                self.problems.push(problem);
            } else {
                self.default = Some(route.clone());
            }
            return;
        }
        let host = host_name(&rule.host);
        let paths = match host.strip_prefix("*.") {
            _ if host.is_empty() => &mut self.any_host,
            Some(suffix) => self.wildcards.entry(suffix.into()).or_default(),
            None => self.hosts.entry(host.as_ref().into()).or_default(),
        };
        let kind = match rule.path_type() {
            PathType::Exact => Kind::Exact,
            PathType::Regex => Kind::Pattern,
            PathType::Prefix | PathType::Unspecified => Kind::Prefix,
        };
        if let Some(earlier) = paths.insert(kind, &rule.path, route) {
            let problem =
                format!("{key}: {}{} is already routed by {}", rule.host, rule.path, earlier.ingress);
            self.problems.push(problem);
        }
    }

    /// The rule for a request. `host` may have a port and capitals, as in a `Host` header.
    pub fn find(&self, host: &str, path: &str) -> Option<&Arc<Route>> {
        let host = host_name(host);
        // `OPTIONS *` asks about the server as a whole.
        let path = if path.starts_with('/') { path } else { "/" };
        let exact = || self.hosts.get(host.as_ref())?.find(path);
        let wildcard = || {
            let (label, suffix) = host.split_once('.')?;
            if label.is_empty() { None } else { self.wildcards.get(suffix)?.find(path) }
        };
        exact().or_else(wildcard).or_else(|| self.any_host.find(path)).or(self.default.as_ref())
    }

    /// The revision that was compiled.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What could not be compiled, and what is shadowed.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Every endpoint of every rule.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.values()
    }

    /// Every service that a rule leads to.
    pub(crate) fn demands(&self) -> &Demands {
        &self.demands
    }

    /// Every pod that a rule leads to.
    pub(crate) fn tallies(&self) -> &Tallies {
        &self.tallies
    }

    /// Whether any rule leads to this address.
    pub(crate) fn holds(&self, address: SocketAddr) -> bool {
        self.endpoints.contains_key(&address)
    }
}

/// A table in the making.
struct Compilation<'a> {
    rules: &'a Rules<'a>,
    refused: &'a Refused,
    previous: Option<&'a RouteTable>,
    table: RouteTable,
}

impl Compilation<'_> {
    /// One rule's target; `None` when the rule cannot be in force.
    fn route(&mut self, key: &str, rule: &HttpRoute) -> Option<Arc<Route>> {
        let pattern = match rule.path_type() {
            PathType::Regex => match rewrite::pattern(&rule.path) {
                Ok(pattern) => Some(pattern),
                Err(problem) => {
                    self.problem(format!(
                        "{key}: the path {:?} is no regular expression: {problem}",
                        rule.path
                    ));
                    return None;
                }
            },
            _ => None,
        };
        let endpoints = self.endpoints(key, rule);
        let policy = self.policy(key, rule.policy.as_ref());
        let (ingress, backend) = (rule.ingress.as_str().into(), rule.backend.as_str().into());
        let counters = RequestCounters::new(&rule.ingress);
        let demand = self.demand(&rule.backend);
        let tallies = self.tallies(rule);
        Some(Arc::new(Route { ingress, backend, endpoints, policy, pattern, counters, demand, tallies }))
    }

    /// The tallies of the pods behind a rule's endpoints, which go on from table to table.
    fn tallies(&mut self, rule: &HttpRoute) -> HashMap<SocketAddr, Arc<Tally>> {
        let Some(service) = demand::service(&rule.backend) else { return HashMap::new() };
        let mut tallies = HashMap::new();
        for (endpoint, pod) in rule.endpoints.iter().zip(&rule.pods).filter(|(_, pod)| !pod.is_empty()) {
            let (Ok(address), Ok(port)) = (endpoint.address.parse(), u16::try_from(endpoint.port)) else {
                continue;
            };
            let member = Member { service: service.into(), pod: pod.as_str().into() };
            let kept = self.previous.and_then(|table| table.tallies.get(&member)).cloned();
            let tally = self.table.tallies.entry(member).or_insert_with(|| kept.unwrap_or_default());
            tallies.insert(SocketAddr::new(address, port), Arc::clone(tally));
        }
        tallies
    }

    /// The count of a backend's service, which goes on from table to table.
    fn demand(&mut self, backend: &str) -> Arc<Demand> {
        let Some(service) = demand::service(backend) else { return Arc::default() };
        let kept = || self.previous.and_then(|table| table.demands.get(service)).cloned();
        let known = self.table.demands.entry(service.into());
        Arc::clone(known.or_insert_with(|| kept().unwrap_or_default()))
    }

    fn problem(&mut self, problem: String) {
        self.table.problems.push(problem);
    }

    fn endpoints(&mut self, key: &str, rule: &HttpRoute) -> Vec<Arc<Endpoint>> {
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::with_capacity(rule.endpoints.len());
        for address in self.addresses(key, rule) {
            if let Some(reason) = self.refused.reason(address) {
                self.problem(format!("{key}: the endpoint {address} {reason}: nothing is sent there"));
                continue;
            }
            let kept = || self.previous.and_then(|table| table.endpoints.get(&address)).cloned();
            let known = self.table.endpoints.entry(address);
            let shared = known.or_insert_with(|| kept().unwrap_or_else(|| Endpoint::new(address)));
            if !endpoints.iter().any(|earlier| Arc::ptr_eq(earlier, shared)) {
                endpoints.push(shared.clone());
            }
        }
        endpoints
    }

    fn addresses(&mut self, key: &str, rule: &HttpRoute) -> Vec<SocketAddr> {
        let mut addresses = Vec::with_capacity(rule.endpoints.len());
        for endpoint in &rule.endpoints {
            match (endpoint.address.parse::<IpAddr>(), u16::try_from(endpoint.port)) {
                (Ok(address), Ok(port @ 1..)) => addresses.push(SocketAddr::new(address, port)),
                _ => {
                    let (address, port) = (&endpoint.address, endpoint.port);
                    self.problem(format!("{key}: the endpoint {address}:{port} is no address"));
                }
            }
        }
        if let Some(external) = &rule.external
            && let Ok(port @ 1..) = u16::try_from(external.port)
        {
            let known = self.rules.external.get(&(external.name.as_str(), port));
            addresses.extend(known.into_iter().flatten().map(|address| SocketAddr::new(*address, port)));
        }
        addresses
    }

    fn policy(&mut self, key: &str, policy: Option<&HttpPolicy>) -> Arc<Policy> {
        let Some(policy) = policy else { return Policy::none() };
        let users = self.rules.users.get(policy.basic_authentication.as_str()).copied();
        let known = self.previous.and_then(|table| table.policies.get(key));
        let policy = match known.filter(|known| known.is_of(policy, users)) {
            Some(known) => known.clone(),
            None => {
                let mut problems = Vec::new();
                let policy = Policy::compile(policy, users, &mut problems);
                self.table.problems.extend(problems.into_iter().map(|problem| format!("{key}: {problem}")));
                policy
            }
        };
        self.table.policies.insert(key.into(), policy.clone());
        policy
    }
}

/// The oldest first; of the same age, "route/NAMESPACE/INGRESS/INDEX" ordered by its index as a number.
fn rule_order<'a>(key: &'a str, route: &'a HttpRoute) -> (i64, &'a str, &'a str, u64, &'a str) {
    let (ingress, index) = key.rsplit_once('/').unwrap_or((key, ""));
    (route.created, &route.uid, ingress, index.parse().unwrap_or(u64::MAX), index)
}

/// A host without port and final dot, in lower case; allocates only where capitals must go.
fn host_name(authority: &str) -> Cow<'_, str> {
    let host = match authority.rsplit_once(':') {
        // A colon inside brackets is part of an IPv6 address.
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}
