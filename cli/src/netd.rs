//! `warren netd`.

use warren_netd::Config;
use warren_runtime::descriptors::Descriptors;

use crate::{
    args::{Logging, NetdOptions},
    daemon,
};

pub(crate) fn main(options: NetdOptions, logging: &Logging) -> anyhow::Result<()> {
    let config = Config {
        state_dir: options.member.state_dir,
        controller: options.member.controller,
        interface: options.interface,
        port: options.port,
        descriptors: Descriptors::inherited(),
    };
    daemon::main("netd", logging, options.metrics, |stop| warren_netd::run(config, stop))
}
