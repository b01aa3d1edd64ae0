//! Who asks ([`authenticate`]), and whether they may ([`authorize`]).

mod authenticate;
mod authorize;
mod impersonation;

#[cfg(test)]
mod tests;

pub(crate) use authenticate::authenticate;
pub(crate) use authorize::{authorize, decide, decide_path, is_member};
