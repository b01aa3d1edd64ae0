//! Secrets at rest: what lies on the disk, and what opens it.

use std::{fs, path::Path, sync::Arc};

use serde_json::{Value, json};
use warren_store::{EmbeddedStore, Key, RESTORE_LEAP, Restorer, Store, Transaction};

const PLAIN: &str = "hunter2-in-the-clear";

fn open(directory: &Path) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(directory).expect("the store opens")
}

fn secret(name: &str) -> (Key, Value) {
    (Key::new("secrets", "default", name), json!({"metadata": {"name": name}, "data": {"password": PLAIN}}))
}

async fn write(store: &EmbeddedStore, (key, value): (Key, Value)) -> u64 {
    store.commit(Transaction::new().create(key, value)).await.expect("committed")
}

/// All bytes of all files below a directory.
fn on_disk(directory: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        match entry.path() {
            path if path.is_dir() => all.extend(on_disk(&path)),
            path => all.extend(fs::read(path).expect("readable")),
        }
    }
    all
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn no_secret_is_readable_in_the_files_and_everything_else_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let revision = write(&store, secret("db")).await;
    let config = Key::new("configmaps", "default", "c");
    write(&store, (config, json!({"metadata": {"name": "c"}, "data": {"a": "in-a-configmap"}}))).await;
    let token = Key::new("tokens.warren.internal", "", "t");
    write(&store, (token, json!({"metadata": {"name": "t"}, "spec": {"hash": "token-in-the-clear"}}))).await;
    let (key, value) = secret("db");
    let changed = Transaction::new().replace(key.clone(), revision, value.clone());
    store.commit(changed).await.expect("replaced");
    for _ in 0..2 {
        let bytes = on_disk(directory.path());
        assert!(!holds(&bytes, PLAIN) && !holds(&bytes, "token-in-the-clear"), "a secret lies on the disk");
        assert!(holds(&bytes, "in-a-configmap"), "this test would not find a secret");
        store.rotate().await.expect("rotated");
    }
    store.close();
    drop(store);
    let store = open(directory.path());
    let object = store.snapshot().get(&key).expect("kept").clone();
    assert_eq!(object.value["data"], value["data"]);
    assert!(!holds(&on_disk(directory.path()), PLAIN));
}

#[tokio::test]
async fn a_rotation_changes_the_key_and_the_old_one_opens_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let key_file = directory.path().join("keys/secrets.key");
    let store = open(directory.path());
    write(&store, secret("a")).await;
    write(&store, secret("b")).await;
    let before = store.snapshot();
    let old = fs::read_to_string(&key_file).expect("there");
    let rotated = store.rotate().await.expect("rotated");
    assert_eq!(rotated.objects, 2);
    let new = fs::read_to_string(&key_file).expect("there");
    assert!(new.contains(&rotated.key) && !old.contains(&rotated.key));
    assert_eq!(new.lines().filter(|line| !line.starts_with('#')).count(), 1, "the old key is forgotten");
    let revision = write(&store, secret("c")).await;
    assert_eq!(revision, before.revision + 1, "a rotation is no revision");
    store.close();
    drop(store);

    fs::write(&key_file, &old).expect("put back");
    let error = EmbeddedStore::open(directory.path()).err().expect("the wrong key").to_string();
    assert!(error.contains("secrets.key") && error.contains(&rotated.key), "{error}");
    fs::write(&key_file, format!("{old}{}", new.lines().last().expect("a line"))).expect("as if interrupted");
    let store = open(directory.path());
    assert_eq!(store.snapshot().list("secrets").count(), 3);
    let kept = fs::read_to_string(&key_file).expect("there");
    assert_eq!(kept, new, "an interrupted rotation is finished");
}

#[tokio::test]
async fn without_its_key_file_a_store_is_refused_with_the_mend_and_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    write(&store, secret("db")).await;
    store.close();
    drop(store);
    let key_file = directory.path().join("keys/secrets.key");
    let text = fs::read(&key_file).expect("there");
    fs::remove_file(&key_file).expect("removed");
    for _ in 0..2 {
        let error = EmbeddedStore::open(directory.path()).err().expect("no key").to_string();
        assert!(error.contains("secrets.key") && error.contains("warren restore"), "{error}");
        assert!(!key_file.exists(), "a new key must not take the place of the lost one");
    }
    fs::write(&key_file, text).expect("put back");
    assert!(open(directory.path()).snapshot().get(&secret("db").0).is_some());
}

#[tokio::test]
async fn a_backup_makes_the_same_state_elsewhere_in_a_newer_epoch() {
    let (from, to) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let store = open(from.path());
    write(&store, secret("db")).await;
    let pod = Key::new("pods", "default", "web");
    write(&store, (pod.clone(), json!({"metadata": {"name": "web", "uid": "u"}}))).await;
    let backup = store.backup();
    let lines: Vec<String> = backup.lines().collect();
    assert!(lines.iter().all(|line| !line.contains(PLAIN)), "a secret is readable in the backup");

    let mut restorer = Restorer::new(&backup.key_file()).expect("a key");
    lines.iter().for_each(|line| restorer.line(line).expect("understood"));
    let (epoch, revision) = (backup.snapshot().epoch + 1, backup.snapshot().revision);
    restorer.write(to.path(), &to.path().join("keys"), epoch, revision).expect("written");
    let restored = open(to.path());
    let snapshot = restored.snapshot();
    assert_eq!((snapshot.epoch, snapshot.revision), (epoch, revision + RESTORE_LEAP));
    let values = |snapshot: &warren_store::Snapshot| -> Vec<(String, u64, Value)> {
        snapshot.iter().map(|o| (o.key.to_string(), o.revision, o.value.clone())).collect()
    };
    assert_eq!(values(&snapshot), values(&store.snapshot()));
    assert!(restored.watch(revision).is_err(), "clients of the old state start anew");

    let again = Restorer::new(&backup.key_file()).expect("a key");
    let error = again.write(to.path(), &to.path().join("keys"), 9, 9).expect_err("occupied").to_string();
    assert!(error.contains("empty data directory"), "{error}");
    for damaged in ["{", "{}", r#"{"resource":"pods","name":"a","revision":1}"#] {
        let mut restorer = Restorer::new(&backup.key_file()).expect("a key");
        assert!(restorer.line(damaged).is_err(), "{damaged}");
    }
    assert!(Restorer::new("nonsense").is_err());
}
