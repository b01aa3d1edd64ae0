//! Joining: a single-use token and a key become a member with a name, a slice of the network and a certificate.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tonic::{Request, Response, Status};
use warren_proto::{
    control::{Consumer, JoinRequest, JoinResponse, Role, join_server::Join},
    vocabulary::NodeName,
};
use warren_runtime::rate::shown;
use warren_store::{CommitError, Key, Object, Precondition, Snapshot, Transaction};
use warren_vocabulary::{
    ClusterConfig, ipam,
    member::{Member, MemberRole},
    resources::NODES,
};
use warren_write::Author;

use crate::{
    AuthorityError, Nodes,
    identity::{self, Subject},
    node_status, tokens,
    writes::WriteError,
};

/// How often a join is planned anew when something it read changed.
const ATTEMPTS: usize = 16;
/// How long a machine that joins again waits until its former life is heard no more: a moment ago that was stopped.
const SILENCE: Duration = Duration::from_secs(4);
/// A hash in hexadecimal, with some room.
const LONGEST_MACHINE: usize = 128;
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) struct JoinService {
    nodes: Arc<Nodes>,
}

impl JoinService {
    pub(crate) fn new(nodes: Arc<Nodes>) -> Self {
        Self { nodes }
    }
}

#[tonic::async_trait]
impl Join for JoinService {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let request = request.into_inner();
        // A machine that asks here is a stranger: what it says of itself is shown shortened, and not as often as it likes.
        let name = shown(&request.name);
        match self.nodes.join(&request).await {
            Ok(response) => {
                tracing::info!(name, role = ?request.role(), "a member joined");
                Ok(Response::new(response))
            }
            Err(Declined { status, why }) => {
                metrics::counter!("warren_nodes_refused_joins_total").increment(1);
                if let Some(unsaid) = self.nodes.refusals.now() {
                    let reason = why.map_or_else(|| status.message().to_owned(), |why| why.to_string());
                    tracing::warn!(name, reason, unsaid, "refused a join");
                }
                Err(status)
            }
        }
    }
}

/// Why a join did not happen.
struct Declined {
    /// What the caller is told.
    status: Status,
    /// What only the log is told: the caller learns that the token does not open, and not why.
    why: Option<tokens::Refusal>,
}

impl From<Status> for Declined {
    fn from(status: Status) -> Self {
        Self { status, why: None }
    }
}

impl From<tokens::Refusal> for Declined {
    fn from(refusal: tokens::Refusal) -> Self {
        Self { status: refusal.status(), why: Some(refusal) }
    }
}

impl Nodes {
    async fn join(&self, request: &JoinRequest) -> Result<JoinResponse, Declined> {
        let now = Timestamp::now();
        // The token first: who has none learns nothing about names.
        let token = tokens::check(&self.store.snapshot(), &request.token, now)?;
        let name: NodeName =
            request.name.parse().map_err(|error| Status::invalid_argument(format!("name: {error}")))?;
        let role = match request.role() {
            Role::Node => MemberRole::Node,
            Role::Gateway => MemberRole::Gateway,
            Role::Unspecified => return Err(Status::invalid_argument("role: must be node or gateway").into()),
        };
        if tokens::role(&token) != Some(role) {
            let (asked, other) = match role {
                MemberRole::Node => ("node", "gateway"),
                MemberRole::Gateway => ("gateway", "node"),
            };
            return Err(Declined::from(Status::permission_denied(format!(
                "this join token is for a {other}; make one for a {asked} with `warren token create --role {asked}`"
            ))));
        }
        if request.machine.len() > LONGEST_MACHINE
            || !request.machine.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            return Err(Declined::from(Status::invalid_argument(
                "machine: must be letters, digits and dashes",
            )));
        }
        let id = uuid::Uuid::new_v4().to_string();
        let (role_of_certificate, machine) = (request.role(), machine_of(request));
        let subject =
            Subject { name: name.as_str(), role: role_of_certificate, id: &id, machine: machine.as_deref() };
        let certificate = self.ca.sign_member(&request.csr, &subject).map_err(refused)?;
        let asked = Instant::now();
        while asked.elapsed() < SILENCE && self.claim(&self.store.snapshot(), request, role) == Claim::Runs {
            tokio::time::sleep(LOOK).await;
        }
        let _one_at_a_time = self.joining.lock().await;
        for _ in 0..ATTEMPTS {
            let snapshot = self.store.snapshot();
            let token = tokens::check(&snapshot, &request.token, now)?;
            let transaction = self.admission(&snapshot, &token, request, (role, &id), now)?;
            match self.writer.commit(Author::node(name.as_str()), &snapshot, transaction).await {
                Ok(_) => {
                    // The machine that had this name is no member from now on.
                    self.calls.end_strangers(&self.store.snapshot());
                    self.welcome(name.as_str(), role);
                    return Ok(JoinResponse { certificate, ca: self.ca.ca_der().to_vec() });
                }
                Err(WriteError::Store(CommitError::Conflict(Precondition::Revision(key, _))))
                    if key == token.key =>
                {
                    return Err(tokens::Refusal::Used.into());
                }
                Err(WriteError::Store(CommitError::Conflict(_))) => {}
                Err(WriteError::Refused(refused)) => {
                    return Err(Status::failed_precondition(format!("the join is refused: {refused}")).into());
                }
                Err(error) => {
                    return Err(Status::unavailable(format!("the join could not be stored: {error}")).into());
                }
            }
        }
        Err(Status::aborted("the cluster's state kept changing during the join; try again").into())
    }

    /// One commit: the token goes, the member (and its Node) comes.
    fn admission(
        &self,
        snapshot: &Snapshot,
        token: &Object,
        request: &JoinRequest,
        (role, id): (MemberRole, &str),
        now: Timestamp,
    ) -> Result<Transaction, Status> {
        let name = request.name.as_str();
        let node = Key::new(NODES, "", name);
        let mut transaction = Transaction::new().delete(token.key.clone(), token.revision);
        let known = snapshot.get(&Member::key(name));
        let claim = self.claim(snapshot, request, role);
        if claim != Claim::Free {
            let hint = match claim {
                Claim::Runs => "; it still runs on this very machine: stop it there and try again",
                _ => "",
            };
            return Err(Status::already_exists(format!(
                "a member named {name} exists{hint}; join under another name, or remove it first with `warren member \
                 remove {name}`"
            )));
        }
        let former = known.and_then(|object| Member::from_object(object).ok());
        let kept = former.map(|member| member.pod_cidr);
        let taken = identity::members(snapshot).map(|member| member.pod_cidr).collect();
        let pod_cidr = kept.or_else(|| ipam::next_pod_cidr(&self.config, &taken)).ok_or_else(|| {
            let ClusterConfig { cluster_cidr, node_prefix, .. } = &self.config;
            Status::resource_exhausted(format!(
                "the cluster is full: all {} networks of nodes (/{node_prefix}) in the cluster network {cluster_cidr} \
                 belong to members; remove one that is gone with `warren member remove`. How many there are is decided \
                 when a cluster is founded: by --cluster-network and --node-network-prefix of the controller",
                self.config.members()
            ))
        })?;
        let member = Member {
            name: name.to_owned(),
            role,
            id: Some(id.to_owned()),
            machine: machine_of(request),
            pod_cidr,
            public_key: None,
            endpoint: None,
            backend: None,
            mtu: None,
        };
        transaction = match known {
            Some(object) => transaction.replace(object.key.clone(), object.revision, member.to_value()),
            None => transaction.create(Member::key(name), member.to_value()),
        };
        if role == MemberRole::Node && snapshot.get(&node).is_none() {
            let uid = uuid::Uuid::new_v4().to_string();
            transaction = transaction.create(node, node_status::new_node(&member, &uid, now));
        }
        Ok(transaction)
    }

    /// A new member has a whole term to say its first word.
    fn welcome(&self, name: &str, role: MemberRole) {
        let now = Instant::now();
        let mut leases = self.leases.lock();
        for consumer in consumers(role) {
            leases.beat(name, consumer, now);
        }
    }

    /// Whether this machine may have the name that it asks for.
    fn claim(&self, snapshot: &Snapshot, request: &JoinRequest, role: MemberRole) -> Claim {
        let name = request.name.as_str();
        let Some(known) = snapshot.get(&Member::key(name)) else { return Claim::Free };
        let former = Member::from_object(known).ok().filter(|former| former.role == role);
        let Some(former) = former else { return Claim::Taken };
        // It never came to life, since the answer to its join was lost; or its Node was deleted.
        let is_gone = role == MemberRole::Node && snapshot.get(&Key::new(NODES, "", name)).is_none();
        if former.public_key.is_none() || is_gone {
            return Claim::Free;
        }
        match machine_of(request) {
            // It has lost its state directory.
            Some(machine) if former.machine.as_ref() == Some(&machine) => {
                if self.is_heard(name, role) {
                    Claim::Runs
                } else {
                    Claim::Free
                }
            }
            _ => Claim::Taken,
        }
    }

    /// Whether any process of the member was heard within the last moments.
    fn is_heard(&self, name: &str, role: MemberRole) -> bool {
        let (now, leases) = (Instant::now(), self.leases.lock());
        consumers(role).iter().any(|consumer| leases.alive(name, *consumer, now))
    }
}

/// What a join finds under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// No member has it, or the one that asks.
    Free,
    /// Who asks, and it still runs.
    Runs,
    /// Another member.
    Taken,
}

/// What the asking machine is recognised by, if it says so.
fn machine_of(request: &JoinRequest) -> Option<String> {
    Some(request.machine.clone()).filter(|machine| !machine.is_empty())
}

/// The processes of a member that speak to the controller.
fn consumers(role: MemberRole) -> [Consumer; 2] {
    match role {
        MemberRole::Node => [Consumer::Agent, Consumer::Netd],
        MemberRole::Gateway => [Consumer::Gateway, Consumer::Netd],
    }
}

pub(crate) fn refused(error: AuthorityError) -> Status {
    match error {
        AuthorityError::Request(_) => Status::invalid_argument(format!("csr: {error}")),
        error => {
            tracing::error!(%error, "cannot sign a certificate");
            Status::internal("the controller could not sign the certificate; see its log")
        }
    }
}
