//! `warren controller`.

use warren_controller::Config;

use crate::{
    args::{ControllerOptions, Logging},
    daemon,
};

pub(crate) fn main(options: ControllerOptions, logging: &Logging) -> anyhow::Result<()> {
    daemon::private_directory(&options.data_dir, "--data-dir")?;
    let config = Config {
        data_dir: options.data_dir,
        listen: options.listen,
        sans: options.tls_san,
        advertise: options.advertise_address,
        networks: options.networks.wanted(),
        restore: options.restore,
        quarantine: options.quarantine,
    };
    daemon::main("controller", logging, options.metrics, |stop| warren_controller::run(config, stop))
}
