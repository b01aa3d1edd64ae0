//! Volumes on a real file system.

use super::*;
use warren_proto::control::{EmptyDir, File, Files, HostPath, Resources, TokenFile};

const UID: &str = "0123abcd-0000-0000-0000-000000000000";

fn volumes(dir: &Path) -> Volumes {
    Volumes {
        disk: dir.join("pods"),
        memory: Some(dir.join("memory")),
        host_prefix: Some(dir.join("host")),
        stage: Stage::new(dir, None),
    }
}

/// The mounts of the first instance of a container.
fn mounts(volumes: &Volumes, pod: &PodInstruction, container: &Container) -> Result<Mounted, VolumeError> {
    volumes.mounts(pod, container, 0, &BTreeMap::new())
}

fn file(path: &str, content: &str, mode: u32) -> File {
    File { path: path.into(), content: content.into(), mode }
}

fn pod(sources: Vec<(&str, Source)>) -> PodInstruction {
    let volumes = sources
        .into_iter()
        .map(|(name, source)| Volume { name: name.into(), source: Some(source) })
        .collect();
    PodInstruction { uid: UID.into(), volumes, ..PodInstruction::default() }
}

fn mount(volume: &str, sub_path: &str) -> Container {
    let mount =
        Mount { volume: volume.into(), path: "/m".into(), sub_path: sub_path.into(), read_only: false };
    Container { name: "app".into(), mounts: vec![mount], ..Container::default() }
}

fn source_of(spec: &MountSpec) -> &Path {
    match spec {
        MountSpec::Bind { source, .. } => source,
        MountSpec::Memory { .. } => panic!("not a bind: {spec:?}"),
    }
}

#[test]
fn files_are_replaced_at_once_and_old_ones_vanish() {
    let dir = tempfile::tempdir().expect("tempdir");
    let volumes = volumes(dir.path());
    let with =
        |files| pod(vec![("config", Source::Files(Files { files, secret: true, ..Files::default() }))]);
    let first = with(vec![file("a", "1", 0o600), file("sub/b", "2", 0), file("c", "3", 0)]);
    volumes.prepare(&first).expect("written");
    let mounted = mounts(&volumes, &first, &mount("config", "")).expect("mount");
    let root = source_of(&mounted.specs[0]).to_owned();
    let read = |name: &str| std::fs::read_to_string(root.join(name)).ok();
    assert_eq!((read("a"), read("sub/b"), read("c")), (Some("1".into()), Some("2".into()), Some("3".into())));
    let mode = |name: &str| root.join(name).metadata().expect(name).permissions().mode() & 0o777;
    assert_eq!((mode("a"), mode("c")), (0o600, 0o644));
    // A part of it is the file itself, as on Kubernetes: later changes do not reach it.
    let part = mounts(&volumes, &first, &mount("config", "sub/b")).expect("mount");
    assert!(matches!(&part.specs[0], MountSpec::Bind { source, read_only: true, .. }
        if std::fs::read_to_string(source).expect("read") == "2" && !source.is_symlink()));
    let data = std::fs::read_link(root.join("..data")).expect("link");
    volumes.prepare(&first).expect("again");
    assert_eq!(
        std::fs::read_link(root.join("..data")).expect("link"),
        data,
        "the same content moves nothing"
    );
    volumes.prepare(&with(vec![file("a", "changed", 0)])).expect("changed");
    assert_eq!((read("a"), read("c")), (Some("changed".into()), None));
    let names: Vec<_> =
        std::fs::read_dir(&root).expect("dir").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names.len(), 3, "one name, ..data and one generation: {names:?}");
}

#[test]
fn a_path_that_leads_out_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let volumes = volumes(dir.path());
    for path in ["../x", "/etc/passwd", "a/../../x", "", "..data"] {
        let error = volumes
            .prepare(&pod(vec![(
                "config",
                Source::Files(Files { files: vec![file(path, "", 0)], secret: false, ..Files::default() }),
            )]))
            .expect_err(path);
        assert!(error.to_string().contains("volume \"config\""), "{error}");
    }
    let empty = pod(vec![("data", Source::EmptyDir(EmptyDir::default()))]);
    volumes.prepare(&empty).expect("made");
    assert!(mounts(&volumes, &empty, &mount("data", "../../x")).is_err());
}

/// What a pod finds in the rest of the machine.
fn outside(dir: &Path) -> PathBuf {
    let outside = dir.join("outside");
    std::fs::create_dir(&outside).expect("made");
    std::fs::write(outside.join("treasure"), "gold").expect("written");
    outside
}

#[test]
fn a_link_in_a_volume_leads_nowhere_and_nothing_is_made_through_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (volumes, outside) = (volumes(dir.path()), outside(dir.path()));
    let pod = pod(vec![("data", Source::EmptyDir(EmptyDir::default()))]);
    volumes.prepare(&pod).expect("made");
    let data = dir.path().join("pods").join(UID).join("volumes/data");
    let link = |target: &Path, name: &str| std::os::unix::fs::symlink(target, data.join(name)).expect("link");
    link(&outside, "absolute");
    link(Path::new("../../../../outside"), "relative");
    link(Path::new(&format!("/proc/self/root{}", outside.display())), "magic");
    link(&outside.join("missing"), "dangling");
    for path in
        ["absolute", "relative", "magic", "dangling", "absolute/made", "relative/made", "dangling/made"]
    {
        let error = mounts(&volumes, &pod, &mount("data", path)).expect_err(path).to_string();
        assert!(error.contains("leads out of the volume"), "{path}: {error}");
    }
    let names: Vec<_> = std::fs::read_dir(&outside).expect("dir").flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, ["treasure"], "nothing was made outside");
    // As on Kubernetes, a link that stays inside is followed.
    std::fs::create_dir(data.join("real")).expect("made");
    std::fs::write(data.join("real/file"), "inside").expect("written");
    link(Path::new("real"), "near");
    let mounted = mounts(&volumes, &pod, &mount("data", "near/file")).expect("mount");
    assert_eq!(std::fs::read_to_string(source_of(&mounted.specs[0])).expect("read"), "inside");
}

/// The attack: two names are exchanged all the time, one a directory, one a link out of the volume.
#[test]
fn names_that_are_exchanged_all_the_time_never_lead_out() {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    let dir = tempfile::tempdir().expect("tempdir");
    let (volumes, outside) = (volumes(dir.path()), outside(dir.path()));
    let pod = pod(vec![("data", Source::EmptyDir(EmptyDir::default()))]);
    volumes.prepare(&pod).expect("made");
    let data = dir.path().join("pods").join(UID).join("volumes/data");
    std::fs::create_dir(data.join("x")).expect("made");
    std::os::unix::fs::symlink(&outside, data.join("y")).expect("link");
    let (stop, mut escapes) = (AtomicBool::new(false), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let base = std::fs::File::open(&data).expect("open");
            let exchange = rustix::fs::RenameFlags::EXCHANGE;
            while !stop.load(Relaxed) {
                rustix::fs::renameat_with(&base, "x", &base, "y", exchange).expect("exchanged");
            }
        });
        let (mut held, mut refused) = (0, 0);
        for attempt in 0..10_000 {
            let path = ["x", "x/deep/er"][attempt % 2];
            let number = u32::try_from(attempt).expect("few");
            match volumes.mounts(&pod, &mount("data", path), number, &BTreeMap::new()) {
                Ok(mounted) => {
                    let seen = source_of(&mounted.specs[0]);
                    let is_inside = seen.is_dir() && !seen.join("treasure").exists();
                    escapes += usize::from(!is_inside);
                    held += 1;
                }
                Err(_) => refused += 1,
            }
            // Enough of both to have met the moment, however busy the machine.
            if escapes > 0 || (held >= 100 && refused >= 100) {
                break;
            }
        }
        stop.store(true, Relaxed);
        assert!(escapes > 0 || (held > 0 && refused > 0), "the moment was not met");
    });
    assert_eq!(escapes, 0, "what was mounted is outside");
    assert!(!outside.join("deep").exists(), "nothing was made outside");
}

#[test]
fn what_is_mounted_for_a_start_goes_with_it_and_is_found_after_a_crash() {
    let dir = tempfile::tempdir().expect("tempdir");
    let volumes = volumes(dir.path());
    let pod = pod(vec![("data", Source::EmptyDir(EmptyDir::default()))]);
    volumes.prepare(&pod).expect("made");
    let data = dir.path().join("pods").join(UID).join("volumes/data");
    let mounted = mounts(&volumes, &pod, &mount("data", "part")).expect("mount");
    let place = source_of(&mounted.specs[0]).to_owned();
    std::fs::write(data.join("part/file"), "here").expect("written");
    assert_eq!(std::fs::read_to_string(place.join("file")).expect("read"), "here");
    drop(mounted);
    assert!(!place.parent().expect("key").exists(), "the mount is gone, and its place");
    assert!(data.join("part/file").exists(), "what was mounted is not");

    // An agent that was killed takes nothing away; its successor does, before its first work.
    std::mem::forget(mounts(&volumes, &pod, &mount("data", "part")).expect("mount"));
    assert!(place.join("file").exists());
    self::volumes(dir.path()).prepare(&pod).expect("prepared");
    assert!(!place.parent().expect("key").exists(), "the mount is gone, and its place");
    assert!(data.join("part/file").exists(), "what was mounted is not");
}

#[test]
fn an_empty_dir_is_open_and_sub_paths_are_made() {
    let dir = tempfile::tempdir().expect("tempdir");
    let volumes = volumes(dir.path());
    let pod = pod(vec![("data", Source::EmptyDir(EmptyDir::default()))]);
    volumes.prepare(&pod).expect("made");
    let mounted = mounts(&volumes, &pod, &mount("data", "./deep/er")).expect("mount");
    let root = dir.path().join("pods").join(UID).join("volumes/data");
    let mode = |path: &Path| path.metadata().expect("meta").permissions().mode() & 0o777;
    assert_eq!((mode(&root), mode(&root.join("deep")), mode(&root.join("deep/er"))), (0o777, 0o777, 0o777));
    std::fs::write(root.join("deep/er/file"), "").expect("written");
    assert!(source_of(&mounted.specs[0]).join("file").exists());
    drop(mounted);
    assert_eq!(volumes.uids(), BTreeSet::from([UID.to_owned()]));
    volumes.remove(UID).expect("removed");
    volumes.remove(UID).expect("twice is fine");
    assert!(volumes.uids().is_empty());
}

#[test]
fn a_host_path_is_checked_below_its_prefix() {
    let dir = tempfile::tempdir().expect("tempdir");
    let volumes = volumes(dir.path());
    let with = |kind: &str| {
        pod(vec![(
            "host",
            Source::HostPath(HostPath { path: "/srv/../srv/data".into(), r#type: kind.into() }),
        )])
    };
    let error = volumes.prepare(&with("Directory")).expect_err("not there").to_string();
    assert!(error.contains("srv"), "{error}");
    volumes.prepare(&with("DirectoryOrCreate")).expect("made");
    assert!(dir.path().join("host/srv/srv/data").is_dir());
    volumes.prepare(&with("Directory")).expect("there");
    let error = volumes.prepare(&with("File")).expect_err("a directory").to_string();
    assert!(error.contains("is not a file"), "{error}");
    assert!(volumes.prepare(&with("Nonsense")).is_err());
}

#[test]
fn a_link_below_the_prefix_does_not_lead_out_of_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (volumes, outside) = (volumes(dir.path()), outside(dir.path()));
    let host = dir.path().join("host");
    std::fs::create_dir(&host).expect("made");
    std::os::unix::fs::symlink(&outside, host.join("out")).expect("link");
    std::os::unix::fs::symlink("../outside/treasure", host.join("file")).expect("link");
    for (path, kind) in [
        ("/out", ""),
        ("/out", "Directory"),
        ("/out/made", "DirectoryOrCreate"),
        ("/out/made", "FileOrCreate"),
        ("/file", "File"),
        ("/file", "FileOrCreate"),
    ] {
        let source = Source::HostPath(HostPath { path: path.into(), r#type: kind.into() });
        let pod = pod(vec![("host", source)]);
        for error in [
            volumes.prepare(&pod).expect_err(path).to_string(),
            mounts(&volumes, &pod, &mount("host", "")).expect_err(path).to_string(),
        ] {
            assert!(error.contains("leads out of"), "{path} {kind}: {error}");
        }
    }
    let names: Vec<_> = std::fs::read_dir(&outside).expect("dir").flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, ["treasure"], "nothing was made outside");
}

#[test]
fn a_host_path_is_mounted_with_what_is_mounted_below_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    let volumes = Volumes { host_prefix: None, ..volumes(dir.path()) };
    let base = dir.path().join("base");
    std::fs::create_dir_all(base.join("below")).expect("made");
    rustix::mount::mount("none", base.join("below"), "tmpfs", rustix::mount::MountFlags::empty(), None)
        .expect("mounted");
    std::fs::write(base.join("below/file"), "deep").expect("written");
    // The machine's own links are followed where no prefix keeps nodes apart.
    std::os::unix::fs::symlink(&base, dir.path().join("link")).expect("link");
    let path = dir.path().join("link").to_str().expect("text").to_owned();
    let pod = pod(vec![("host", Source::HostPath(HostPath { path, r#type: "Directory".into() }))]);
    let mounted = mounts(&volumes, &pod, &mount("host", "")).expect("mount");
    let seen = std::fs::read_to_string(source_of(&mounted.specs[0]).join("below/file"));
    drop(mounted);
    let still = std::fs::read_to_string(base.join("below/file"));
    rustix::mount::unmount(base.join("below"), rustix::mount::UnmountFlags::DETACH).expect("unmounted");
    assert_eq!((seen.expect("seen").as_str(), still.expect("still mounted").as_str()), ("deep", "deep"));
}

#[test]
fn a_volume_in_memory_is_shared_through_the_sandbox() {
    let dir = tempfile::tempdir().expect("tempdir");
    let volumes = volumes(dir.path());
    let pod = pod(vec![("fast", Source::EmptyDir(EmptyDir { memory: true, size_limit_bytes: 1 << 20 }))]);
    volumes.prepare(&pod).expect("nothing to do");
    let held = Volumes::memory_volumes(&pod);
    let mounted = mounts(&volumes, &pod, &mount("fast", "")).expect("mount");
    assert!(matches!(&mounted.specs[0], MountSpec::Memory { volume, size_bytes, .. }
        if *volume == held[0].0 && *size_bytes == 1 << 20));
    // A part of it is found where the engine has it mounted.
    let part = mount("fast", "x");
    assert_eq!(Volumes::held_parts(&pod, &part), BTreeSet::from([held[0].0.clone()]));
    assert!(Volumes::held_parts(&pod, &mount("fast", "")).is_empty());
    assert!(mounts(&volumes, &pod, &part).is_err(), "nobody holds it");
    let at = |path: &Path| BTreeMap::from([(held[0].0.clone(), path.to_owned())]);
    let error =
        volumes.mounts(&pod, &part, 0, &at(Path::new("/etc"))).expect_err("not in memory").to_string();
    assert!(error.contains("does not hold"), "{error}");
    let memory = tempfile::tempdir_in("/dev/shm").expect("memory");
    let mounted = volumes.mounts(&pod, &part, 0, &at(memory.path())).expect("mount");
    std::fs::write(source_of(&mounted.specs[0]).join("file"), "").expect("written");
    assert!(memory.path().join("x/file").exists());
}

#[test]
fn memory_is_bounded_by_the_volume_and_by_the_pod() {
    let bound = |size_limit: i64, limits: &[i64]| {
        let container = |limit: &i64| Container {
            resources: Some(Resources { memory_limit_bytes: *limit, ..Resources::default() }),
            ..Container::default()
        };
        let pod = PodInstruction {
            containers: limits.iter().map(container).collect(),
            ..PodInstruction::default()
        };
        memory_bound(&pod, size_limit)
    };
    assert_eq!(bound(100, &[0]), 100);
    assert_eq!(bound(0, &[50, 30]), 80);
    assert_eq!(bound(100, &[50, 30]), 80);
    assert_eq!(bound(10, &[50, 30]), 10);
    assert_eq!(bound(0, &[50, 0]), 0, "one container without a limit: the pod has none");
    assert_eq!(bound(i64::MAX, &[i64::MAX, i64::MAX]), i64::MAX);
}

#[test]
fn last_words_are_read_from_the_agents_own_file() {
    let dir = tempfile::tempdir().expect("tempdir");
    let volumes = volumes(dir.path());
    let pod = pod(Vec::new());
    let container = Container {
        name: "app".into(),
        termination_message_path: "/dev/termination-log".into(),
        ..Container::default()
    };
    let file = |attempt| {
        let mounted = volumes.mounts(&pod, &container, attempt, &BTreeMap::new()).expect("mount");
        assert!(matches!(&mounted.specs[..], [MountSpec::Bind { target, read_only: false, .. }]
            if target == "/dev/termination-log"));
        source_of(&mounted.specs[0]).to_owned()
    };
    let read = |attempt| volumes.termination_message(UID, "app", attempt);
    let first = file(0);
    assert_eq!(first.metadata().expect("meta").permissions().mode() & 0o777, 0o666);
    assert_eq!(read(0).expect("read"), "");
    std::fs::write(&first, "why").expect("written");
    assert_eq!(file(0), first);
    assert_eq!(read(0).expect("read"), "why", "a second look at the mounts leaves it");
    let mut long = vec![b'x'; 10_000];
    long.extend_from_slice("end\u{fffd}".as_bytes());
    long.push(0xff);
    std::fs::write(file(1), long).expect("written");
    let message = read(1).expect("read");
    assert!(message.len() <= MOST_MESSAGE_BYTES && message.ends_with("xend\u{fffd}\u{fffd}"), "{message}");
    assert!(first.exists(), "the last but one is kept: it may not have been read");
    let third = file(2);
    assert!(!first.exists());
    // Whoever could reach the file could put a link or a pipe there; neither is followed or waited for.
    std::fs::remove_file(&third).expect("removed");
    std::os::unix::fs::symlink("/etc/passwd", &third).expect("link");
    assert!(read(2).is_err());
    std::fs::remove_file(&third).expect("removed");
    nix::unistd::mkfifo(&third, nix::sys::stat::Mode::from_bits_truncate(0o666)).expect("pipe");
    assert!(read(2).is_err());
    assert_eq!(volumes.termination_message("../..", "app", 0).expect("nothing"), "");
    // What the container mounts itself in that place is its own affair.
    let own = Container {
        mounts: vec![Mount { path: "/dev/termination-log/".into(), volume: "v".into(), ..Mount::default() }],
        ..container.clone()
    };
    assert!(volumes.termination_mount(&pod, &own, 0).expect("none").is_none());
}

#[test]
fn a_directory_that_somebody_else_made_first_is_not_used() {
    let dir = tempfile::tempdir().expect("tempdir");
    let parts = ["warren", "cluster", "node"];
    let make = || beneath::make_own(dir.path(), &parts);
    make().expect("made");
    make().expect("ours");
    let cluster = dir.path().join("warren/cluster");
    assert_eq!(cluster.metadata().expect("meta").permissions().mode() & 0o777, 0o700);
    std::fs::set_permissions(&cluster, Permissions::from_mode(0o777)).expect("changed");
    assert!(make().is_err(), "anybody may write to it");
    std::fs::set_permissions(&cluster, Permissions::from_mode(0o755)).expect("changed");
    make().expect("others may look");
    std::os::unix::fs::chown(&cluster, Some(1), None).expect("changed");
    assert!(make().is_err(), "it is somebody else's");
    std::fs::remove_dir_all(&cluster).expect("removed");
    std::os::unix::fs::symlink("/etc", &cluster).expect("link");
    assert!(make().is_err(), "it is a link");
}

#[test]
fn secrets_lie_in_memory_or_nowhere() {
    let dir = tempfile::tempdir().expect("tempdir");
    let with = |secret| {
        let files = vec![file("a", "1", 0)];
        pod(vec![("config", Source::Files(Files { files, secret, ..Files::default() }))])
    };
    let volumes = volumes(dir.path());
    volumes.prepare(&with(true)).expect("written");
    let mounted = mounts(&volumes, &with(true), &mount("config", "")).expect("mount");
    assert!(source_of(&mounted.specs[0]).starts_with(dir.path().join("memory")), "{mounted:?}");
    assert!(!dir.path().join("pods").join(UID).exists());
    std::fs::write(dir.path().join("memory/.feed.key"), "k").expect("written");
    assert_eq!(volumes.uids(), BTreeSet::from([UID.to_owned()]), "the key of kept secrets is no pod");
    volumes.remove(UID).expect("removed");

    let diskless = Volumes { memory: None, ..volumes };
    let error = diskless.prepare(&with(true)).expect_err("no memory").to_string();
    assert!(error.contains("volume \"config\"") && error.contains("/dev/shm"), "{error}");
    assert!(!dir.path().join("pods").join(UID).exists());
    diskless.prepare(&with(false)).expect("a ConfigMap needs no memory");
}

fn token(path: &str, user: Option<i64>, group: Option<i64>) -> TokenFile {
    let (path, audience) = (path.to_owned(), "vault".to_owned());
    TokenFile { path, audience, expiration_seconds: 600, mode: 0o640, user, group }
}

fn with_token(token: TokenFile) -> PodInstruction {
    let files = Files { files: vec![file("ca.crt", "pem", 0o644)], secret: false, tokens: vec![token] };
    pod(vec![("api", Source::Files(files))])
}

fn held(pod: &PodInstruction, words: &str) -> Held {
    let place = wanted_tokens(pod).remove(0);
    Held { place, token: words.to_owned(), came_ms: 1_000, life: std::time::Duration::from_secs(600) }
}

#[test]
fn a_token_is_replaced_under_the_feet_of_what_runs_and_never_on_the_disk() {
    let dir = tempfile::tempdir().expect("tempdir");
    let volumes = volumes(dir.path());
    let pod = with_token(token("token", Some(4711), Some(815)));
    volumes.prepare(&pod).expect("without a token that is still to come");
    let mounted = mounts(&volumes, &pod, &mount("api", "")).expect("mount");
    let root = source_of(&mounted.specs[0]).to_owned();
    let read = |name: &str| std::fs::read_to_string(root.join(name)).ok();
    assert_eq!((read("token"), read("ca.crt")), (None, Some("pem".into())));
    for words in ["first", "second"] {
        volumes.keep_tokens(UID, &[held(&pod, words)]).expect("kept");
        volumes.prepare(&pod).expect("written");
        assert_eq!(read("token").as_deref(), Some(words));
        assert_eq!(read("ca.crt").as_deref(), Some("pem"));
    }
    let meta = root.join("token").metadata().expect("there");
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o640, 4711, 815));
    assert!(root.starts_with(dir.path().join("memory")), "{}", root.display());
    assert!(!dir.path().join("pods").join(UID).join("files").exists(), "nothing of it is on the disk");
    assert!(volumes.tokens(UID) == [held(&pod, "second")], "an agent that starts anew knows it");
    let list = dir.path().join("memory").join(UID).join("tokens.json");
    assert_eq!(list.metadata().expect("there").mode() & 0o7777, 0o600);
    volumes.remove(UID).expect("removed");
    assert!(volumes.tokens(UID).is_empty());
}

#[test]
fn a_token_for_another_purpose_is_not_shown() {
    let dir = tempfile::tempdir().expect("tempdir");
    let volumes = volumes(dir.path());
    let pod = with_token(token("token", None, None));
    let mut other = held(&pod, "for somebody else");
    other.place.audience = "bank".to_owned();
    volumes.keep_tokens(UID, &[other]).expect("kept");
    volumes.prepare(&pod).expect("written");
    let file = dir.path().join("memory").join(UID).join("files/api/token");
    assert!(!file.exists());
    std::fs::write(dir.path().join("memory").join(UID).join("tokens.json"), "{ broken").expect("written");
    assert!(volumes.tokens(UID).is_empty(), "what cannot be read is asked for anew");
}

#[test]
fn tokens_without_memory_are_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let volumes = Volumes { memory: None, ..volumes(dir.path()) };
    let pod = with_token(token("token", None, None));
    let error = volumes.prepare(&pod).expect_err("no place").to_string();
    assert!(error.contains("kept in memory only"), "{error}");
    assert!(volumes.keep_tokens(UID, &[held(&pod, "words")]).is_err());
}
