//! netd against real kernels' namespaces, netlink, tunnels and sockets. Needs root.
#![allow(clippy::unwrap_used)]

mod attach;
mod capture;
mod lab;
mod names;
mod overlay;
mod services;
