use crate::args::{ControllerOptions, Logging};
pub(crate) fn main(_options: ControllerOptions, _logging: &Logging) -> anyhow::Result<()> {
    anyhow::bail!("stub")
}
