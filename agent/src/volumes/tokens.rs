//! The tokens that a pod's volumes have: what is in them, and what is remembered of it over a restart of the agent.
//!
//! Like Secrets they are in memory only: the files that the pod sees, and the list in `UID/tokens.json` beside them, which
//! says when they came and how long they live.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use warren_proto::control::{Files, PodInstruction, TokenFile, volume::Source};

use super::{VolumeError, Volumes, is_plain_name, make_private};

const LIST: &str = "tokens.json";

/// A token that a pod's volume has or shall have: where, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The volume.
    pub volume: String,
    /// The file in it.
    pub path: String,
    /// Whom it is shown to.
    pub audience: String,
    /// How long it was to live.
    pub seconds: i64,
}

/// A token that came. Its words are told to nobody.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Where it belongs.
    pub place: Place,
    /// The token.
    pub token: String,
    /// When it came, by the machine's clock, in milliseconds since 1970.
    pub came_ms: i64,
    /// How long it lives from then on.
    pub life: Duration,
}

/// The tokens that a pod wants.
pub fn wanted(pod: &PodInstruction) -> Vec<Place> {
    let volumes = pod.volumes.iter().filter_map(|volume| match &volume.source {
        Some(Source::Files(files)) => Some((&volume.name, files)),
        _ => None,
    });
    volumes.flat_map(|(name, files)| files.tokens.iter().map(|token| place(name, token))).collect()
}

fn place(volume: &str, token: &TokenFile) -> Place {
    Place {
        volume: volume.to_owned(),
        path: token.path.clone(),
        audience: token.audience.clone(),
        seconds: token.expiration_seconds,
    }
}

/// Whether nothing of a volume may be on the disk.
pub(super) fn is_secret(files: &Files) -> bool {
    files.secret || !files.tokens.is_empty()
}

/// The files of the tokens that are there; those that are still to come are left out.
pub(super) fn files(volume: &str, source: &Files, held: &[Held]) -> Vec<super::files::Content> {
    let content = |token: &TokenFile| {
        let place = place(volume, token);
        let held = held.iter().find(|held| held.place == place)?;
        Some(super::files::Content {
            path: token.path.clone(),
            bytes: held.token.clone().into_bytes(),
            mode: token.mode,
            user: token.user.and_then(|user| u32::try_from(user).ok()),
            group: token.group.and_then(|group| u32::try_from(group).ok()),
        })
    };
    source.tokens.iter().filter_map(content).collect()
}

impl Volumes {
    /// The tokens that a pod has. What cannot be read is not there: they are asked for anew.
    pub fn tokens(&self, uid: &str) -> Vec<Held> {
        let Some(memory) = self.memory().filter(|_| is_plain_name(uid)) else { return Vec::new() };
        let text = fs::read(memory.join(uid).join(LIST)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Remembers the tokens of a pod, all of them.
    pub fn keep_tokens(&self, uid: &str, held: &[Held]) -> Result<(), VolumeError> {
        if !is_plain_name(uid) {
            return Err(VolumeError::invalid(uid, "the pod's uid is not a plain file name"));
        }
        let volume = held.first().map_or("", |held| held.place.volume.as_str());
        let private = self.files_place(volume, true)?.join(uid);
        make_private(&private).and_then(|()| write(&private, held)).map_err(VolumeError::io(
            volume,
            "keep tokens in",
            &private,
        ))
    }
}

fn write(dir: &Path, held: &[Held]) -> io::Result<()> {
    let fresh = dir.join("tokens.fresh");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(&serde_json::to_vec(held)?)?;
    fs::rename(fresh, dir.join(LIST))
}
