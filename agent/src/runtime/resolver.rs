//! The node's own resolver configuration, as far as it is its pods', too: only the node knows it.
//!
//! As on Kubernetes: a pod of policy `ClusterFirst` searches the node's domains after the cluster's; one of policy
//! `Default` has the node's nameservers, domains and options. What the pod itself asks for comes last.

use std::net::IpAddr;

use warren_proto::control::Dns;

const FILE: &str = "/etc/resolv.conf";
/// Kubernetes' limits: nameservers, search domains, and characters of these with the spaces between them.
const SERVERS: usize = 3;
const SEARCHES: usize = 32;
const SEARCH_CHARACTERS: usize = 2_048;
/// Docker's word for no search domain; without it the engine takes its own machine's.
const NO_SEARCH: &str = ".";

/// What a resolv.conf says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeResolver {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl NodeResolver {
    /// The node's, as it is now.
    pub fn read() -> Self {
        let content = std::fs::read_to_string(FILE);
        let content = content.inspect_err(|error| tracing::warn!(%error, "cannot read {FILE}"));
        Self::parse(&content.unwrap_or_default())
    }

    /// Of several lines with search domains the last one holds, as for the C library.
    fn parse(content: &str) -> Self {
        let mut resolver = Self::default();
        for line in content.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => resolver.servers.extend(words.next()),
                Some("search") => resolver.searches = words.map(without_dot).collect(),
                Some("domain") => resolver.searches = words.take(1).map(without_dot).collect(),
                Some("options") => resolver.options.extend(words),
                _ => {}
            }
        }
        resolver
    }

    /// The nameservers that a pod can reach. One on the node's loopback is not: the cluster's, which asks it, stands
    /// in for it.
    fn reachable(&self, cluster_server: &str) -> Vec<String> {
        let is_loopback = |server: &String| {
            server
                .split('%')
                .next()
                .and_then(|text| text.parse::<IpAddr>().ok())
                .is_some_and(|it| it.is_loopback())
        };
        let (own, mut others): (Vec<_>, Vec<_>) = self.servers.iter().cloned().partition(is_loopback);
        if (!own.is_empty() || others.is_empty()) && !cluster_server.is_empty() {
            others.insert(0, cluster_server.to_owned());
        }
        others
    }
}

fn without_dot(mut domain: String) -> String {
    if domain.len() > 1 && domain.ends_with('.') {
        domain.pop();
    }
    domain
}

/// A pod's resolver configuration: what the controller says, and what it says is the node's.
pub fn of_pod(dns: &Dns, node: &NodeResolver) -> Dns {
    let mut pod = Dns::default();
    if dns.node_servers {
        append_new(&mut pod.nameservers, &node.reachable(&dns.cluster_server));
        set_options(&mut pod.options, &node.options);
    }
    append_new(&mut pod.nameservers, &dns.nameservers);
    set_options(&mut pod.options, &dns.options);
    let first = dns.node_searches_after.map_or(dns.searches.len(), |first| first as usize);
    let (before, after) = dns.searches.split_at(first.min(dns.searches.len()));
    append_new(&mut pod.searches, before);
    if dns.node_searches_after.is_some() {
        append_new(&mut pod.searches, &node.searches);
    }
    append_new(&mut pod.searches, after);
    limit(&mut pod);
    if pod.searches.is_empty() {
        pod.searches.push(NO_SEARCH.to_owned());
    }
    pod
}

/// What is over Kubernetes' limits is left out from the end, and said.
fn limit(pod: &mut Dns) {
    let (servers, searches) = (pod.nameservers.len(), pod.searches.len());
    pod.nameservers.truncate(SERVERS);
    pod.searches.truncate(SEARCHES);
    let characters = |searches: &[String]| searches.iter().map(|domain| domain.len() + 1).sum::<usize>();
    while characters(&pod.searches) > SEARCH_CHARACTERS + 1 {
        pod.searches.pop();
    }
    if pod.nameservers.len() < servers || pod.searches.len() < searches {
        tracing::warn!(
            nameservers = ?pod.nameservers,
            searches = ?pod.searches,
            "a pod's resolver configuration is over the limits; some nameservers or domains are left out"
        );
    }
}

fn append_new(list: &mut Vec<String>, more: &[String]) {
    for text in more {
        if !list.contains(text) {
            list.push(text.clone());
        }
    }
}

/// An option that is given again replaces the earlier one.
fn set_options(options: &mut Vec<String>, more: &[String]) {
    let name = |option: &str| option.split(':').next().unwrap_or_default().to_owned();
    for option in more {
        options.retain(|known| name(known) != name(option));
        options.push(option.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn node(content: &str) -> NodeResolver {
        NodeResolver::parse(content)
    }

    fn cluster_first(extra: &[&str]) -> Dns {
        let mut searches = list(&["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
        searches.extend(list(extra));
        Dns {
            nameservers: list(&["10.43.0.10"]),
            searches,
            options: list(&["ndots:5"]),
            node_searches_after: Some(3),
            ..Dns::default()
        }
    }

    #[test]
    fn the_nodes_domains_come_after_the_clusters_and_before_the_pods() {
        let node = node(
            "domain old.test\nsearch corp.test. example.com\noptions ndots:1 rotate\nnameserver 192.0.2.1\n",
        );
        let pod = of_pod(&cluster_first(&["pod.test", "corp.test"]), &node);
        let cluster = ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"];
        assert_eq!(pod.searches[..3], cluster);
        assert_eq!(pod.searches[3..], ["corp.test", "example.com", "pod.test"]);
        assert_eq!((pod.nameservers, pod.options), (list(&["10.43.0.10"]), list(&["ndots:5"])));
    }

    #[test]
    fn a_pod_of_policy_default_has_the_nodes_configuration() {
        let default = Dns {
            options: list(&["ndots:2"]),
            searches: list(&["pod.test"]),
            node_servers: true,
            node_searches_after: Some(0),
            cluster_server: "10.43.0.10".into(),
            ..Dns::default()
        };
        let resolv =
            "# x\nnameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch corp.test\noptions ndots:1 rotate\n";
        let pod = of_pod(&default, &node(resolv));
        assert_eq!(pod.nameservers, ["192.0.2.1", "192.0.2.2"]);
        assert_eq!(pod.searches, ["corp.test", "pod.test"]);
        assert_eq!(pod.options, ["rotate", "ndots:2"]);
        // The node's own cache is not the pod's loopback.
        for loopback in ["127.0.0.53", "127.0.0.11", "::1"] {
            let pod = of_pod(&default, &node(&format!("nameserver {loopback}\nnameserver 192.0.2.2\n")));
            assert_eq!(pod.nameservers, ["10.43.0.10", "192.0.2.2"]);
        }
        assert_eq!(of_pod(&default, &node("")).nameservers, ["10.43.0.10"]);
    }

    #[test]
    fn a_pod_of_policy_none_has_nothing_of_the_node() {
        let none = Dns { nameservers: list(&["192.0.2.53"]), ..Dns::default() };
        let pod = of_pod(&none, &node("nameserver 192.0.2.1\nsearch corp.test\noptions rotate\n"));
        assert_eq!((pod.nameservers, pod.searches), (list(&["192.0.2.53"]), list(&["."])));
        assert!(pod.options.is_empty());
    }

    #[test]
    fn what_is_over_the_limits_is_left_out_from_the_end() {
        let many: Vec<_> = (0..40).map(|n| format!("d{n}.test")).collect();
        let pod = of_pod(&cluster_first(&[]), &node(&format!("search {}\n", many.join(" "))));
        assert_eq!((pod.searches.len(), pod.searches[3].as_str()), (32, "d0.test"));
        let long: Vec<_> = (0..20).map(|n| format!("{n:0>199}")).collect();
        let pod = of_pod(&cluster_first(&[]), &node(&format!("search {}\n", long.join(" "))));
        assert!(pod.searches.join(" ").len() <= 2_048 && pod.searches.len() == 12, "{}", pod.searches.len());
        let beyond = Dns { node_searches_after: Some(u32::MAX), ..cluster_first(&[]) };
        assert_eq!(of_pod(&beyond, &node("search corp.test")).searches[3], "corp.test");
    }
}
