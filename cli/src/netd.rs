use crate::args::{Logging, NetdOptions};
pub(crate) fn main(_options: NetdOptions, _logging: &Logging) -> anyhow::Result<()> {
    anyhow::bail!("stub")
}
