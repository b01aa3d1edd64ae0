//! Questions about other names go to the node's own nameservers, as the client put them.
//!
//! ```text
//!  question ──► kept answer? ──► a place of its source's share ──► asked by somebody already? ──► nameservers
//! ```

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::{
    cache::{Answered, Key},
    permits::{PendingPermit, QueryPermits},
    upstream::Servers,
    wire::{Query, Response, code},
};

const PORT: u16 = 53;
/// Clients wait for five seconds: in line and for nameservers together.
const PATIENCE: Duration = Duration::from_millis(4_800);
/// Transfers of whole zones, and their changes: of no use to a pod, and of no end.
const TRANSFERS: [u16; 2] = [251, 252];

/// What came of an exchange; the outer one is empty until it is over.
type Told = Option<Option<Arc<Response>>>;

/// Asks the node's nameservers.
pub(super) struct Forwarder {
    resolv_conf: PathBuf,
    servers: Servers,
    known: Answered,
    permits: QueryPermits,
    under_way: Mutex<HashMap<Key, watch::Receiver<Told>>>,
}

/// A question on its way: its client must be told.
pub(super) struct Pending {
    query: Query,
    by_tcp: bool,
    pending: PendingPermit,
}

impl Pending {
    /// What is asked.
    pub(super) fn query(&self) -> &Query {
        &self.query
    }
}

/// What can be said at once.
pub(super) enum AtOnce {
    /// The answer.
    Said(Vec<u8>),
    /// Others must be asked.
    Pending(Pending),
}

impl Forwarder {
    pub(super) fn new(resolv_conf: PathBuf) -> Self {
        Self {
            resolv_conf,
            servers: Servers::default(),
            known: Answered::new(),
            permits: QueryPermits::new(),
            under_way: Mutex::default(),
        }
    }

    /// Looks up the node's nameservers; ourselves at `own` are none, or questions would go round for ever.
    pub(super) fn reload(&self, own: Option<IpAddr>) {
        let content = std::fs::read_to_string(&self.resolv_conf).unwrap_or_default();
        let servers: Vec<_> = nameservers(&content).filter(|server| Some(server.ip()) != own).collect();
        if self.servers.set(&servers) {
            tracing::info!(?servers, "forwarding DNS");
            self.known.clear();
        }
    }

    /// What is known already, or a place in the line of `source`.
    pub(super) fn begin(&self, query: Query, source: IpAddr, by_tcp: bool) -> AtOnce {
        if TRANSFERS.contains(&query.kind) {
            return AtOnce::Said(query.answer(code::REFUSED, false));
        }
        if let Some(answer) = self.known.get(&(query.key(), by_tcp), &query) {
            metrics::counter!("warren_netd_dns_cached_total").increment(1);
            return AtOnce::Said(answer);
        }
        match self.permits.ask(source) {
            Some(pending) => AtOnce::Pending(Pending { query, by_tcp, pending }),
            None => {
                metrics::counter!("warren_netd_dns_refused_total").increment(1);
                AtOnce::Said(query.answer(code::SERVER_FAILURE, false))
            }
        }
    }

    /// Waits for the answer; a failure when nobody gives one.
    pub(super) async fn finish(self: &Arc<Self>, pending: Pending) -> Vec<u8> {
        let Pending { query, by_tcp, pending } = pending;
        let failure = |query: &Query| query.answer(code::SERVER_FAILURE, false);
        let end = Instant::now() + PATIENCE;
        let Some(_permit) = pending.permit(PATIENCE).await else {
            metrics::counter!("warren_netd_dns_refused_total").increment(1);
            return failure(&query);
        };
        let mut told = self.asking(&query, by_tcp);
        let told = tokio::time::timeout_at(end, told.wait_for(Option::is_some)).await;
        match told.ok().and_then(Result::ok).and_then(|told| told.clone().flatten()) {
            Some(response) => response.answer_to(&query, 0),
            None => {
                metrics::counter!("warren_netd_dns_failed_total").increment(1);
                failure(&query)
            }
        }
    }

    /// Clients that ask the same at the same time share one exchange, which goes on by itself and has an end.
    fn asking(self: &Arc<Self>, query: &Query, by_tcp: bool) -> watch::Receiver<Told> {
        let key = (query.key(), by_tcp);
        let mut under_way = self.under_way.lock();
        if let Some(told) = under_way.get(&key) {
            return told.clone();
        }
        let (tell, told) = watch::channel(None);
        under_way.insert(key.clone(), told.clone());
        drop(under_way);
        metrics::counter!("warren_netd_dns_forwarded_total").increment(1);
        let (this, query) = (Arc::clone(self), query.clone());
        tokio::spawn(async move {
            let response = this.servers.ask(&query, by_tcp).await.map(Arc::new);
            if let Some(response) = &response {
                this.known.keep(key.clone(), &query, response);
            }
            this.under_way.lock().remove(&key);
            // Its clients may have given up.
            let _ = tell.send(Some(response));
        });
        told
    }
}

/// The nameservers that a resolv.conf names.
fn nameservers(content: &str) -> impl Iterator<Item = SocketAddr> {
    content.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let server = if words.next()? == "nameserver" { words.next()? } else { return None };
        let (address, link) = match server.split_once('%') {
            Some((address, link)) => (address, Some(link)),
            None => (server, None),
        };
        match address.parse().ok()? {
            IpAddr::V4(address) => Some((address, PORT).into()),
            IpAddr::V6(address) => {
                let scope = link.and_then(|link| nix::net::if_::if_nametoindex(link).ok()).unwrap_or(0);
                Some(SocketAddrV6::new(address, PORT, 0, scope).into())
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_are_read_and_rubbish_is_not() {
        let content = "# nameserver 192.0.2.9\nsearch example.com\nnameserver 127.0.0.11\nnameserver\nnameserver x\n\tnameserver fe80::1%lo \noptions ndots:0\n";
        let servers: Vec<_> = nameservers(content).map(|server| server.ip()).collect();
        assert_eq!(servers, ["127.0.0.11".parse::<IpAddr>().expect("v4"), "fe80::1".parse().expect("v6")]);
    }

    #[test]
    fn we_never_ask_ourselves() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("resolv.conf");
        std::fs::write(&file, "nameserver 10.43.0.10\nnameserver 192.0.2.1\n").expect("written");
        let forwarder = Forwarder::new(file);
        forwarder.reload(Some(IpAddr::from([10, 43, 0, 10])));
        assert!(!forwarder.servers.set(&[SocketAddr::from(([192, 0, 2, 1], 53))]), "others were taken");
    }
}
