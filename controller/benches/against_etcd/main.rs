//! The whole controller (TLS, API, store, planners, one process) beside Debian's etcd alone, in turns, on the same
//! disk: `cargo bench -p warren-controller --bench against_etcd [-- creates|watches|lists]`.
//!
//! Needs etcd (package etcd-server). etcd is no equal: it neither encrypts nor authenticates here, knows no JSON,
//! and validates nothing. It is what a Kubernetes API server would have to ask behind its own work, so a ratio
//! near 1 means that the API costs nothing beside it.

#![allow(clippy::print_stdout, reason = "a benchmark's result goes to standard output")]
#![allow(clippy::disallowed_methods, reason = "it starts itself as the controller that is measured")]

mod creates;
mod lists;
#[path = "../../store/benches/peer/mod.rs"]
mod peer;
mod warren;
mod watches;

use std::path::Path;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    if let [first, directory] = arguments.as_slice()
        && first == warren::CHILD
    {
        return runtime.block_on(warren::serve(Path::new(directory)));
    }
    peer::warn_if_slow();
    let wanted = |name: &str| {
        let mut names = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
        names.peek().is_none() || names.any(|argument| argument == name)
    };
    runtime.block_on(async {
        if wanted("creates") {
            creates::compare().await?;
        }
        if wanted("watches") {
            watches::compare().await?;
        }
        if wanted("lists") {
            lists::compare().await?;
        }
        Ok(())
    })
}
