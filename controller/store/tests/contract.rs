//! What every engine must do, kill -9 included. Written against the trait, run over each engine.

// One test kills a copy of this binary.
#![allow(clippy::disallowed_methods)]

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use proptest::prelude::*;
use serde_json::{Value, json};
use warren_store::{CommitError, EmbeddedStore, Key, Precondition, Store, Transaction, Write};

fn open(directory: &Path) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(directory).expect("the store opens")
}

fn key(name: &str) -> Key {
    Key::new("configmaps", "default", name)
}

fn object(name: &str, number: u64) -> Value {
    json!({"metadata": {"name": name}, "data": {"number": number}})
}

#[tokio::test]
async fn a_commit_is_all_or_nothing_and_has_one_revision() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let both = Transaction::new().create(key("a"), object("a", 1)).create(key("b"), object("b", 1));
    let revision = store.commit(both).await.expect("nothing in the way");
    let snapshot = store.snapshot();
    for name in ["a", "b"] {
        let object = snapshot.get(&key(name)).expect("written");
        assert_eq!(object.revision, revision);
        assert_eq!(object.value["metadata"]["resourceVersion"], json!(revision.to_string()));
    }

    let clash = Transaction::new().create(key("c"), object("c", 1)).create(key("a"), object("a", 2));
    match store.commit(clash).await {
        Err(CommitError::Conflict(Precondition::Absent(which))) => assert_eq!(which, key("a")),
        other => panic!("expected a conflict, got {other:?}"),
    }
    assert!(store.snapshot().get(&key("c")).is_none());
    assert_eq!(store.snapshot().revision, revision);
}

#[tokio::test]
async fn compare_and_swap_lets_exactly_one_of_many_win() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let mut revision =
        store.commit(Transaction::new().create(key("a"), object("a", 0))).await.expect("created");
    for round in 1..=20 {
        let attempts = (0..8).map(|_| {
            let swap = Transaction::new().replace(key("a"), revision, object("a", round));
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.commit(swap).await })
        });
        let mut winners = Vec::new();
        for attempt in attempts.collect::<Vec<_>>() {
            winners.extend(attempt.await.expect("no panic").ok());
        }
        assert_eq!(winners.len(), 1);
        revision = winners[0];
    }
}

#[tokio::test]
async fn a_watch_sees_every_change_in_order_and_the_past_from_history() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let start = store.snapshot().revision;
    let follower = {
        let mut watch = store.watch(start).expect("the present");
        tokio::spawn(async move {
            let mut seen = Vec::new();
            while seen.len() < 200 {
                seen.extend(
                    watch.next().await.expect("in history").into_iter().map(|change| change.revision),
                );
            }
            seen
        })
    };
    for number in 0..200 {
        store
            .commit(Transaction {
                writes: vec![Write::Put(key("a"), object("a", number))],
                ..Transaction::new()
            })
            .await
            .expect("no precondition");
    }
    let expected: Vec<u64> = (start + 1..=start + 200).collect();
    assert_eq!(follower.await.expect("no panic"), expected);

    let mut late = store.watch(start + 150).expect("still in history");
    let changes = late.ready().expect("in history");
    assert_eq!(changes.len(), 50);
    let first = &changes[0].events[0];
    assert_eq!(first.previous.as_ref().expect("it existed").value["data"]["number"], json!(149));
    assert_eq!(first.current.as_ref().expect("it exists").value["data"]["number"], json!(150));
    assert!(store.watch(start + 201).is_err(), "the future cannot be watched from");
}

#[tokio::test]
async fn deleting_what_is_absent_changes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let before = store.snapshot().revision;
    let nothing = Transaction { writes: vec![Write::Delete(key("ghost"))], ..Transaction::new() };
    assert_eq!(store.commit(nothing).await.expect("no precondition"), before);
}

#[tokio::test]
async fn state_revision_and_deletions_survive_a_restart_but_history_does_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let a = store.commit(Transaction::new().create(key("a"), object("a", 1))).await.expect("created");
    let b = store.commit(Transaction::new().create(key("b"), object("b", 1))).await.expect("created");
    let last = store.commit(Transaction::new().delete(key("a"), a)).await.expect("deleted");
    store.close();
    assert!(matches!(store.commit(Transaction::new()).await, Err(CommitError::Closed)));
    drop(store);

    let store = open(directory.path());
    let snapshot = store.snapshot();
    assert_eq!(snapshot.revision, last);
    assert!(snapshot.get(&key("a")).is_none());
    assert_eq!(snapshot.get(&key("b")).expect("kept").revision, b);
    assert!(store.watch(b).is_err(), "history before the restart is gone: 410");
    assert!(store.watch(last).is_ok());
}

#[tokio::test]
async fn a_second_process_cannot_open_the_same_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let _store = open(directory.path());
    let error = EmbeddedStore::open(directory.path()).err().expect("it is in use").to_string();
    assert!(error.starts_with("cannot open the store at "), "{error}");
}

#[test]
fn a_damaged_file_is_refused_with_its_name() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(
        directory.path().join("store.redb"),
        b"not a database, and long enough to be looked at".repeat(200),
    )
    .expect("written");
    let error = EmbeddedStore::open(directory.path()).err().expect("damaged").to_string();
    assert!(error.contains("store.redb"), "{error}");
}

/// Not a test of its own: the victim of the test below, which runs this binary again.
#[test]
fn victim() {
    let Ok(directory) = std::env::var("WARREN_STORE_VICTIM") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    runtime.block_on(async {
        let store = open(Path::new(&directory));
        let writers = (0..4).map(|writer: u64| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for number in 0.. {
                    let (left, right) = (format!("left-{writer}"), format!("right-{writer}"));
                    let writes = vec![
                        Write::Put(key(&left), object(&left, number)),
                        Write::Put(key(&right), object(&right, number)),
                    ];
                    let revision =
                        store.commit(Transaction { preconditions: vec![], writes }).await.expect("committed");
                    println!("ACK {writer} {number} {revision}");
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.expect("runs until killed");
        }
    });
}

#[test]
fn kill_nine_loses_nothing_acknowledged_and_tears_no_commit() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut last_revision = 0;
    for round in 1..=5 {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "victim", "--nocapture", "--test-threads=1"])
            .env("WARREN_STORE_VICTIM", directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the victim starts");
        let mut acknowledged: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let mut reader = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        let mut count = 0;
        while count < 40 * round && reader.read_line(&mut line).expect("readable") > 0 {
            count += usize::from(note(&line, &mut acknowledged));
            line.clear();
        }
        assert_eq!(count, 40 * round, "the victim died by itself");
        child.kill().expect("kill -9");
        child.wait().expect("reaped");
        while reader.read_line(&mut line).unwrap_or(0) > 0 {
            if line.ends_with('\n') {
                note(&line, &mut acknowledged);
            }
            line.clear();
        }

        let store = open(directory.path());
        let snapshot = store.snapshot();
        for (writer, (number, revision)) in acknowledged {
            let read =
                |side: &str| snapshot.get(&key(&format!("{side}-{writer}"))).expect("acknowledged").clone();
            let (left, right) = (read("left"), read("right"));
            assert!(left.revision >= revision, "writer {writer}: {} < {revision}", left.revision);
            assert_eq!(left.revision, right.revision, "a torn commit");
            if left.revision == revision {
                assert_eq!(left.value["data"]["number"], json!(number));
            }
        }
        assert!(snapshot.revision > last_revision, "the revision went backwards");
        last_revision = snapshot.revision;
    }
}

fn note(line: &str, acknowledged: &mut BTreeMap<u64, (u64, u64)>) -> bool {
    // The test runner may print before the first line.
    let Some(start) = line.find("ACK ") else { return false };
    let numbers: Vec<u64> =
        line[start + 4..].split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [writer, number, revision] = numbers[..] else { return false };
    acknowledged.insert(writer, (number, revision));
    true
}

#[derive(Debug, Clone)]
enum Operation {
    Create(u8),
    Put(u8),
    Delete(u8),
    SwapStale(u8),
    Restart,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let one = prop_oneof![
        4 => (0u8..6).prop_map(Operation::Create),
        4 => (0u8..6).prop_map(Operation::Put),
        3 => (0u8..6).prop_map(Operation::Delete),
        2 => (0u8..6).prop_map(Operation::SwapStale),
        1 => Just(Operation::Restart),
    ];
    proptest::collection::vec(one, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn it_behaves_like_a_map(operations in operations()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let directory = tempfile::tempdir().expect("a directory");
        let mut store = open(directory.path());
        let mut model: BTreeMap<u8, u64> = BTreeMap::new();
        for operation in operations {
            let name = |n: u8| key(&n.to_string());
            let before = store.snapshot().revision;
            match operation {
                Operation::Create(n) => {
                    let outcome = runtime.block_on(store.commit(Transaction::new().create(name(n), object("x", 0))));
                    prop_assert_eq!(outcome.is_ok(), !model.contains_key(&n));
                    if let Ok(revision) = outcome { model.insert(n, revision); }
                }
                Operation::Put(n) => {
                    let put = Transaction { writes: vec![Write::Put(name(n), object("x", 1))], ..Transaction::new() };
                    model.insert(n, runtime.block_on(store.commit(put)).expect("unconditional"));
                }
                Operation::Delete(n) => {
                    let revision = model.get(&n).copied().unwrap_or(0);
                    let outcome = runtime.block_on(store.commit(Transaction::new().delete(name(n), revision)));
                    prop_assert_eq!(outcome.is_ok(), model.remove(&n).is_some());
                }
                Operation::SwapStale(n) => {
                    let stale = model.get(&n).map_or(1, |revision| revision - 1);
                    let outcome = runtime.block_on(store.commit(Transaction::new().replace(name(n), stale, object("x", 2))));
                    prop_assert!(outcome.is_err());
                    prop_assert_eq!(store.snapshot().revision, before);
                }
                Operation::Restart => {
                    store.close();
                    drop(store);
                    store = open(directory.path());
                    prop_assert_eq!(store.snapshot().revision, before);
                }
            }
            let listed: BTreeMap<u8, u64> = store.snapshot().list("configmaps")
                .map(|object| (object.key.name.parse().expect("a number"), object.revision)).collect();
            prop_assert_eq!(&listed, &model);
        }
    }
}
