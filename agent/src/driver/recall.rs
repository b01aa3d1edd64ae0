//! What a restarted agent must know though the engine does not remember it: a small file, written on change.

use std::{collections::BTreeMap, io, path::Path};

use serde::{Deserialize, Serialize};

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recall {
    /// Sandbox that netd was told to plug in, by pod.
    #[serde(default)]
    pub(super) attached: BTreeMap<String, String>,
    /// Probe verdicts of containers that have started.
    #[serde(default)]
    pub(super) containers: BTreeMap<String, ContainerRecall>,
}

/// What was last reported of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ContainerRecall {
    pub(super) started: bool,
    pub(super) ready: bool,
}

impl Recall {
    /// Reads the file; an absent or broken one costs a moment of unreadiness, nothing more.
    pub(super) fn load(path: &Path) -> Self {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "cannot understand what the last agent left; ignoring it");
                Self::default()
            }),
            Err(_) => Self::default(),
        }
    }

    pub(super) fn note(&mut self, id: &str, ready: bool) {
        self.containers.insert(id.to_owned(), ContainerRecall { started: true, ready });
    }

    /// Writes the file; a failure costs a moment of unreadiness after a restart, nothing more.
    pub(super) fn save_or_warn(&self, path: &Path) {
        if let Err(error) = self.save(path) {
            tracing::warn!(path = %path.display(), %error, "cannot keep probe verdicts over a restart");
        }
    }

    fn save(&self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension("fresh");
        std::fs::write(&fresh, serde_json::to_vec(self)?)?;
        std::fs::rename(fresh, path)
    }
}
