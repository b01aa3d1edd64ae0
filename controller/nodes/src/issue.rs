//! A node asks for a token of a pod's service account. What it gets is bound to the pod: it ends with it.

use jiff::Timestamp;
use tonic::Status;
use warren_proto::control::{IssueTokenRequest, IssueTokenResponse};
use warren_tokens::node_asks;

use crate::{Nodes, identity::Caller};

/// As for every client of the API.
const LEAST_SECONDS: i64 = 600;

impl Nodes {
    /// The caller's certificate decides: the pod must be bound to that node and have that uid, and the account is the pod's.
    pub(crate) fn issue_token(
        &self,
        caller: &Caller,
        request: IssueTokenRequest,
    ) -> Result<IssueTokenResponse, Status> {
        let IssueTokenRequest { namespace, pod, pod_uid, audience, expiration_seconds } = request;
        if expiration_seconds < LEAST_SECONDS {
            let why = format!("expiration_seconds: {expiration_seconds}: must be at least {LEAST_SECONDS}");
            return Err(Status::invalid_argument(why));
        }
        let binding = node_asks(&self.store.snapshot(), &caller.name, &namespace, &pod, &pod_uid);
        let binding = binding.ok_or_else(|| {
            // The same words whatever is wrong: a node learns nothing of pods that are not its own.
            Status::not_found(format!(
                "no pod {namespace}/{pod} with this uid and a service account runs on {}",
                caller.name
            ))
        })?;
        let audiences: Vec<String> =
            Some(audience).filter(|audience| !audience.is_empty()).into_iter().collect();
        let issued = self.pod_tokens.issue(binding, &audiences, expiration_seconds, Timestamp::now());
        let issued = issued.map_err(|error| Status::internal(error.to_string()))?;
        metrics::counter!("warren_nodes_issued_tokens_total").increment(1);
        let expires_at_ms = issued.expires.map_or(0, Timestamp::as_millisecond);
        Ok(IssueTokenResponse { token: issued.token, expires_at_ms })
    }
}
