//! The compiled route table: which rule a request matches, and which endpoints serve it. Pure.
//!
//! Order of precedence, as Kubernetes defines it: an exact host before a wildcard of one label before a
//! rule for any host; within a host an exact path before a prefix, a longer prefix before a shorter one;
//! then the default backend. Prefixes match whole path elements: `/foo` matches `/foo`, `/foo/` and
//! `/foo/bar`, never `/foobar`.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use warren_proto::control::{HttpRoute, PathType};

use crate::{endpoint::Endpoint, metrics::RequestCounters};

/// One rule's target.
#[derive(Debug)]
pub struct Route {
    /// "NAMESPACE/INGRESS".
    pub ingress: Arc<str>,
    /// "NAMESPACE/SERVICE:PORT".
    pub backend: Arc<str>,
    /// Where requests may go; none while the service has no ready endpoint.
    pub endpoints: Vec<Arc<Endpoint>>,
    pub(crate) counters: RequestCounters,
}

impl Route {
    /// Whether requests of this rule may go to exactly this endpoint.
    pub(crate) fn leads_to(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.endpoints.iter().any(|known| Arc::ptr_eq(known, endpoint))
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
}

impl Paths {
    fn find(&self, path: &str) -> Option<&Arc<Route>> {
        if let Some(route) = self.exact.get(path) {
            return Some(route);
        }
        let bytes = path.as_bytes();
        let ends_element = |length: usize| length == bytes.len() || bytes.get(length) == Some(&b'/');
        let candidates = self.lengths.iter().filter(|length| ends_element(**length));
        candidates.filter_map(|length| path.get(..*length)).find_map(|prefix| self.prefixes.get(prefix))
    }

    /// The rule that was there before, if any: it stays.
    fn insert(&mut self, exact: bool, path: &str, route: &Arc<Route>) -> Option<Arc<Route>> {
        let rules = if exact { &mut self.exact } else { &mut self.prefixes };
        let path = if exact { path } else { path.trim_end_matches('/') };
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
    /// Compiles the rules of `revision`. Endpoints that `previous` knows keep their state. Whatever the
    /// order of `routes`, the table is the same: of two rules for one host and path the first by key wins.
    pub fn compile<'a>(
        revision: u64,
        routes: impl IntoIterator<Item = (&'a str, &'a HttpRoute)>,
        previous: Option<&Self>,
    ) -> Self {
        let routes: BTreeMap<_, _> =
            routes.into_iter().map(|(key, route)| (rule_order(key), (key, route))).collect();
        let mut table = Self { revision, ..Self::default() };
        for (key, rule) in routes.into_values() {
            let route = table.route(key, rule, previous);
            table.insert(key, rule, &route);
        }
        let hosts = table.hosts.values_mut().chain(table.wildcards.values_mut());
        hosts.chain([&mut table.any_host]).for_each(Paths::seal);
        table
    }

    fn route(&mut self, key: &str, rule: &HttpRoute, previous: Option<&Self>) -> Arc<Route> {
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::with_capacity(rule.endpoints.len());
        let mut seen = BTreeSet::new();
        for endpoint in &rule.endpoints {
            let (Ok(address), Ok(port @ 1..)) =
                (endpoint.address.parse::<IpAddr>(), u16::try_from(endpoint.port))
            else {
                let problem =
                    format!("{key}: the endpoint {}:{} is no address", endpoint.address, endpoint.port);
                self.problems.push(problem);
                continue;
            };
            let address = SocketAddr::new(address, port);
            let kept = || previous.and_then(|table| table.endpoints.get(&address)).cloned();
            let known = self.endpoints.entry(address);
            let shared = known.or_insert_with(|| kept().unwrap_or_else(|| Endpoint::new(address)));
            if seen.insert(address) {
                endpoints.push(shared.clone());
            }
        }
        let (ingress, backend) = (rule.ingress.as_str().into(), rule.backend.as_str().into());
        Arc::new(Route { counters: RequestCounters::new(&rule.ingress), ingress, backend, endpoints })
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
        let exact = rule.path_type == PathType::Exact as i32;
        if let Some(earlier) = paths.insert(exact, &rule.path, route) {
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

    /// Whether any rule leads to this address.
    pub(crate) fn holds(&self, address: SocketAddr) -> bool {
        self.endpoints.contains_key(&address)
    }
}

/// "route/NAMESPACE/INGRESS/INDEX" ordered by its index as a number.
fn rule_order(key: &str) -> (&str, u64, &str) {
    let (ingress, index) = key.rsplit_once('/').unwrap_or((key, ""));
    (ingress, index.parse().unwrap_or(u64::MAX), index)
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
