//! The last accepted state on disk, without what comes from Secrets.
//!
//! ```text
//!  file on disk:  every item, Secrets blanked out │ the blanked items whole, sealed
//!  in memory:     the key (a file on tmpfs, or this process alone)
//! ```
//!
//! A member that restarts finds both. A machine that was rebooted has lost the key: its pods start from the kept
//! state, except for containers that need a Secret, which wait for the controller and say so.
//!
//! The whole is written seldom: changes are appended to it ([`crate::journal`]).

use std::{
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use parking_lot::Mutex;
use prost::Message as _;
use warren_proto::{
    control::{
        BasicAuthentication, Container, FeedItem, Files, KeptFeed, PodInstruction, TlsCertificate, Volume,
        feed_item::Item, volume::Source,
    },
    vocabulary::Cursor,
};
use zeroize::Zeroizing;

use crate::{
    feed::FeedState,
    identity::write_private,
    items::{Difference, Items},
    journal::{self, Journal, KeptChange},
};

const KEY_FILE: &str = ".feed.key";
const BOUND_TO: &[u8] = b"warren kept feed";
const NONCE: usize = 24;
const LOST_REASON: &str = "CreateContainerConfigError";
const LOST_MESSAGE: &str = "the container needs a Secret; Secrets are kept in memory only, and this machine was \
     restarted since: waiting for the controller to send them again";

/// Where a state is kept, and the key to its secrets.
pub(crate) struct Keeper {
    file: PathBuf,
    key: Zeroizing<[u8; 32]>,
    /// What the file says; `None` where that is unknown, or not to be added to.
    written: Mutex<Option<Written>>,
}

struct Written {
    state: FeedState,
    journal: Journal,
}

impl Keeper {
    /// `memory` is a directory on tmpfs; without one, secrets are lost when this process ends.
    pub(crate) fn new(file: PathBuf, memory: Option<&Path>) -> Self {
        let key = memory.and_then(|directory| {
            key_in(directory)
                .inspect_err(|error| {
                    let error = format!("{error:#}");
                    tracing::warn!(
                        error,
                        "the key of kept Secrets stays in this process: a restart loses it"
                    );
                })
                .ok()
        });
        let key = key.unwrap_or_else(|| Zeroizing::new(rand::random()));
        Self { file, key, written: Mutex::new(None) }
    }

    /// Writes a state: what changed since the last one, or all of it where that is less.
    pub(crate) fn store(&self, state: &FeedState) -> anyhow::Result<()> {
        let mut written = self.written.lock();
        if let Some(last) = written.as_mut().filter(|last| !last.journal.is_heavy()) {
            match last.journal.append(&self.change(&last.state, state)) {
                Ok(()) => {
                    last.state.clone_from(state);
                    return Ok(());
                }
                Err(error) => tracing::warn!(error = format!("{error:#}"), "keeping the whole feed anew"),
            }
        }
        // Until it is done the file is open to doubt.
        *written = None;
        if let Some(directory) = self.file.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let Cursor { epoch, revision } = state.cursor;
        let (items, sealed) = self.divide(state.cursor, state.items.iter());
        let journal = Journal::begin(&self.file, &KeptFeed { epoch, revision, items, sealed })?;
        *written = Some(Written { state: state.clone(), journal });
        Ok(())
    }

    /// Reads the last state that was written whole.
    pub(crate) fn load(&self) -> anyhow::Result<Option<FeedState>> {
        let Some(kept) = journal::read(&self.file)? else { return Ok(None) };
        let KeptFeed { epoch, revision, items, sealed } = kept.base;
        let mut state = FeedState { cursor: Cursor { epoch, revision }, items: Items::new() };
        let mut is_whole = self.take_in(&mut state.items, items, &sealed);
        for KeptChange { epoch, revision, items, deletes, sealed } in kept.changes {
            deletes.iter().for_each(|key| _ = state.items.remove(key));
            is_whole &= self.take_in(&mut state.items, items, &sealed);
            state.cursor = Cursor { epoch, revision };
        }
        if !is_whole {
            tracing::warn!("the key of kept Secrets is gone; what needs them waits for the controller");
        }
        // What our key does not open is not to be added to: it would be missed again at each start.
        let journal = kept.journal.filter(|_| is_whole);
        *self.written.lock() = journal.map(|journal| Written { state: state.clone(), journal });
        Ok(Some(state))
    }

    /// Puts items in; whether what was sealed of them could be opened.
    fn take_in(&self, items: &mut Items, new: Vec<FeedItem>, sealed: &[u8]) -> bool {
        items.extend(new.into_iter().filter_map(|FeedItem { key, item }| Some((key, item?))));
        if sealed.is_empty() {
            return true;
        }
        let opened = self.open(sealed);
        let is_open = opened.is_some();
        opened.into_iter().for_each(|whole| put_back(items, whole));
        is_open
    }

    /// What leads from one state to the next.
    fn change(&self, old: &FeedState, new: &FeedState) -> KeptChange {
        let (mut upserts, mut deletes) = (Vec::new(), Vec::new());
        for Difference { key, after, .. } in new.items.since(&old.items) {
            match after {
                Some(item) => upserts.push((key, item)),
                None => deletes.push(key.clone()),
            }
        }
        let Cursor { epoch, revision } = new.cursor;
        let (items, sealed) = self.divide(new.cursor, upserts.into_iter());
        KeptChange { epoch, revision, items, deletes, sealed }
    }

    /// Items without what comes from Secrets, and, sealed, the whole of those that something was taken from.
    fn divide<'i>(
        &self,
        at: Cursor,
        items: impl Iterator<Item = (&'i String, &'i Item)>,
    ) -> (Vec<FeedItem>, Vec<u8>) {
        let (mut open, mut secret) = (Vec::new(), Vec::new());
        for (key, item) in items {
            let whole = || FeedItem { key: key.clone(), item: Some(item.clone()) };
            match blanked(item) {
                Some(blank) => {
                    secret.push(whole());
                    open.push(FeedItem { key: key.clone(), item: Some(blank) });
                }
                None => open.push(whole()),
            }
        }
        if secret.is_empty() {
            return (open, Vec::new());
        }
        let Cursor { epoch, revision } = at;
        let whole = KeptFeed { epoch, revision, items: secret, sealed: Vec::new() };
        (open, self.seal(&Zeroizing::new(whole.encode_to_vec())))
    }

    fn seal(&self, message: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE] = rand::random();
        let sealed = XChaCha20Poly1305::new((&*self.key).into())
            .encrypt(XNonce::from_slice(&nonce), Payload { msg: message, aad: BOUND_TO })
            .expect("a message is shorter than 256 GiB");
        [&nonce[..], &sealed].concat()
    }

    fn open(&self, sealed: &[u8]) -> Option<KeptFeed> {
        let (nonce, message) = sealed.split_at_checked(NONCE)?;
        let cipher = XChaCha20Poly1305::new((&*self.key).into());
        let opened =
            cipher.decrypt(XNonce::from_slice(nonce), Payload { msg: message, aad: BOUND_TO }).ok()?;
        KeptFeed::decode(&Zeroizing::new(opened)[..]).ok()
    }
}

fn key_in(directory: &Path) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    crate::private::is_ours(directory)?;
    let path = directory.join(KEY_FILE);
    if let Some(key) =
        std::fs::read(&path).ok().map(Zeroizing::new).and_then(|bytes| bytes[..].try_into().ok())
    {
        return Ok(Zeroizing::new(key));
    }
    let key = Zeroizing::new(rand::random::<[u8; 32]>());
    write_private(&path, &key[..])?;
    Ok(key)
}

fn put_back(items: &mut Items, whole: KeptFeed) {
    for FeedItem { key, item } in whole.items {
        let (Some(item), Some(place)) = (item, items.get_mut(&key)) else { continue };
        if blanked(&item).as_ref() == Some(place) {
            *place = item;
        }
    }
}

/// The item without what comes from Secrets; `None` when nothing does.
fn blanked(item: &Item) -> Option<Item> {
    let pod = match item {
        Item::Pod(pod) => pod,
        Item::TlsCertificate(certificate) => {
            return Some(Item::TlsCertificate(TlsCertificate { key: Vec::new(), ..certificate.clone() }));
        }
        Item::BasicAuthentication(_) => {
            return Some(Item::BasicAuthentication(BasicAuthentication { users: Vec::new(), lost: true }));
        }
        _ => return None,
    };
    let is_secret =
        |volume: &Volume| matches!(&volume.source, Some(Source::Files(Files { secret: true, .. })));
    let needs_secret = |container: &Container| {
        container.holds_secrets
            || container.mounts.iter().any(|mount| {
                pod.volumes.iter().any(|volume| volume.name == mount.volume && is_secret(volume))
            })
    };
    let mut containers = pod.containers.iter().chain(&pod.init_containers);
    if !containers.any(needs_secret) && !pod.volumes.iter().any(is_secret) {
        return None;
    }
    let blank = |container: &Container| {
        if !needs_secret(container) {
            return container.clone();
        }
        Container {
            command: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            mounts: Vec::new(),
            unresolved_reason: LOST_REASON.to_owned(),
            unresolved_message: LOST_MESSAGE.to_owned(),
            ..container.clone()
        }
    };
    Some(Item::Pod(PodInstruction {
        containers: pod.containers.iter().map(blank).collect(),
        init_containers: pod.init_containers.iter().map(blank).collect(),
        // Left out, not emptied: the files of a running pod stay as they are.
        volumes: pod.volumes.iter().filter(|volume| !is_secret(volume)).cloned().collect(),
        ..pod.clone()
    }))
}

#[cfg(test)]
mod histories;

#[cfg(test)]
mod tests {
    use warren_proto::control::{EnvVar, File, Mount};

    use super::*;

    pub(super) const PLAIN: &str = "hunter2-in-the-clear";

    pub(super) fn state() -> FeedState {
        let env = |value: &str| vec![EnvVar { name: "A".into(), value: value.into() }];
        let plain = Container { name: "plain".into(), env: env("public"), ..Container::default() };
        let secret = Container {
            name: "secret".into(),
            env: env(PLAIN),
            command: vec![format!("--password={PLAIN}")],
            holds_secrets: true,
            ..Container::default()
        };
        let mount = Mount { volume: "v".into(), path: "/v".into(), ..Mount::default() };
        let mounting = Container { name: "mounting".into(), mounts: vec![mount], ..Container::default() };
        let file = File { path: "p".into(), content: PLAIN.into(), mode: 0 };
        let files = Source::Files(Files { files: vec![file], secret: true, ..Files::default() });
        let with = |uid: &str, containers, volumes| {
            let pod = PodInstruction { uid: uid.into(), containers, volumes, ..PodInstruction::default() };
            (format!("pod/{uid}"), Item::Pod(pod))
        };
        let volume = Volume { name: "v".into(), source: Some(files) };
        let items = [
            with("open", vec![plain.clone()], vec![]),
            with("mixed", vec![plain, secret, mounting], vec![volume]),
        ];
        FeedState { cursor: Cursor { epoch: 1, revision: 7 }, items: items.into() }
    }

    pub(super) fn pod<'a>(state: &'a FeedState, uid: &str) -> &'a PodInstruction {
        match &state.items[&format!("pod/{uid}")] {
            Item::Pod(pod) => pod,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn secrets_are_not_on_the_disk_and_come_back_while_the_key_is_in_memory() {
        let (disk, memory) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let file = disk.path().join("feeds/agent.bin");
        let keeper = || Keeper::new(file.clone(), Some(memory.path()));
        keeper().store(&state()).expect("written");
        let bytes = std::fs::read(&file).expect("readable");
        let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!holds(PLAIN), "a secret lies on the disk");
        assert!(holds("public"), "this test would not find a secret");
        assert_eq!(keeper().load().expect("readable"), Some(state()), "a restart loses nothing");
    }

    #[test]
    fn keys_and_users_of_a_gateway_are_not_on_the_disk_either() {
        let (disk, memory) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let file = disk.path().join("gateway.bin");
        let certificate = TlsCertificate {
            hosts: vec!["shop.test".into()],
            certificate: b"public".to_vec(),
            key: PLAIN.into(),
        };
        let users = BasicAuthentication { users: format!("anna:{PLAIN}").into_bytes(), lost: false };
        let items = [
            ("tls/shop/web".to_owned(), Item::TlsCertificate(certificate)),
            ("basic/shop/users".to_owned(), Item::BasicAuthentication(users)),
        ];
        let state = FeedState { cursor: Cursor { epoch: 1, revision: 7 }, items: items.into() };
        let keeper = || Keeper::new(file.clone(), Some(memory.path()));
        keeper().store(&state).expect("written");
        let bytes = std::fs::read(&file).expect("readable");
        assert!(!bytes.windows(PLAIN.len()).any(|window| window == PLAIN.as_bytes()));
        assert_eq!(keeper().load().expect("readable"), Some(state));
        std::fs::remove_file(memory.path().join(KEY_FILE)).expect("a reboot");
        let kept = keeper().load().expect("readable").expect("a state");
        assert!(
            matches!(&kept.items["tls/shop/web"], Item::TlsCertificate(lost) if lost.key.is_empty() && lost.hosts == ["shop.test"])
        );
        assert!(
            matches!(&kept.items["basic/shop/users"], Item::BasicAuthentication(lost) if lost.lost && lost.users.is_empty())
        );
    }

    #[test]
    fn without_the_key_only_containers_that_need_secrets_wait() {
        let (disk, memory) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let file = disk.path().join("agent.bin");
        Keeper::new(file.clone(), Some(memory.path())).store(&state()).expect("written");
        std::fs::remove_file(memory.path().join(KEY_FILE)).expect("a reboot");
        for memory in [Some(memory.path()), None] {
            let kept = Keeper::new(file.clone(), memory).load().expect("readable").expect("a state");
            assert_eq!(kept.cursor, state().cursor, "the fence stays");
            assert_eq!(pod(&kept, "open"), pod(&state(), "open"));
            let mixed = pod(&kept, "mixed");
            let waits: Vec<bool> =
                mixed.containers.iter().map(|container| !container.unresolved_reason.is_empty()).collect();
            assert_eq!(waits, [false, true, true]);
            assert!(mixed.volumes.is_empty(), "an empty volume would empty the files of a running pod");
            assert!(mixed.containers[1].unresolved_message.contains("waiting for the controller"));
        }
    }

    #[test]
    fn what_was_sealed_for_another_state_is_not_put_back() {
        let mut items = state().items;
        let whole = KeptFeed {
            items: items
                .iter()
                .map(|(key, item)| FeedItem { key: key.clone(), item: Some(item.clone()) })
                .collect(),
            ..KeptFeed::default()
        };
        let Some(Item::Pod(pod)) = items.get_mut("pod/mixed") else { panic!("a pod") };
        pod.terminate_after_seconds = Some(3);
        let before = items.clone();
        put_back(&mut items, whole);
        assert_eq!(items, before);
    }
}
