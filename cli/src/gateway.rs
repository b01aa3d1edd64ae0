use crate::args::{GatewayOptions, Logging};
pub(crate) fn main(_options: GatewayOptions, _logging: &Logging) -> anyhow::Result<()> {
    anyhow::bail!("stub")
}
