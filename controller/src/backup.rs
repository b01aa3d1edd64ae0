//! Backups: all that a controller needs to be itself again, as one tar archive.
//!
//! ```text
//!  warren-backup.json     what this is, of which revision
//!  keys/secrets.key       the key to the Secrets below
//!  pki/…, admin.kubeconfig
//!  store/NNNNNN.jsonl     the objects, Secrets sealed
//!  end.json               the check sum of everything before
//! ```
//!
//! The holder of a backup has the cluster. A restored store begins a new epoch, so that members accept it although
//! they have seen newer revisions of the old one.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use warren_store::{Backup, EmbeddedStore, Restorer};
use warren_vocabulary::resources::TOKENS;

use crate::operations::{administrators_only, refused, status};

/// A backup of this name in the data directory is restored at the next start, whatever is there already: the old
/// state is moved aside. `warren restore` puts it there.
pub const INBOX: &str = "restore.tar";

const FORMAT: u32 = 1;
const HEAD: &str = "warren-backup.json";
const KEYS: &str = "keys/secrets.key";
const END: &str = "end.json";
const KUBECONFIG: &str = "admin.kubeconfig";
/// What makes up a controller's state, the store last: where it is, the rest is.
const STATE: [&str; 4] = ["keys", "pki", KUBECONFIG, "store"];
const STAGING: &str = "restoring";
/// How much of the store goes into one entry of the archive.
const ENTRY: usize = 1 << 20;
/// Nothing in a backup is larger; a damaged length must not exhaust memory.
const LARGEST_ENTRY: u64 = 64 << 20;

/// What a backup says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    format: u32,
    /// The version of Warren that made it.
    pub warren: String,
    /// The store's epoch.
    pub epoch: u64,
    /// The revision that it holds.
    pub revision: u64,
    /// How many objects it holds.
    pub objects: usize,
    /// When it was taken, RFC 3339.
    pub taken: String,
}

#[derive(Serialize, Deserialize)]
struct End {
    sha256: String,
}

// ---- endpoints

#[derive(Clone)]
struct Context {
    store: Arc<EmbeddedStore>,
    directory: Arc<PathBuf>,
}

/// `/warren/v1/backup` and `/warren/v1/secrets/rotate`, for administrators.
pub(crate) fn router(store: Arc<EmbeddedStore>, directory: PathBuf) -> Router {
    Router::new()
        .route("/warren/v1/backup", get(download))
        .route("/warren/v1/secrets/rotate", post(rotate))
        .route_layer(middleware::from_fn(administrators_only))
        .with_state(Context { store, directory: Arc::new(directory) })
}

async fn rotate(State(context): State<Context>) -> Response {
    match context.store.rotate().await {
        Ok(rotated) => {
            let answer = serde_json::json!({"key": rotated.key, "objects": rotated.objects});
            Json(answer).into_response()
        }
        Err(error) => refused(&error),
    }
}

async fn download(State(context): State<Context>) -> Response {
    let files = match state_files(&context.directory) {
        Ok(files) => files,
        Err(error) => {
            return status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", format!("{error:#}"));
        }
    };
    let (sender, receiver) = mpsc::channel(4);
    let backup = context.store.backup();
    tokio::task::spawn_blocking(move || {
        let out = Chunks { sender: sender.clone(), buffer: Vec::new() };
        if let Err(error) = write(out, &backup, &files, Timestamp::now()) {
            tracing::warn!(error = format!("{error:#}"), "a backup was not finished");
            // Breaks the answer off, so that its reader does not take a part for the whole.
            let _ = sender.blocking_send(Err(io::Error::other("the backup was not finished")));
        }
    });
    ([(header::CONTENT_TYPE, "application/x-tar")], Body::from_stream(ReceiverStream::new(receiver)))
        .into_response()
}

/// The answer's body as something to write into.
struct Chunks {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= 1 << 16 {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        self.sender.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

// ---- writing

/// The certificates and the kubeconfig, by their names in the archive.
fn state_files(directory: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    let pki = directory.join("pki");
    for entry in fs::read_dir(&pki).with_context(|| format!("cannot read {}", pki.display()))? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().filter(|name| is_plain(name));
        if let Some(name) = name
            && entry.file_type()?.is_file()
        {
            files.push((format!("pki/{name}"), fs::read(entry.path())?));
        }
    }
    let kubeconfig = directory.join(KUBECONFIG);
    files.push((
        KUBECONFIG.to_owned(),
        fs::read(&kubeconfig).with_context(|| format!("cannot read {}", kubeconfig.display()))?,
    ));
    Ok(files)
}

fn write(
    out: impl Write,
    backup: &Backup,
    files: &[(String, Vec<u8>)],
    now: Timestamp,
) -> anyhow::Result<()> {
    let snapshot = backup.snapshot();
    let summary = Summary {
        format: FORMAT,
        warren: env!("CARGO_PKG_VERSION").to_owned(),
        epoch: snapshot.epoch,
        revision: snapshot.revision,
        objects: snapshot.len(),
        taken: warren_write::metadata::timestamp(now),
    };
    let mut archive = Archive { builder: tar::Builder::new(out), digest: Sha256::new(), now };
    archive.add(HEAD, &serde_json::to_vec(&summary)?)?;
    archive.add(KEYS, backup.key_file().as_bytes())?;
    for (name, content) in files {
        archive.add(name, content)?;
    }
    let (mut part, mut number) = (String::new(), 0);
    let mut lines = backup.lines().peekable();
    while let Some(line) = lines.next() {
        part.push_str(&line);
        part.push('\n');
        if part.len() >= ENTRY || lines.peek().is_none() {
            number += 1;
            archive.add(&format!("store/{number:06}.jsonl"), part.as_bytes())?;
            part.clear();
        }
    }
    let end = End { sha256: hexadecimal(&archive.digest) };
    archive.add(END, &serde_json::to_vec(&end)?)?;
    archive.builder.into_inner()?.flush()?;
    Ok(())
}

struct Archive<W: Write> {
    builder: tar::Builder<W>,
    digest: Sha256,
    now: Timestamp,
}

impl<W: Write> Archive<W> {
    fn add(&mut self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        take_in(&mut self.digest, name, content);
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(self.now.as_second()).unwrap_or_default());
        Ok(self.builder.append_data(&mut header, name, content)?)
    }
}

fn take_in(digest: &mut Sha256, name: &str, content: &[u8]) {
    for part in [name.as_bytes(), content] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
}

fn hexadecimal(digest: &Sha256) -> String {
    digest.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

// ---- reading

/// A whole backup, its check sum verified.
struct Contents {
    summary: Summary,
    restorer: Restorer,
    files: Vec<(String, Vec<u8>)>,
}

/// Reads a backup to its end and says what it is; an error if it is damaged or cut off.
pub fn verify(archive: impl Read) -> anyhow::Result<Summary> {
    Ok(read(archive)?.summary)
}

fn read(archive: impl Read) -> anyhow::Result<Contents> {
    let mut archive = tar::Archive::new(archive);
    let (mut summary, mut restorer) = (None::<Summary>, None::<Restorer>);
    let (mut files, mut digest, mut ended) = (Vec::new(), Sha256::new(), false);
    // The errors of readers quote what they read, and this may be any file of the user's, or hold Secrets: they are not
    // passed on.
    let damaged = |_| anyhow!("this is no backup of Warren's, or it is damaged");
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name =
            entry.path().map_err(damaged)?.to_str().context("a name in the backup is not text")?.to_owned();
        ensure!(!ended, "there is something after the backup's end");
        ensure!(
            summary.is_some() || name == HEAD,
            "this is no backup of Warren's: it does not begin with {HEAD}"
        );
        ensure!(entry.size() <= LARGEST_ENTRY, "a file in the backup is too large");
        let mut content = Vec::new();
        let size = entry.size();
        entry.read_to_end(&mut content).context("the backup is cut off")?;
        ensure!(content.len() as u64 == size, "the backup is cut off");
        let sum_before = hexadecimal(&digest);
        take_in(&mut digest, &name, &content);
        if name == HEAD {
            let head: Summary =
                serde_json::from_slice(&content).map_err(|_| anyhow!("the backup's head is damaged"))?;
            ensure!(
                head.format == FORMAT,
                "the backup has format {}, this version of Warren reads format {FORMAT}",
                head.format
            );
            summary = Some(head);
        } else if name == KEYS {
            let text = std::str::from_utf8(&content).context("the key file is not text")?;
            restorer = Some(Restorer::new(text).context("the backup is damaged")?);
        } else if name == END {
            let end: End =
                serde_json::from_slice(&content).map_err(|_| anyhow!("the backup's end is damaged"))?;
            ensure!(end.sha256 == sum_before, "the backup is damaged: its check sum is wrong");
            ended = true;
        } else if name == KUBECONFIG || name.strip_prefix("pki/").is_some_and(is_plain) {
            files.push((name, content));
        } else if name.strip_prefix("store/").is_some_and(|part| is_plain(part) && part.ends_with(".jsonl")) {
            let restorer = restorer.as_mut().context("the backup's objects come before their key")?;
            let text =
                std::str::from_utf8(&content).map_err(|_| anyhow!("the backup is damaged in {name}"))?;
            text.lines()
                .try_for_each(|line| restorer.line(line))
                .with_context(|| format!("the backup is damaged in {name}"))?;
        } else {
            bail!("the backup holds a file that this version of Warren does not know");
        }
    }
    ensure!(ended, "the backup is not whole: it was cut off, or it is no backup of Warren's");
    let (summary, restorer) = (summary.context("it has no head")?, restorer.context("it has no key file")?);
    ensure!(restorer.len() == summary.objects, "the backup lacks objects");
    Ok(Contents { summary, restorer, files })
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}

// ---- restoring

/// Restores what `--restore` or the inbox names, if any.
pub(crate) fn restore_if_wanted(directory: &Path, wanted: Option<&Path>) -> anyhow::Result<()> {
    let inbox = directory.join(INBOX);
    if let Some(file) = wanted {
        let held = directory.join("store/store.redb");
        ensure!(
            !held.exists(),
            "{} exists: --restore needs a data directory without state. Start without --restore to go on with it, or \
             move it away",
            held.display()
        );
        return restore(directory, file);
    }
    if inbox.exists() {
        restore(directory, &inbox)?;
        fs::remove_file(&inbox).with_context(|| format!("cannot remove {}", inbox.display()))?;
    }
    Ok(())
}

fn restore(directory: &Path, file: &Path) -> anyhow::Result<()> {
    let shown = file.display();
    let archive = fs::File::open(file).with_context(|| format!("cannot open the backup {shown}"))?;
    let mut contents = read(io::BufReader::new(archive))
        .with_context(|| format!("cannot restore {shown}; nothing was changed"))?;
    // Some of them were used since, or revoked, and nobody can tell any more.
    let tokens = contents.restorer.leave_out(TOKENS);
    let staging = directory.join(STAGING);
    remove(&staging)?;
    let summary = contents.summary.clone();
    let epoch = next_epoch(summary.epoch, Timestamp::now());
    stage(&staging, contents, epoch).with_context(|| format!("cannot restore {shown}"))?;
    move_aside(directory)?;
    for name in STATE {
        let to = directory.join(name);
        fs::rename(staging.join(name), &to)
            .with_context(|| format!("cannot put {} in place", to.display()))?;
    }
    fs::File::open(directory)?.sync_all()?;
    remove(&staging)?;
    tracing::info!(
        backup = %shown, taken = summary.taken, revision = summary.revision, objects = summary.objects, epoch,
        dropped_tokens = tokens, "restored"
    );
    Ok(())
}

/// Newer than the backup's, and than that of an earlier restore from the same backup, which members may have seen.
fn next_epoch(of_backup: u64, now: Timestamp) -> u64 {
    u64::try_from(now.as_second()).unwrap_or_default().max(of_backup + 1)
}

fn stage(staging: &Path, contents: Contents, epoch: u64) -> anyhow::Result<()> {
    let Contents { summary, restorer, files } = contents;
    for directory in [staging, &staging.join("pki")] {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    for (name, content) in files {
        let mut file =
            fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(staging.join(name))?;
        file.write_all(&content)?;
        file.sync_all()?;
    }
    restorer.write(&staging.join("store"), &staging.join("keys"), epoch, summary.revision)?;
    Ok(())
}

/// State that is in the way is kept, under another name.
fn move_aside(directory: &Path) -> anyhow::Result<()> {
    let present: Vec<&str> = STATE.into_iter().filter(|name| directory.join(name).exists()).collect();
    if present.is_empty() {
        return Ok(());
    }
    let second = Timestamp::now().as_second();
    let names = (0_u32..).map(|number| match number {
        0 => format!("replaced-{second}"),
        number => format!("replaced-{second}-{number}"),
    });
    let aside = names.map(|name| directory.join(name)).find(|path| !path.exists());
    let aside = aside.context("there is no name left for the state that is moved aside")?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&aside)?;
    for name in present {
        let from = directory.join(name);
        fs::rename(&from, aside.join(name))
            .with_context(|| format!("cannot move {} aside", from.display()))?;
    }
    tracing::warn!(to = %aside.display(), "the state that was here was moved aside");
    Ok(())
}

fn remove(directory: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use warren_store::{Key, Store as _, Transaction};

    use super::*;

    async fn archive(directory: &Path) -> Vec<u8> {
        let store = EmbeddedStore::open(directory).expect("a store");
        for number in 0..30 {
            let name = format!("s{number}");
            let value = json!({"metadata": {"name": name}, "data": {"a": "hunter2-in-the-clear"}});
            let create = Transaction::new().create(Key::new("secrets", "default", &name), value);
            store.commit(create).await.expect("committed");
        }
        let token = json!({"metadata": {"name": "t"}, "spec": {"secretSha256": "00", "expires": "2999-01-01T00:00:00Z"}});
        let create = Transaction::new().create(Key::new(TOKENS, "", "t"), token);
        store.commit(create).await.expect("committed");
        let mut out = Vec::new();
        let files = [("pki/ca.pem".to_owned(), b"CA".to_vec()), (KUBECONFIG.to_owned(), b"config".to_vec())];
        write(&mut out, &store.backup(), &files, Timestamp::UNIX_EPOCH).expect("written");
        store.close();
        out
    }

    #[tokio::test]
    async fn a_backup_is_restored_once_and_what_was_there_is_kept() {
        let (from, to) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let bytes = archive(from.path()).await;
        let summary = verify(&bytes[..]).expect("whole");
        assert_eq!((summary.objects, summary.revision), (31, 32));
        let file = from.path().join("b.tar");
        fs::write(&file, &bytes).expect("written");
        restore_if_wanted(to.path(), Some(&file)).expect("restored");
        assert_eq!(fs::read(to.path().join("pki/ca.pem")).expect("there"), b"CA");
        let open = || EmbeddedStore::open_with_keys(&to.path().join("store"), &to.path().join("keys"));
        let store = open().expect("a store");
        let snapshot = store.snapshot();
        assert_eq!(snapshot.list("secrets").count(), 30);
        assert_eq!(snapshot.list(TOKENS).count(), 0, "a token that was used since would open again");
        assert!(snapshot.epoch > summary.epoch && snapshot.revision > summary.revision);
        store.close();
        drop(store);

        let error = restore_if_wanted(to.path(), Some(&file)).expect_err("occupied").to_string();
        assert!(error.contains("without state"), "{error}");
        fs::write(to.path().join(INBOX), &bytes).expect("written");
        restore_if_wanted(to.path(), None).expect("restored");
        assert!(!to.path().join(INBOX).exists(), "it would be restored again");
        let kept = fs::read_dir(to.path()).expect("a directory").flatten();
        let kept = kept.filter(|entry| entry.file_name().to_string_lossy().starts_with("replaced-"));
        assert_eq!(kept.count(), 1);
        let again = open().expect("a store").snapshot();
        assert!(again.epoch >= snapshot.epoch && again.len() == 30);
    }

    #[tokio::test]
    async fn a_damaged_backup_changes_nothing() {
        let (from, to) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let bytes = archive(from.path()).await;
        let file = from.path().join("b.tar");
        let mut damages: Vec<Vec<u8>> = [0, 100, 512, 5_000, bytes.len() / 2, bytes.len() - 3_000]
            .map(|end| bytes[..end].to_vec())
            .into();
        for index in (0..bytes.len() - 1_024).step_by(997) {
            if bytes[index] != 0 {
                let mut damaged = bytes.clone();
                damaged[index] ^= 4;
                damages.push(damaged);
            }
        }
        assert!(damages.len() > 10);
        for (number, damaged) in damages.iter().enumerate() {
            // What only a header says (times, modes) is not restored and may differ.
            if let Ok(summary) = verify(&damaged[..]) {
                assert_eq!(summary, verify(&bytes[..]).expect("whole"), "damage {number}");
                continue;
            }
            fs::write(&file, damaged).expect("written");
            restore_if_wanted(to.path(), Some(&file)).expect_err("damaged");
            assert_eq!(fs::read_dir(to.path()).expect("a directory").count(), 0, "damage {number}");
        }
    }

    #[tokio::test]
    async fn no_error_repeats_what_the_file_holds() {
        let secret = "hunter2-in-the-clear";
        let of = |name: &str, content: &str| {
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, name, content.as_bytes()).expect("appended");
            builder.into_inner().expect("whole")
        };
        let directory = tempfile::tempdir().expect("a directory");
        let whole = archive(directory.path()).await;
        let mut parsed = tar::Archive::new(&whole[..]);
        let head = parsed.entries().expect("entries").next().expect("a head");
        let mut text = String::new();
        head.expect("a head").read_to_string(&mut text).expect("text");
        let begin = of(HEAD, &text);
        let begun =
            |name: &str, content: &str| [&begin[..begin.len() - 1_024], &of(name, content)[..]].concat();
        let files = [
            secret.repeat(100).into_bytes(),
            format!("{secret}\n").repeat(512).into_bytes(),
            of(secret, secret),
            of(HEAD, &format!("{{\"format\": \"{secret}\"}}")),
            of(HEAD, &format!("\"{secret}\"")),
            begun(KEYS, secret),
            begun(secret, secret),
            begun(END, &format!("\"{secret}\"")),
            begun("store/000001.jsonl", &format!("\"{secret}\"")),
        ];
        for (number, file) in files.iter().enumerate() {
            let error = format!("{:?}", verify(&file[..]).expect_err("no backup"));
            assert!(!error.contains("hunter2"), "{number}: {error}");
        }
    }

    #[test]
    fn every_restore_begins_a_newer_epoch() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        assert!(next_epoch(1, at(2_000)) < next_epoch(1, at(2_001)));
        assert_eq!(next_epoch(5_000, at(2_000)), 5_001, "a clock that was set back");
    }
}
