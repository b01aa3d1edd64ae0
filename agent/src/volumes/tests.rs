//! Volumes on a real file system.

use super::*;
use warren_proto::control::{EmptyDir, File, Files, HostPath};

const UID: &str = "0123abcd-0000-0000-0000-000000000000";

fn volumes(dir: &Path) -> Volumes {
    Volumes { disk: dir.join("pods"), memory: Some(dir.join("memory")), host_prefix: Some(dir.join("host")) }
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
    Container { mounts: vec![mount], ..Container::default() }
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
    let with = |files| pod(vec![("config", Source::Files(Files { files, secret: true }))]);
    let first = with(vec![file("a", "1", 0o600), file("sub/b", "2", 0), file("c", "3", 0)]);
    volumes.prepare(&first).expect("written");
    let mounts = volumes.mounts(&first, &mount("config", "")).expect("mount");
    let root = source_of(&mounts[0]).to_owned();
    let read = |name: &str| std::fs::read_to_string(root.join(name)).ok();
    assert_eq!((read("a"), read("sub/b"), read("c")), (Some("1".into()), Some("2".into()), Some("3".into())));
    let mode = |name: &str| root.join(name).metadata().expect(name).permissions().mode() & 0o777;
    assert_eq!((mode("a"), mode("c")), (0o600, 0o644));
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
                Source::Files(Files { files: vec![file(path, "", 0)], secret: false }),
            )]))
            .expect_err(path);
        assert!(error.to_string().contains("volume \"config\""), "{error}");
    }
    let empty = pod(vec![("data", Source::EmptyDir(EmptyDir::default()))]);
    volumes.prepare(&empty).expect("made");
    assert!(volumes.mounts(&empty, &mount("data", "../../x")).is_err());
    std::os::unix::fs::symlink("/etc", dir.path().join("pods").join(UID).join("volumes/data/out"))
        .expect("link");
    let error = volumes.mounts(&empty, &mount("data", "out")).expect_err("leads out").to_string();
    assert!(error.contains("leads out"), "{error}");
}

#[test]
fn an_empty_dir_is_open_and_sub_paths_are_made() {
    let dir = tempfile::tempdir().expect("tempdir");
    let volumes = volumes(dir.path());
    let pod = pod(vec![("data", Source::EmptyDir(EmptyDir::default()))]);
    volumes.prepare(&pod).expect("made");
    let mounts = volumes.mounts(&pod, &mount("data", "deep/er")).expect("mount");
    let path = source_of(&mounts[0]);
    assert!(path.is_dir() && path.ends_with("data/deep/er"), "{path:?}");
    let root = path.ancestors().nth(2).expect("root");
    assert_eq!(root.metadata().expect("meta").permissions().mode() & 0o777, 0o777);
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
fn a_volume_in_memory_is_shared_through_the_sandbox() {
    let dir = tempfile::tempdir().expect("tempdir");
    let volumes = volumes(dir.path());
    let pod = pod(vec![("fast", Source::EmptyDir(EmptyDir { memory: true, size_limit_bytes: 1 << 20 }))]);
    volumes.prepare(&pod).expect("nothing to do");
    let held = Volumes::memory_volumes(&pod);
    let mounts = volumes.mounts(&pod, &mount("fast", "")).expect("mount");
    assert!(matches!(&mounts[0], MountSpec::Memory { volume, size_bytes, .. }
        if *volume == held[0].0 && *size_bytes == 1 << 20));
    assert!(volumes.mounts(&pod, &mount("fast", "x")).is_err());
}

#[test]
fn secrets_lie_in_memory_or_nowhere() {
    let dir = tempfile::tempdir().expect("tempdir");
    let with = |secret| {
        let files = vec![file("a", "1", 0)];
        pod(vec![("config", Source::Files(Files { files, secret }))])
    };
    let volumes = volumes(dir.path());
    volumes.prepare(&with(true)).expect("written");
    let mounts = volumes.mounts(&with(true), &mount("config", "")).expect("mount");
    assert!(source_of(&mounts[0]).starts_with(dir.path().join("memory")), "{mounts:?}");
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
