//! netd against real kernels' namespaces, netlink, tunnels and sockets. Needs root.
// Tests have threads of their own to sleep on, and may call `ip`, `nft` and `ping` to do harm and to look.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod absent;
mod affinity;
mod attach;
mod capture;
mod entrance;
mod firewall;
mod forwarding;
mod lab;
mod names;
mod overlay;
mod services;
mod survival;
