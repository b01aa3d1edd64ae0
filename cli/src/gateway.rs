//! `warren gateway`.

use warren_gateway::Config;
use warren_runtime::descriptors::Descriptors;

use crate::{
    args::{GatewayOptions, Logging},
    daemon,
};

pub(crate) fn main(options: GatewayOptions, logging: &Logging) -> anyhow::Result<()> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let config = Config {
        http: options.listeners.http,
        https: options.listeners.https,
        threads: options.threads.unwrap_or_else(cores).max(1),
        state_dir: options.member.state_dir,
        controller: options.member.controller,
        trusted_proxies: options.listeners.trusted_proxies,
        descriptors: Descriptors::inherited(),
    };
    daemon::main("gateway", logging, options.metrics, |stop| warren_gateway::run(config, stop))
}
