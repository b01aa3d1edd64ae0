//! What is kept over many changes, restarts and crashes.

use proptest::prelude::*;
use warren_proto::control::{Peer, Service};

use super::{
    tests::{PLAIN, pod, state},
    *,
};

#[test]
fn changes_are_appended_without_secrets_and_read_back() {
    let (disk, memory) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let file = disk.path().join("agent.bin");
    let open = || Keeper::new(file.clone(), Some(memory.path()));
    let mut state = state();
    // What an earlier version has written is read, and replaced by a journal with the first change.
    let (items, sealed) = open().divide(state.cursor, state.items.iter());
    let earlier = KeptFeed { epoch: 1, revision: 7, items, sealed };
    std::fs::write(&file, earlier.encode_to_vec()).expect("written");
    let mut keeper = open();
    assert_eq!(keeper.load().expect("readable"), Some(state.clone()));
    keeper.store(&state).expect("written");
    let base = std::fs::read(&file).expect("readable");
    for revision in 8..40 {
        state.cursor.revision = revision;
        let Some(Item::Pod(pod)) = state.items.get_mut("pod/mixed") else { panic!("a pod") };
        pod.terminate_after_seconds = Some(u32::try_from(revision).expect("small"));
        if revision == 20 {
            state.items.remove("pod/open");
        }
        if revision % 7 == 0 {
            keeper = open();
            keeper.load().expect("readable");
        }
        keeper.store(&state).expect("written");
        assert_eq!(open().load().expect("readable"), Some(state.clone()), "{revision}");
    }
    let bytes = std::fs::read(&file).expect("readable");
    assert!(bytes.starts_with(&base) && bytes.len() > base.len(), "the base stays as it is");
    assert!(!bytes.windows(PLAIN.len()).any(|window| window == PLAIN.as_bytes()), "a secret on the disk");
    std::fs::remove_file(memory.path().join(KEY_FILE)).expect("a reboot");
    let rebooted = open();
    let kept = rebooted.load().expect("readable").expect("a state");
    assert_eq!((kept.cursor, pod(&kept, "mixed").terminate_after_seconds), (state.cursor, Some(39)));
    assert!(pod(&kept, "mixed").containers[1].unresolved_message.contains("waiting for the controller"));
    // Then all is sealed anew.
    rebooted.store(&state).expect("written");
    assert_eq!(open().load().expect("readable"), Some(state));
}

#[test]
fn a_change_costs_what_it_changes_and_many_are_folded_into_the_base() {
    let disk = tempfile::tempdir().expect("a directory");
    let service =
        |revision: u64| Item::Service(Service { name: format!("{revision:0>4000}"), ..Service::default() });
    let length = |file: &Path| std::fs::metadata(file).expect("there").len();
    let mut costs = Vec::new();
    for members in [100, 5_000] {
        let file = disk.path().join(format!("{members}.bin"));
        let keeper = Keeper::new(file.clone(), None);
        let peer = |n| Item::Peer(Peer { name: format!("node-{n}"), ..Peer::default() });
        let items = (0..members).map(|n| (format!("peer/{n:04}"), peer(n))).collect();
        let mut state = State { cursor: Cursor { epoch: 1, revision: 1 }, items };
        keeper.store(&state).expect("written");
        let base = length(&file);
        let (mut before, mut bases, mut cost) = (base, 1, 0);
        for revision in 2..=150 {
            state.cursor.revision = revision;
            state.items.insert("service/a/b".to_owned(), service(revision));
            keeper.store(&state).expect("written");
            let after = length(&file);
            if after > before {
                cost = cost.max(after - before);
            } else {
                bases += 1;
            }
            assert!(after < base + base.max(300 << 10) + 8_192, "{after} bytes");
            before = after;
        }
        assert!((2..=4).contains(&bases), "written {bases} times");
        assert_eq!(Keeper::new(file.clone(), None).load().expect("readable"), Some(state));
        costs.push(cost);
    }
    assert!(costs[0] < 4_200 && costs[1] == costs[0], "{costs:?} bytes for a change of 4,000");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Whatever changes, whenever the process ends, and wherever a crash cuts what was written last.
    #[test]
    fn what_is_read_back_is_the_last_state_that_was_written_whole(
        steps in proptest::collection::vec(
            (proptest::collection::vec((0u32..20, proptest::option::of(0u32..9)), 0..6), 0u8..6, any::<proptest::sample::Index>()),
            1..20,
        ),
    ) {
        let (disk, memory) = (tempfile::tempdir().expect("disk"), tempfile::tempdir().expect("memory"));
        let file = disk.path().join("agent.bin");
        let open = || Keeper::new(file.clone(), Some(memory.path()));
        let mut keeper = open();
        let mut state = state();
        keeper.store(&state).expect("written");
        let mut end = std::fs::read(&file).expect("readable").len();
        for (changes, fate, cut) in steps {
            let before = state.clone();
            state.cursor.revision += 1;
            for (key, content) in changes {
                let key = format!("pod/{key}");
                match content {
                    Some(content) => {
                        let container = Container {
                            holds_secrets: content % 2 == 0,
                            args: vec![content.to_string()],
                            ..Container::default()
                        };
                        let pod = PodInstruction { containers: vec![container], ..PodInstruction::default() };
                        state.items.insert(key, Item::Pod(pod));
                    }
                    None => _ = state.items.remove(&key),
                }
            }
            keeper.store(&state).expect("written");
            let bytes = std::fs::read(&file).expect("readable");
            if fate == 0 {
                std::fs::write(&file, &bytes[..end + cut.index(bytes.len() - end)]).expect("cut");
                state = before;
            } else {
                end = bytes.len();
            }
            if fate < 3 {
                keeper = open();
                prop_assert_eq!(keeper.load().expect("readable"), Some(state.clone()));
            }
            prop_assert_eq!(open().load().expect("readable"), Some(state.clone()));
        }
    }
}

#[test]
fn a_crash_between_a_change_and_its_compaction_loses_nothing() {
    let disk = tempfile::tempdir().expect("a directory");
    let file = disk.path().join("netd.bin");
    let keeper = Keeper::new(file.clone(), None);
    let mut state = State { cursor: Cursor { epoch: 1, revision: 1 }, items: Items::new() };
    let mut last = 0;
    loop {
        state.cursor.revision += 1;
        let name = format!("{:0>50000}", state.cursor.revision);
        let service = Service { name, ..Service::default() };
        state.items.insert("service/a/b".to_owned(), Item::Service(service));
        let before = std::fs::read(&file).unwrap_or_default();
        // A base that was not renamed yet lies beside the journal.
        let unfinished = file.with_extension("new");
        std::fs::write(&unfinished, &before[..before.len() / 2]).expect("written");
        if let Some(kept) = Keeper::new(file.clone(), None).load().expect("readable") {
            assert_eq!(kept.cursor.revision, last);
        }
        keeper.store(&state).expect("written");
        last = state.cursor.revision;
        assert_eq!(Keeper::new(file.clone(), None).load().expect("readable"), Some(state.clone()));
        if std::fs::metadata(&file).expect("there").len() < before.len() as u64 {
            assert!(!unfinished.exists(), "it took the journal's place");
            break;
        }
    }
}
