//! Disks that lie, end early, or are full.

// One test runs a copy of this binary in a mount namespace of its own.
#![allow(clippy::disallowed_methods)]

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use serde_json::{Value, json};
use warren_store::{CommitError, EmbeddedStore, Key, Store, Transaction, Write};

fn key(name: &str) -> Key {
    Key::new("configmaps", "default", name)
}

fn object(name: &str, filler: usize) -> Value {
    json!({"metadata": {"name": name}, "data": {"filler": "x".repeat(filler)}})
}

type Content = BTreeMap<String, (u64, Value)>;

fn content(store: &EmbeddedStore) -> (u64, Content) {
    let snapshot = store.snapshot();
    let objects = snapshot.iter().map(|o| (o.key.to_string(), (o.revision, o.value.clone()))).collect();
    (snapshot.revision, objects)
}

/// A store with a little of everything, closed: two thirds of it in their place, the rest in the log.
fn sample(directory: &Path) -> (u64, Content) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let store = EmbeddedStore::open(directory).expect("the store opens");
    for number in 0..60 {
        let name = format!("object-{number}");
        let mut transaction = Transaction::new().create(key(&name), object(&name, number * 7));
        if number % 3 == 0 {
            transaction = transaction
                .create(Key::new("secrets", "default", &name), json!({"metadata": {"name": name}}));
        }
        runtime.block_on(store.commit(transaction)).expect("committed");
        if number == 40 {
            // Writes the whole file anew.
            runtime.block_on(store.rotate()).expect("rotated");
        }
    }
    let expected = content(&store);
    store.close();
    expected
}

/// Opens a damaged copy: either it is what it was, or it is refused, with the mend.
fn judge(directory: &Path, bytes: &[u8], expected: &(u64, Content), what: &str) -> bool {
    fs::write(directory.join("store.redb"), bytes).expect("written");
    match EmbeddedStore::open(directory) {
        Ok(store) => {
            assert!(content(&store) == *expected, "{what}: opened with another content");
            store.close();
            false
        }
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains("store.redb") || error.contains("secrets.key"), "{what}: {error}");
            assert!(error.contains("warren restore FILE"), "{what}: no mend in {error}");
            true
        }
    }
}

#[test]
fn a_shortened_database_is_refused_with_the_mend() {
    let directory = tempfile::tempdir().expect("a directory");
    let expected = sample(directory.path());
    let whole = fs::read(directory.path().join("store.redb")).expect("readable");
    assert!(!judge(directory.path(), &whole, &expected, "whole"));
    for part in [0, 1, 100, 4_096, whole.len() / 4, whole.len() / 2, whole.len() - 4_096, whole.len() - 1] {
        assert!(
            judge(directory.path(), &whole[..part], &expected, &format!("{part} bytes")),
            "{part} accepted"
        );
    }
}

#[test]
fn a_flipped_bit_never_changes_the_content() {
    let directory = tempfile::tempdir().expect("a directory");
    let expected = sample(directory.path());
    let whole = fs::read(directory.path().join("store.redb")).expect("readable");
    let mut refused = 0;
    // The head of the file densely, then evenly over the pages that hold something.
    let used: Vec<usize> = (0..whole.len()).filter(|index| whole[*index] != 0).collect();
    let spread = used.iter().copied().step_by((used.len() / 250).max(1));
    for index in (0..320).step_by(3).chain(spread) {
        let mut bytes = whole.clone();
        bytes[index] ^= 1 << (index % 8);
        refused += usize::from(judge(directory.path(), &bytes, &expected, &format!("bit in byte {index}")));
    }
    assert!(refused >= 20, "only {refused} of the damaged files were refused: this test damages nothing");
}

/// Not a test of its own: run by the test below, on a file system of 48 MiB.
#[test]
fn on_a_small_disk() {
    let Some(disk) = std::env::var_os("WARREN_STORE_SMALL_DISK").map(PathBuf::from) else { return };
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"]).arg(&disk).status();
    assert!(status.expect("mount runs").success(), "cannot mount a tmpfs");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let commit = |store: &Arc<EmbeddedStore>, transaction| runtime.block_on(store.commit(transaction));
    let directory = disk.join("store");
    let store = EmbeddedStore::open(&directory).expect("the store opens");
    assert!(directory.join("reserve").exists(), "there is room for the reserve");

    let mut written = Vec::new();
    for number in 0..8 {
        let name = format!("object-{number}");
        commit(&store, Transaction::new().create(key(&name), object(&name, 50_000))).expect("there is space");
        written.push(name);
    }
    // Somebody else fills the disk.
    let mut ballast = fs::File::create(disk.join("ballast")).expect("made");
    while ballast.write_all(&[7; 4_096]).is_ok() {}
    let error = loop {
        let name = format!("object-{}", written.len());
        match commit(&store, Transaction::new().create(key(&name), object(&name, 50_000))) {
            Ok(_) => written.push(name),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, CommitError::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("free space on the file system"), "{error}");
    let held = content(&store);
    assert_eq!(held.1.len(), written.len(), "what was refused is not visible");
    let refused = commit(&store, Transaction::new().create(key("more"), object("more", 1)));
    assert!(matches!(refused, Err(CommitError::Full { .. })), "{refused:?}");
    assert!(!directory.join("reserve").exists(), "the reserve is there for deletions");

    // Deletions go through, and so does what marks an object for deletion.
    for name in written.iter().rev().take(3) {
        let gone = Transaction { writes: vec![Write::Delete(key(name))], ..Transaction::new() };
        commit(&store, gone).expect("a deletion on a full disk");
    }
    let mut dying = object(&written[0], 10);
    dying["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    commit(&store, Transaction { writes: vec![Write::Put(key(&written[0]), dying)], ..Transaction::new() })
        .expect("a mark for deletion on a full disk");
    assert_eq!(store.snapshot().list("configmaps").count(), written.len() - 3);
    let refused = commit(&store, Transaction::new().create(key("more"), object("more", 1)));
    assert!(matches!(refused, Err(CommitError::Full { .. })), "{refused:?}");

    // A restart on the full disk starts, with everything that was acknowledged.
    let held = content(&store);
    store.close();
    drop(store);
    let store = EmbeddedStore::open(&directory).expect("a full disk does not keep the store from opening");
    assert!(content(&store) == held, "the restart changed the content");

    // Space returns, and with it the writes, without a restart.
    drop(ballast);
    fs::remove_file(disk.join("ballast")).expect("removed");
    commit(&store, Transaction::new().create(key("more"), object("more", 50_000))).expect("space is back");
    assert!(directory.join("reserve").exists(), "the reserve is kept back again");
    let held = content(&store);
    store.close();
    drop(store);
    let store = EmbeddedStore::open(&directory).expect("the store opens");
    assert!(content(&store) == held, "something was lost");
    println!("SMALL DISK PASSED after {} objects", written.len());
}

#[test]
fn a_full_disk_refuses_writes_lets_deletions_through_and_recovers() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = Command::new("unshare")
        .arg("--mount")
        .arg(std::env::current_exe().expect("this binary"))
        .args(["--exact", "on_a_small_disk", "--nocapture", "--test-threads=1"])
        .env("WARREN_STORE_SMALL_DISK", directory.path())
        .output()
        .expect("unshare runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    if error.contains("unshare failed") {
        return eprintln!("not run: this test needs the right to make a mount namespace ({error})");
    }
    assert!(out.contains("SMALL DISK PASSED"), "{out}\n{error}");
}
