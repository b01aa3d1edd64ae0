//! Who asks ([`authenticate`]), and whether they may ([`authorize`]).

mod authenticate;
mod authorize;
mod bearer;

#[cfg(test)]
mod tests;

pub(crate) use authenticate::{authenticate, impersonate};
pub(crate) use authorize::authorize;
pub(crate) use bearer::bearer;
