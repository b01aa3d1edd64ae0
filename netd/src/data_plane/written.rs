//! Where the endpoints that were last written are kept, for a device that outlives us.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use warren_runtime::identity::write_private;

use crate::plan::peers::Written;

const WRITTEN: &str = "wireguard.endpoints";

/// What was written by an earlier process; nothing where that is unknown.
pub(super) fn load(state_dir: &Path) -> Written {
    let content = std::fs::read(state_dir.join(WRITTEN)).unwrap_or_default();
    let texts: BTreeMap<String, SocketAddr> = serde_json::from_slice(&content).unwrap_or_default();
    texts.into_iter().filter_map(|(key, endpoint)| Some((key.parse().ok()?, endpoint))).collect()
}

/// Keeps what was written.
pub(super) fn store(state_dir: &Path, written: &Written) {
    let texts: BTreeMap<_, _> = written.iter().map(|(key, endpoint)| (key.to_string(), endpoint)).collect();
    let stored = serde_json::to_vec(&texts)
        .map_err(anyhow::Error::from)
        .and_then(|content| write_private(&state_dir.join(WRITTEN), &content));
    if let Err(error) = stored {
        let error = format!("{error:#}");
        // The only cost: after a restart a roamed peer's endpoint is written once more.
        tracing::warn!(error, "cannot keep the endpoints that were written");
    }
}
