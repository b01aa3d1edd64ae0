//! Laws that the compiler does not know, checked against the source.

use std::path::{Path, PathBuf};

/// Crates whose code must be a function of its arguments. Clippy holds them to it (`clippy-pure.toml`); what is here
/// makes sure that it does, and that they can name nothing that would get around it.
const PURE: &[&str] = &[
    "controller/state",
    "controller/vocabulary",
    "controller/objects",
    "controller/access",
    "controller/fields",
    "controller/write",
    "controller/plan",
    "controller/compile",
    "netd/plan",
    "agent/plan",
];

/// What they may depend on, besides each other: values, formats and arithmetic.
const PURE_DEPENDENCIES: &[&str] = &[
    // Of the contract they use the messages and the vocabulary.
    "warren-proto",
    "base64",
    "bytes",
    "imbl",
    "ipnet",
    "jiff",
    "k8s-openapi",
    // Counters, which nobody reads back.
    "metrics",
    // Encoding of messages.
    "prost",
    "saphyr-parser",
    "serde",
    "serde_json",
    "sha2",
    "thiserror",
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

fn manifest(folder: &str) -> toml::Table {
    let path = repository().join(folder).join("Cargo.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn plans_are_pure() {
    let names: Vec<String> = PURE
        .iter()
        .map(|folder| manifest(folder)["package"]["name"].as_str().expect("a name").to_owned())
        .collect();
    for folder in PURE {
        let rules = std::fs::canonicalize(repository().join(folder).join("clippy.toml")).expect("rules");
        assert_eq!(
            rules,
            repository().join("clippy-pure.toml"),
            "{folder} is not held to the rules of the pure"
        );
        let manifest = manifest(folder);
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{folder}");
        assert!(manifest.get("target").is_none() && manifest.get("build-dependencies").is_none(), "{folder}");
        for dependency in manifest["dependencies"].as_table().expect("dependencies").keys() {
            let pure = names.contains(dependency) || PURE_DEPENDENCIES.contains(&dependency.as_str());
            assert!(pure, "{folder} depends on {dependency}, which decisions have no use for");
        }
    }
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
fn every_metric_has_a_help_text() {
    let texts = repository().join("cli/src/telemetry/metrics.rs");
    let texts = std::fs::read_to_string(&texts).expect("the help texts");
    let mut silent = Vec::new();
    for folder in ["proto", "controller", "netd", "agent", "cli"] {
        let mut files = Vec::new();
        rust_files(&repository().join(folder), &mut files);
        for code in files.iter().map(|file| code(file)) {
            let named = ["counter!(", "gauge!(", "histogram!("].into_iter();
            let uses = named.flat_map(|makes| code.split(makes).skip(1).collect::<Vec<_>>());
            let names = uses.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
            silent.extend(names.filter(|name| !texts.contains(&format!("\"{name}\""))).map(str::to_owned));
        }
    }
    assert!(silent.is_empty(), "without a help text: {silent:#?}");
}

/// The part of a file before its tests, without comments.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).expect("source is text");
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn no_process_calls_another_program_at_run_time() {
    let mut callers = Vec::new();
    for folder in ["controller", "netd", "agent", "proto"] {
        let mut files = Vec::new();
        rust_files(&repository().join(folder), &mut files);
        let shipped =
            files.into_iter().filter(|file| !file.iter().any(|part| part == "tests" || part == "benches"));
        callers.extend(shipped.filter(|file| code(file).contains("Command::new")));
    }
    assert!(callers.is_empty(), "netlink and the Docker API do it, not programs: {callers:#?}");
}
