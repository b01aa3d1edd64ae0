//! Who asks ([`authenticate`]), and whether they may ([`authorize`]).

mod authenticate;
mod authorize;

#[cfg(test)]
mod tests;

pub(crate) use authenticate::authenticate;
pub(crate) use authorize::authorize;
