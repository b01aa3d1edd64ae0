//! The engine on disks that fail, and on files of an older Warren.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn a_store_of_an_older_warren_is_encrypted_when_it_is_opened() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store.redb");
    let value = json!({"metadata": {"name": "db"}, "data": {"password": "hunter2-in-the-clear"}});
    let object = Object::new(crate::Key::new("secrets", "default", "db"), 5, value.clone());
    file::create_old(&path, 1, Head::new(1, 9, crate::keys::KeyId(0)), &[object]);
    let plain = || {
        let bytes = fs::read(&path).expect("readable");
        bytes.windows(20).any(|window| window == b"hunter2-in-the-clear")
    };
    assert!(plain(), "this test would not find a secret");
    for _ in 0..2 {
        let (_, loaded) = Redb::open(directory.path(), &directory.path().join("keys")).expect("opened");
        assert_eq!((loaded.epoch, loaded.revision, loaded.objects[0].revision), (1, 9, 5));
        assert_eq!(loaded.objects[0].value["data"], value["data"]);
        assert!(!plain(), "the secret is still there");
    }
}

#[test]
fn a_store_without_a_log_gets_one_at_its_first_write() {
    let directory = tempfile::tempdir().expect("a directory");
    let keys = KeyFile::new(&directory.path().join("keys"));
    let key = usable_key(&keys).expect("a key");
    let named =
        |name| Object::new(crate::Key::new("configmaps", "default", name), 5, json!({"metadata": {}}));
    let head = Head::new(1, 9, key.id);
    file::create_old(&directory.path().join("store.redb"), 2, head, &[named("a"), named("b")]);
    assert_eq!(names(directory.path()), (9, vec!["a".into(), "b".into()]));
    let (mut engine, loaded) = Redb::open(directory.path(), &directory.path().join("keys")).expect("opened");
    put(&Snapshot::from_objects(9, loaded.objects), &mut engine, "c").expect("written");
    drop(engine);
    assert_eq!(names(directory.path()), (10, vec!["a".into(), "b".into(), "c".into()]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The log is folded every few steps; whatever is where, a process that starts now finds what was acknowledged.
    #[test]
    fn what_was_acknowledged_is_found_whether_it_is_in_the_log_or_folded(
        steps in proptest::collection::vec((0..6_usize, proptest::option::of(0..3_000_usize)), 1..24),
    ) {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut engine, loaded) = Redb::open(directory.path(), &directory.path().join("keys")).expect("opened");
        let held = Snapshot::from_objects(loaded.revision, []);
        engine.log_limit = 6_000;
        let (mut expected, mut folds) = (BTreeMap::new(), 0);
        for (revision, (name, size)) in (held.revision + 1..).zip(steps) {
            let resource = if name % 2 == 0 { "secrets" } else { "configmaps" };
            let key = crate::Key::new(resource, "default", &name.to_string());
            let json = |size| json!({"metadata": {"resourceVersion": revision.to_string()}, "data": "x".repeat(size)});
            let value = size.map(|size| (revision, json(size).to_string().into()));
            let before = engine.head.logged;
            engine.persist(&held, revision, &[(key.clone(), value)]).expect("written");
            folds += usize::from(engine.head.logged < before);
            match size {
                Some(size) => drop(expected.insert(key, (revision, json(size)))),
                None => drop(expected.remove(&key)),
            }
            let found = reopened(directory.path());
            prop_assert_eq!(found.revision, revision);
            let found: BTreeMap<_, _> =
                found.objects.into_iter().map(|object| (object.key, (object.revision, object.value.clone()))).collect();
            prop_assert!(found == expected, "after {folds} folds, at revision {revision}");
        }
    }
}

/// A disk on which the n-th flush from now fails, after it wrote everything: the worst that fsync can do.
#[derive(Debug)]
struct Flaky {
    file: redb::backends::FileBackend,
    flushes_left: Arc<AtomicI64>,
}

impl redb::StorageBackend for Flaky {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
        match self.flushes_left.fetch_sub(1, Ordering::SeqCst) {
            1 => Err(io::Error::from_raw_os_error(libc::EIO)),
            _ => Ok(()),
        }
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

fn flaky(path: &Path, flushes_left: &Arc<AtomicI64>) -> Result<Database, redb::Error> {
    let file = fs::File::options().read(true).write(true).open(path)?;
    let file = redb::backends::FileBackend::new(file)?;
    let disk = Flaky { file, flushes_left: Arc::clone(flushes_left) };
    Ok(Database::builder().create_with_backend(disk)?)
}

fn put(held: &Snapshot, engine: &mut Redb, name: &str) -> Result<Snapshot, Failure> {
    let key = crate::Key::new("secrets", "default", name);
    let object = Object::new(key.clone(), held.revision + 1, json!({"metadata": {"name": name}}));
    let bytes = serde_json::to_vec(&*object.value).expect("JSON");
    engine.persist(held, held.revision + 1, &[(key.clone(), Some((held.revision + 1, bytes.into())))])?;
    let mut next = held.clone();
    next.revision += 1;
    next.insert(Arc::new(object));
    Ok(next)
}

/// What a restart would find.
fn names(directory: &Path) -> (u64, Vec<String>) {
    let loaded = reopened(directory);
    (loaded.revision, loaded.objects.iter().map(|object| object.key.name.to_string()).collect())
}

fn reopened(directory: &Path) -> Loaded {
    let copy = tempfile::tempdir().expect("a directory");
    for name in ["store.redb", "keys/secrets.key"] {
        fs::create_dir_all(copy.path().join("keys")).expect("made");
        fs::copy(directory.join(name), copy.path().join(name)).expect("copied");
    }
    let (_, loaded) = Redb::open(copy.path(), &copy.path().join("keys")).expect("it opens");
    loaded
}

#[test]
fn whichever_flush_fails_memory_and_disk_say_the_same_afterwards() {
    let (mut failures, mut shown) = (0, 0);
    for flush in 1..20 {
        let directory = tempfile::tempdir().expect("a directory");
        let keys = directory.path().join("keys");
        let (mut engine, loaded) = Redb::open(directory.path(), &keys).expect("opened");
        let left = Arc::new(AtomicI64::new(0));
        let shared = Arc::clone(&left);
        engine.opener = Box::new(move |path| flaky(path, &shared));
        let held = Snapshot::from_objects(loaded.revision, []);
        engine.reopen(&held).expect("the disk works");
        let held = put(&held, &mut engine, "a").expect("the disk works");
        left.store(flush, Ordering::SeqCst);
        let Err(failure) = put(&held, &mut engine, "refused") else { break };
        left.store(0, Ordering::SeqCst);
        assert!(!failure.is_full && failure.problem.contains("os error 5"), "{failure:?}");
        failures += 1;
        engine.database = None;
        shown += usize::from(names(directory.path()).1.contains(&"refused".to_owned()));
        engine.reopen(&held).expect("the disk works again");
        assert_eq!(names(directory.path()), (held.revision, vec!["a".to_owned()]), "flush {flush}");
        let held = put(&held, &mut engine, "b").expect("the disk works again");
        drop(engine);
        assert_eq!(names(directory.path()), (held.revision, vec!["a".into(), "b".into()]), "flush {flush}");
    }
    assert!(failures >= 1 && shown >= 1, "{failures} flushes failed, {shown} writes were there all the same");
}

#[test]
fn a_rotation_that_cannot_open_its_own_file_is_undone() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut engine, loaded) = Redb::open(directory.path(), &directory.path().join("keys")).expect("opened");
    let held = Snapshot::from_objects(loaded.revision, []);
    let held = put(&held, &mut engine, "a").expect("the disk works");
    let (old, calls) = (engine.key().id, AtomicI64::new(0));
    engine.opener = Box::new(move |path| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => Err(io::Error::from_raw_os_error(libc::EIO).into()),
        _ => file::open(path),
    });
    engine.rotate(&held).expect_err("the new file cannot be opened");
    let held = put(&held, &mut engine, "b").expect("the disk works again");
    assert_eq!(engine.key().id, old);
    engine.database = None;
    assert_eq!(names(directory.path()), (held.revision, vec!["a".into(), "b".into()]));
    let new = engine.rotate(&held).expect("the disk works again");
    drop(engine);
    assert_eq!(names(directory.path()).1, ["a", "b"]);
    let text = fs::read_to_string(directory.path().join("keys/secrets.key")).expect("there");
    assert!(text.contains(&new.id.to_string()) && !text.contains(&old.to_string()), "one key is left");
}
