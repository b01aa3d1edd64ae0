//! What a cluster's members run on, and what scenarios do to it. Two kinds: the containers of `warren up`
//! ([`crate::local`]) and plain processes on machines of their own ([`crate::bare`]). Members are called alike:
//! NAME-controller, NAME-gateway, NAME-node-1 and so on.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{bare::Bare, clock::Launch, succeed};

/// The place on the underlay that is outside of the cluster, and sees all that passes.
#[derive(Debug, Clone)]
pub struct Outside {
    /// Its address.
    pub address: String,
    /// Its link.
    pub bridge: String,
}

/// The machines of a cluster.
pub trait Machines: Send + Sync {
    /// Takes the calling thread, and all that it starts from now on, to where the cluster can be reached.
    fn enter(&self);

    /// The administrator's kubeconfig, as it is to be used from where [`Machines::enter`] leads.
    fn kubeconfig(&self) -> String;

    /// The gateway's HTTP address.
    fn gateway(&self) -> SocketAddr;

    /// A port on this side that nothing uses.
    fn spare_port(&self) -> u16;

    /// The bridge that the members are plugged into.
    fn outside(&self) -> Outside;

    /// A member's address on the underlay.
    fn address(&self, member: &str) -> String;

    /// A command in a member's network.
    fn command(&self, member: &str, program: &str) -> Command;

    /// Cuts a member's power: all its processes end at once, its pods too.
    fn kill(&self, member: &str);

    /// Switches it on again.
    fn start(&self, member: &str);

    /// Ends a member's own process (`warren controller`, or `warren node` with its daemons) by a signal, TERM or
    /// KILL; it stays away until [`Machines::resume`].
    fn halt(&self, member: &str, signal: &str);

    /// Starts it again, and does not wait for it; nothing happens to one that runs.
    fn resume(&self, member: &str);

    /// What it has logged since it was last started.
    fn latest_log(&self, member: &str) -> String;

    /// Lets a member that lost its identity join again.
    fn admit(&self, member: &str);

    /// The controller as a program that is started by hand; its own process is halted until [`Machines::resume`].
    fn stand_in(&self) -> Launch;

    /// Where a member keeps its state (the controller: its data), as this side sees its disk.
    fn state(&self, member: &str) -> PathBuf;

    /// Runs a shell line where a member's disk is mounted as the member sees it, whether it is halted or not.
    fn shell(&self, member: &str, line: &str) -> Output;

    /// Runs `warren restore` for this cluster's controller, whatever comes of it.
    fn restore(&self, arguments: &[&str]) -> Output;

    /// A member's processes by daemon ("node" is the supervisor), with their identifiers on this machine.
    fn processes(&self, member: &str) -> BTreeMap<String, u32>;

    /// Puts a program in the place of a member's own, as another file.
    fn install(&self, member: &str, program: &Path);

    /// What a member's processes logged, for people.
    fn logs(&self, member: &str) -> String;

    /// Tells every member once more to be what it is already; nothing may change by that.
    fn again(&self);

    /// Runs `warren` as the cluster's administrator; it must succeed.
    fn warren(&self, arguments: &[&str]) -> String;

    /// docker against the engine that holds a member's pods.
    fn docker_command(&self, member: &str, arguments: &[&str]) -> Command;

    /// One member of each engine.
    fn engines(&self) -> Vec<String>;

    /// Brings images of this machine's engine to the engines of the members.
    fn bring(&self, images: &[&str]);

    /// Removes the cluster.
    fn down(&mut self);

    /// What would still be there after [`Machines::down`].
    fn left(&self) -> Vec<String>;

    /// The plain machines, if they are.
    fn bare(&self) -> Option<&Bare> {
        None
    }

    /// Runs docker against the engine that holds a member's pods.
    fn docker(&self, member: &str, arguments: &[&str]) -> String {
        succeed(&mut self.docker_command(member, arguments)).trim().to_owned()
    }

    /// The same, whatever comes of it.
    fn try_docker(&self, member: &str, arguments: &[&str]) -> Output {
        self.docker_command(member, arguments).output().expect("docker starts")
    }

    /// Gives an image another name on every engine.
    fn tag(&self, image: &str, name: &str) {
        for member in self.engines() {
            self.docker(&member, &["tag", image, name]);
        }
    }

    /// Removes the name of an image from every engine.
    fn untag(&self, name: &str) {
        for member in self.engines() {
            self.docker(&member, &["rmi", name]);
        }
    }
}
