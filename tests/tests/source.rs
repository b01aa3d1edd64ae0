//! Laws that the compiler does not know, checked against the source.

use std::path::{Path, PathBuf};

/// Folders whose code must be a pure function of its arguments.
const PURE: &[&str] = &[
    "controller/state/src",
    "controller/vocabulary/src",
    "controller/plan/src",
    "controller/objects/src",
    "controller/nodes/src/compile",
    "netd/src/plan",
    "agent/src/plan",
];

/// What would make it impure, and why it is tempting.
const FORBIDDEN: &[(&str, &str)] = &[
    ("tokio::", "no runtime: a plan is synchronous"),
    ("tonic::", "no network"),
    ("Timestamp::now", "time is an argument"),
    ("SystemTime::now", "time is an argument"),
    ("Instant::now", "time is an argument"),
    ("std::env", "configuration is an argument"),
    ("std::fs", "no files"),
    ("rand::", "seeds are arguments"),
    ("HashMap", "its order differs from run to run: use BTreeMap"),
    ("HashSet", "its order differs from run to run: use BTreeSet"),
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in
        std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
    {
        let path = entry.expect("a directory entry").path();
        // What fuzzing has built lies beside its targets.
        if path.is_dir() && !path.ends_with("target") {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The part of a file before its tests, without comments.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).expect("source is text");
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn plans_are_pure() {
    let mut violations = Vec::new();
    for folder in PURE {
        let mut files = Vec::new();
        rust_files(&repository().join(folder), &mut files);
        assert!(!files.is_empty(), "{folder} holds no source: mend the list");
        for file in files {
            // Models and cases of tests live beside the plans that they test.
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.contains("test") || file.components().any(|part| part.as_os_str() == "tests") {
                continue;
            }
            let code = code(&file);
            for (word, reason) in FORBIDDEN.iter().filter(|(word, _)| code.contains(word)) {
                violations.push(format!("{}: {word}: {reason}", file.display()));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn every_source_file_says_what_it_is() {
    let mut silent = Vec::new();
    for folder in ["proto", "controller", "netd", "agent", "cli", "tests"] {
        let mut files = Vec::new();
        rust_files(&repository().join(folder), &mut files);
        silent.extend(files.into_iter().filter(|file| {
            !std::fs::read_to_string(file).expect("source is text").trim_start().starts_with("//!")
        }));
    }
    assert!(silent.is_empty(), "without a //! head: {silent:#?}");
}

#[test]
fn no_process_calls_another_program_at_run_time() {
    let mut callers = Vec::new();
    for folder in ["controller", "netd/src", "agent/src", "proto"] {
        let mut files = Vec::new();
        rust_files(&repository().join(folder), &mut files);
        let shipped =
            files.into_iter().filter(|file| !file.iter().any(|part| part == "tests" || part == "benches"));
        callers.extend(shipped.filter(|file| code(file).contains("Command::new")));
    }
    assert!(callers.is_empty(), "netlink and the Docker API do it, not programs: {callers:#?}");
}
