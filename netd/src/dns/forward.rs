//! Questions about other names go to the node's own nameservers, through a cache, a bounded number at once.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolveHosts, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use hickory_server::net::{DnsError, NetError};
use hickory_server::proto::{
    op::ResponseCode,
    rr::{Name, Record, RecordType},
};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// Questions that may wait for a nameserver at once; further ones are refused at once.
const CONCURRENT: usize = 256;
const CACHE: u64 = 8_192;
const PATIENCE: Duration = Duration::from_secs(5);
const ATTEMPT: Duration = Duration::from_secs(2);

/// What others said.
pub(super) struct Forwarded {
    pub(super) code: ResponseCode,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
}

impl Forwarded {
    fn failure(code: ResponseCode) -> Self {
        Self { code, answers: Vec::new(), authorities: Vec::new() }
    }
}

/// Asks the node's nameservers.
pub(super) struct Forwarder {
    resolv_conf: PathBuf,
    servers: Mutex<Vec<IpAddr>>,
    resolver: ArcSwap<Option<TokioResolver>>,
    places: Semaphore,
}

impl Forwarder {
    pub(super) fn new(resolv_conf: PathBuf) -> Self {
        Self {
            resolv_conf,
            servers: Mutex::new(Vec::new()),
            resolver: ArcSwap::from_pointee(None),
            places: Semaphore::new(CONCURRENT),
        }
    }

    /// Looks up the node's nameservers; ourselves at `own` are none, or questions would go round for ever.
    pub(super) fn reload(&self, own: Option<IpAddr>) {
        let content = std::fs::read_to_string(&self.resolv_conf).unwrap_or_default();
        let servers: Vec<_> = nameservers(&content).filter(|server| Some(*server) != own).collect();
        let mut present = self.servers.lock();
        if *present == servers {
            return;
        }
        tracing::info!(?servers, "forwarding DNS");
        let resolver = match build(&servers) {
            Ok(resolver) => resolver,
            Err(error) => {
                tracing::error!(%error, "cannot forward DNS");
                None
            }
        };
        self.resolver.store(Arc::new(resolver));
        *present = servers;
    }

    pub(super) async fn ask(&self, name: Name, kind: RecordType) -> Forwarded {
        let resolver = self.resolver.load_full();
        let Some(resolver) = resolver.as_ref() else { return Forwarded::failure(ResponseCode::ServFail) };
        let Ok(_place) = self.places.try_acquire() else {
            metrics::counter!("warren_netd_dns_refused_total").increment(1);
            return Forwarded::failure(ResponseCode::ServFail);
        };
        metrics::counter!("warren_netd_dns_forwarded_total").increment(1);
        let question = name.to_string();
        match tokio::time::timeout(PATIENCE, resolver.lookup(name, kind)).await {
            Ok(Ok(found)) => Forwarded {
                code: ResponseCode::NoError,
                answers: found.answers().to_vec(),
                authorities: Vec::new(),
            },
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(absent)))) => Forwarded {
                code: absent.response_code,
                answers: Vec::new(),
                authorities: absent.soa.map(|soa| (*soa).into_record_of_rdata()).into_iter().collect(),
            },
            Ok(Err(NetError::Dns(DnsError::ResponseCode(code)))) => Forwarded::failure(code),
            Ok(Err(error)) => {
                metrics::counter!("warren_netd_dns_failed_total").increment(1);
                tracing::debug!(question, %error, "a nameserver did not answer");
                Forwarded::failure(ResponseCode::ServFail)
            }
            Err(_) => {
                metrics::counter!("warren_netd_dns_failed_total").increment(1);
                Forwarded::failure(ResponseCode::ServFail)
            }
        }
    }
}

fn build(servers: &[IpAddr]) -> Result<Option<TokioResolver>, NetError> {
    if servers.is_empty() {
        return Ok(None);
    }
    let servers = servers.iter().copied().map(NameServerConfig::udp_and_tcp).collect();
    let config = ResolverConfig::from_parts(None, Vec::new(), servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.timeout = ATTEMPT;
    options.cache_size = CACHE;
    options.edns0 = true;
    options.use_hosts_file = ResolveHosts::Never;
    options.preserve_intermediates = true;
    builder.build().map(Some)
}

/// The nameservers that a resolv.conf names.
fn nameservers(content: &str) -> impl Iterator<Item = IpAddr> {
    content.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next()?.split('%').next()?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_are_read_and_rubbish_is_not() {
        let content = "# nameserver 192.0.2.9\nsearch example.com\nnameserver 127.0.0.11\nnameserver\nnameserver x\n\tnameserver fe80::1%eth0 \noptions ndots:0\n";
        let servers: Vec<_> = nameservers(content).collect();
        assert_eq!(servers, ["127.0.0.11".parse::<IpAddr>().expect("v4"), "fe80::1".parse().expect("v6")]);
    }

    #[test]
    fn we_never_ask_ourselves() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("resolv.conf");
        std::fs::write(&file, "nameserver 10.43.0.10\nnameserver 192.0.2.1\n").expect("written");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let _guard = runtime.enter();
        let forwarder = Forwarder::new(file);
        forwarder.reload(Some(IpAddr::from([10, 43, 0, 10])));
        assert_eq!(*forwarder.servers.lock(), [IpAddr::from([192, 0, 2, 1])]);
    }
}
