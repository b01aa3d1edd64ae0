//! The `warren` binary: every daemon, the node's supervisor, and the local cluster, as subcommands.

mod agent;
mod args;
mod cgroup;
mod controller;
mod daemon;
mod descriptors;
mod echo;
mod gateway;
mod join;
mod local;
mod machine;
mod netd;
mod node;
mod orphans;
mod output;
mod pause;
mod preflight;
mod supervisor;
mod telemetry;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser as _};

use crate::args::{Arguments, Command, Output};

/// The controller's objects are trees of small pieces, made by one thread and freed by another: glibc's allocator took a
/// fifth of its time (`make bench`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A sandbox is this binary too; it must stay tiny, so it never reaches clap or a runtime.
    if pause::is_meant(std::env::args_os()) {
        return pause::run();
    }
    match dispatch(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: Arguments) -> anyhow::Result<()> {
    let logging = arguments.logging;
    match arguments.command {
        Command::Controller(options) => controller::main(options, &logging),
        Command::Netd(options) => netd::main(options, &logging),
        Command::Agent(options) => agent::main(options, &logging),
        Command::Gateway(options) => gateway::main(options, &logging),
        Command::Node(options) => node::main(options, &logging),
        Command::Join(options) => join::main(options, &logging),
        Command::Echo(options) => echo::main(options, &logging),
        Command::Local(command) => local::main(command, &logging),
        Command::Pause => Ok(()),
        Command::Version(form) => {
            output::print(version(form.output));
            Ok(())
        }
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "warren", &mut script);
            output::print(String::from_utf8_lossy(&script));
            Ok(())
        }
        Command::Man { directory } => clap_mangen::generate_to(Arguments::command(), &directory)
            .with_context(|| format!("cannot write manual pages into {}", directory.display())),
    }
}

/// What `warren version` prints.
fn version(form: Output) -> String {
    match form {
        Output::Table => format!("warren {}\n", args::VERSION),
        Output::Json => {
            let fields = serde_json::json!({
                "version": env!("CARGO_PKG_VERSION"),
                "commit": env!("WARREN_COMMIT"),
                "commitDate": env!("WARREN_COMMIT_DATE"),
            });
            format!("{fields:#}\n")
        }
    }
}
