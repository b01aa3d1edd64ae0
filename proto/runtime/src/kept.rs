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
//! The whole is written seldom; in between, changes are appended to a file of their own ([`crate::journal`]).

use std::{
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use imbl::ordmap::DiffItem;
use prost::Message as _;
use warren_proto::{
    control::{
        BasicAuthentication, Container, FeedItem, Files, KeptChange, KeptFeed, PodInstruction, TlsCertificate, Volume,
        feed_item::Item, volume::Source,
    },
    vocabulary::Cursor,
};
use zeroize::Zeroizing;

use crate::{
    feed::{Items, State},
    identity::write_private,
    journal::{self, Changes},
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
    /// What this process has written last, and where changes to it go.
    written: Option<(State, Changes)>,
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
        Self { file, key: key.unwrap_or_else(|| Zeroizing::new(rand::random())), written: None }
    }

    /// Writes a state: by what changed since the last one, where that is less.
    pub(crate) fn store(&mut self, state: &State) -> anyhow::Result<()> {
        let appended = self.written.as_mut().is_some_and(|(written, changes)| {
            if changes.are_many() {
                return false;
            }
            let appended = changes.append(&change(written, state, &self.key));
            *written = state.clone();
            appended.inspect_err(|error| tracing::warn!("{error:#}; writing the whole feed")).is_ok()
        });
        if appended { Ok(()) } else { self.store_whole(state) }
    }

    fn store_whole(&mut self, state: &State) -> anyhow::Result<()> {
        self.written = None;
        if let Some(directory) = self.file.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let Cursor { epoch, revision } = state.cursor;
        let (items, secret) = divided(state.items.iter());
        let sealed = sealed(state.cursor, secret, &self.key);
        let whole = KeptFeed { epoch, revision, items, sealed }.encode_to_vec();
        write_private(&self.file, &whole)?;
        self.written = Some((state.clone(), Changes::begin(&self.file, state.cursor, whole.len())));
        Ok(())
    }

    pub(crate) fn load(&self) -> anyhow::Result<Option<State>> {
        let bytes = match std::fs::read(&self.file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.file.display())),
        };
        let kept =
            KeptFeed::decode(&bytes[..]).with_context(|| format!("{} is damaged", self.file.display()))?;
        let mut state = State { cursor: Cursor { epoch: kept.epoch, revision: kept.revision }, ..State::default() };
        let mut is_whole = self.take_in(&mut state, kept.items, &kept.sealed);
        for change in journal::read(&self.file, state.cursor)? {
            change.deletes.iter().for_each(|key| drop(state.items.remove(key)));
            is_whole &= self.take_in(&mut state, change.items, &change.sealed);
            state.cursor = Cursor { epoch: change.epoch, revision: change.revision };
        }
        if !is_whole {
            tracing::warn!("the key of kept Secrets is gone; what needs them waits for the controller");
        }
        Ok(Some(state))
    }

    /// Whether what was sealed could be opened.
    fn take_in(&self, state: &mut State, items: Vec<FeedItem>, sealed: &[u8]) -> bool {
        let entries = items.into_iter().filter_map(|FeedItem { key, item }| Some((key, Arc::new(item?))));
        state.items.extend(entries);
        match self.open(sealed) {
            _ if sealed.is_empty() => true,
            Some(whole) => {
                put_back(&mut state.items, whole);
                true
            }
            None => false,
        }
    }

    fn open(&self, sealed: &[u8]) -> Option<KeptFeed> {
        let (nonce, message) = sealed.split_at_checked(NONCE)?;
        let cipher = XChaCha20Poly1305::new((&*self.key).into());
        let opened =
            cipher.decrypt(XNonce::from_slice(nonce), Payload { msg: message, aad: BOUND_TO }).ok()?;
        KeptFeed::decode(&Zeroizing::new(opened)[..]).ok()
    }
}

/// What leads from one state to the next.
fn change(old: &State, new: &State, key: &[u8; 32]) -> KeptChange {
    let (mut upserts, mut deletes) = (Vec::new(), Vec::new());
    for difference in old.items.diff(&new.items) {
        match difference {
            DiffItem::Add(key, item) | DiffItem::Update { new: (key, item), .. } => upserts.push((key, item)),
            DiffItem::Remove(key, _) => deletes.push(key.clone()),
        }
    }
    let (items, secret) = divided(upserts.into_iter());
    let Cursor { epoch, revision } = new.cursor;
    let Cursor { epoch: after_epoch, revision: after_revision } = old.cursor;
    let sealed = sealed(new.cursor, secret, key);
    KeptChange { epoch, revision, after_epoch, after_revision, items, deletes, sealed }
}

/// Items without what comes from Secrets, and whole those that something was taken from.
fn divided<'i>(items: impl Iterator<Item = (&'i String, &'i Arc<Item>)>) -> (Vec<FeedItem>, Vec<FeedItem>) {
    let (mut plain, mut secret) = (Vec::new(), Vec::new());
    for (key, item) in items {
        let whole = || FeedItem { key: key.clone(), item: Some((**item).clone()) };
        match blanked(item) {
            Some(blank) => {
                secret.push(whole());
                plain.push(FeedItem { key: key.clone(), item: Some(blank) });
            }
            None => plain.push(whole()),
        }
    }
    (plain, secret)
}

/// Nothing when nothing is secret.
fn sealed(cursor: Cursor, secret: Vec<FeedItem>, key: &[u8; 32]) -> Vec<u8> {
    if secret.is_empty() {
        return Vec::new();
    }
    let Cursor { epoch, revision } = cursor;
    let whole = KeptFeed { epoch, revision, items: secret, sealed: Vec::new() };
    let (message, nonce) = (Zeroizing::new(whole.encode_to_vec()), rand::random::<[u8; NONCE]>());
    let sealed = XChaCha20Poly1305::new(key.into())
        .encrypt(XNonce::from_slice(&nonce), Payload { msg: &message, aad: BOUND_TO })
        .expect("a message is shorter than 256 GiB");
    [&nonce[..], &sealed].concat()
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
        if blanked(&item).as_ref() == Some(&**place) {
            *place = Arc::new(item);
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
mod tests {
    use warren_proto::control::{EnvVar, File, Mount};

    use super::*;

    const PLAIN: &str = "hunter2-in-the-clear";

    fn state() -> State {
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
        let files = Source::Files(Files { files: vec![file], secret: true });
        let with = |uid: &str, containers, volumes| {
            let pod = PodInstruction { uid: uid.into(), containers, volumes, ..PodInstruction::default() };
            (format!("pod/{uid}"), Item::Pod(pod))
        };
        let volume = Volume { name: "v".into(), source: Some(files) };
        let items = [
            with("open", vec![plain.clone()], vec![]),
            with("mixed", vec![plain, secret, mounting], vec![volume]),
        ];
        State::new(Cursor { epoch: 1, revision: 7 }, items)
    }

    fn pod<'a>(state: &'a State, uid: &str) -> &'a PodInstruction {
        match &*state.items[&format!("pod/{uid}")] {
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
        let state = State::new(Cursor { epoch: 1, revision: 7 }, items);
        let keeper = || Keeper::new(file.clone(), Some(memory.path()));
        keeper().store(&state).expect("written");
        let bytes = std::fs::read(&file).expect("readable");
        assert!(!bytes.windows(PLAIN.len()).any(|window| window == PLAIN.as_bytes()));
        assert_eq!(keeper().load().expect("readable"), Some(state));
        std::fs::remove_file(memory.path().join(KEY_FILE)).expect("a reboot");
        let kept = keeper().load().expect("readable").expect("a state");
        assert!(
            matches!(&*kept.items["tls/shop/web"], Item::TlsCertificate(lost) if lost.key.is_empty() && lost.hosts == ["shop.test"])
        );
        assert!(
            matches!(&*kept.items["basic/shop/users"], Item::BasicAuthentication(lost) if lost.lost && lost.users.is_empty())
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
                .map(|(key, item)| FeedItem { key: key.clone(), item: Some((**item).clone()) })
                .collect(),
            ..KeptFeed::default()
        };
        let Some(Item::Pod(pod)) = items.get_mut("pod/mixed").map(Arc::make_mut) else { panic!("a pod") };
        pod.terminate_after_seconds = Some(3);
        let before = items.clone();
        put_back(&mut items, whole);
        assert_eq!(items, before);
    }

    #[test]
    fn changes_are_appended_and_read_after_what_an_earlier_version_has_written() {
        let (disk, memory) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let file = disk.path().join("agent.bin");
        let open = || Keeper::new(file.clone(), Some(memory.path()));
        let mut keeper = open();
        keeper.store(&state()).expect("written");
        let whole = std::fs::read(&file).expect("readable");
        let mut state = state();
        for revision in 8..40 {
            state.cursor.revision = revision;
            let Some(Item::Pod(pod)) = state.items.get_mut("pod/mixed").map(Arc::make_mut) else { panic!("a pod") };
            pod.terminate_after_seconds = Some(u32::try_from(revision).expect("small"));
            if revision == 20 {
                state.items.remove("pod/open");
            }
            keeper.store(&state).expect("written");
            assert_eq!(open().load().expect("readable"), Some(state.clone()), "{revision}");
        }
        assert_eq!(std::fs::read(&file).expect("readable"), whole, "the whole stays as it is");
        let changes = std::fs::read(journal::beside(&file)).expect("readable");
        assert!(!changes.windows(PLAIN.len()).any(|window| window == PLAIN.as_bytes()), "a secret lies on the disk");
        // What an earlier version would read is a state that was accepted; the changes to it are not another's.
        let before = KeptFeed::decode(&whole[..]).expect("an earlier version reads it");
        assert_eq!((before.revision, before.items.len()), (7, 2));
        std::fs::remove_file(memory.path().join(KEY_FILE)).expect("a reboot");
        let kept = open().load().expect("readable").expect("a state");
        assert_eq!((kept.cursor, pod(&kept, "mixed").terminate_after_seconds), (state.cursor, Some(39)));
        assert!(pod(&kept, "mixed").containers[1].unresolved_message.contains("waiting for the controller"));
    }

    #[test]
    fn many_changes_are_folded_into_the_whole() {
        let disk = tempfile::tempdir().expect("a directory");
        let file = disk.path().join("netd.bin");
        let mut keeper = Keeper::new(file.clone(), None);
        let container = |revision: u64| Container {
            image: "x".repeat(20_000),
            name: revision.to_string(),
            ..Container::default()
        };
        let (mut wholes, mut last) = (0, Vec::new());
        for revision in 1..=60 {
            let pod = PodInstruction { containers: vec![container(revision)], ..PodInstruction::default() };
            let state = State::new(Cursor { epoch: 1, revision }, [("pod/a".to_owned(), Item::Pod(pod))]);
            keeper.store(&state).expect("written");
            let whole = std::fs::read(&file).expect("readable");
            wholes += usize::from(whole != last);
            last = whole;
            let changes = std::fs::metadata(journal::beside(&file)).map_or(0, |file| file.len());
            assert!(changes < 320 << 10, "{changes} bytes of changes");
            assert_eq!(Keeper::new(file.clone(), None).load().expect("readable"), Some(state));
        }
        assert!((2..=8).contains(&wholes), "written {wholes} times");
    }
}
