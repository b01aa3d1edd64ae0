use crate::args::{AgentOptions, Logging};
pub(crate) fn main(_options: AgentOptions, _logging: &Logging) -> anyhow::Result<()> {
    anyhow::bail!("stub")
}
