//! Keeps other people's firewalls open for pods: Docker's first of all, whose FORWARD policy is DROP.
//!
//! netlink tells of every change of nftables, so an engine that restarts or a firewall that is loaded anew is
//! met at once; a slow look finds what was not told. When our own table was touched, too, the task that waits for
//! [`Guard::damaged`] hears of it.

use std::{collections::BTreeSet, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Notify;
use warren_runtime::CancellationToken;

use crate::{
    kernel::{
        self,
        firewall::{Firewall, Watch},
        xtables,
    },
    plan::firewall,
};

/// How often the firewalls are looked at when no change was told.
const RECHECK: Duration = Duration::from_secs(10);

/// How long after a watch broke it is opened again.
const REOPEN: Duration = Duration::from_millis(100);

/// Opens firewalls, and remembers which it could not open.
pub(crate) struct Guard {
    firewall: tokio::sync::Mutex<Firewall>,
    warnings: Mutex<Vec<String>>,
    damaged: Notify,
}

impl Guard {
    /// Opens sockets in the calling thread's namespace.
    pub(crate) fn open() -> kernel::Result<Self> {
        Ok(Self {
            firewall: tokio::sync::Mutex::new(Firewall::open()?),
            warnings: Mutex::default(),
            damaged: Notify::new(),
        })
    }

    /// Waits until chains or rules of our own table were changed. We may have done so ourselves: then a look
    /// finds everything in its place.
    pub(crate) async fn damaged(&self) {
        self.damaged.notified().await;
    }

    /// What stands in the way and is not ours to change.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().clone()
    }

    /// Looks at all firewalls and puts our rules where they are missing.
    pub(crate) async fn mend(&self, tunnel: &str) {
        let firewall = self.firewall.lock().await;
        let mut warnings = match open_all(&firewall, tunnel).await {
            Ok(warnings) => warnings,
            Err(error) => vec![error.to_string()],
        };
        drop(firewall);
        match xtables::legacy_forward() {
            Ok(Some(legacy)) if legacy.drops && !legacy.accepts_pods => warnings.push(xtables::mend(tunnel)),
            Ok(_) => {}
            Err(error) => warnings.push(error.to_string()),
        }
        let mut known = self.warnings.lock();
        for warning in warnings.iter().filter(|warning| !known.contains(warning)) {
            tracing::warn!(warning, "a foreign firewall is in the way");
        }
        *known = warnings;
    }

    /// Mends at each change and every ten seconds, until `stop`.
    pub(crate) async fn keep(&self, tunnel: &str, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.keep_on(tunnel) => {}
        }
    }

    async fn keep_on(&self, tunnel: &str) {
        let mut watch = None;
        loop {
            // The watch comes first: what happens after the look is told of.
            if watch.is_none() {
                let opened = Watch::open().await;
                watch = opened.inspect_err(|error| tracing::warn!(%error, "looking only now and then")).ok();
            }
            self.mend(tunnel).await;
            let told = async {
                match &mut watch {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            match tokio::time::timeout(RECHECK, told).await {
                Ok(Ok(touched)) if touched.ours => self.damaged.notify_one(),
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(error)) => {
                    tracing::debug!(%error, "watching the firewalls anew");
                    watch = None;
                    self.damaged.notify_one();
                    tokio::time::sleep(REOPEN).await;
                }
            }
        }
    }
}

/// Answers what could not be opened, with the mend.
async fn open_all(firewall: &Firewall, tunnel: &str) -> kernel::Result<Vec<String>> {
    let changes = firewall::plan(&firewall.observe().await?, tunnel);
    let chain_ids: BTreeSet<_> = changes.iter().map(firewall::Change::chain_id).collect();
    let mut warnings = Vec::new();
    for chain_id in chain_ids {
        match firewall.apply(chain_id, &changes).await {
            Ok(()) => {
                metrics::counter!("warren_netd_firewall_repairs_total").increment(1);
                tracing::info!(chain = %chain_id, "set the rules that let pods pass");
            }
            // Another program changes it at this moment; that will be told.
            Err(error) => warnings.push(format!(
                "the nftables chain {chain_id} drops what is forwarded, and netd cannot change it ({error}): accept \
                 there what comes from and goes to the links {}* and {tunnel}",
                crate::plan::attachments::PREFIX
            )),
        }
    }
    Ok(warnings)
}
