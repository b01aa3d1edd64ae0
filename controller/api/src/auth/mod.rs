//! Who asks ([`authenticate`]), and whether they may ([`authorize`]).

mod authenticate;
mod authorize;
mod bearer;
mod impersonation;

#[cfg(test)]
mod tests;

pub(crate) use authenticate::{authenticate, impersonate};
pub(crate) use authorize::{authorize, decide, decide_path, is_member};
pub(crate) use bearer::bearer;
