//! A member's identity: made by joining, kept in the state directory, renewed before it ends.

use std::{
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rcgen::{CertificateParams, DnType, KeyPair};
use tonic::{Code, Status};
use warren_proto::control::{JoinRequest, Role, join_client::JoinClient};

use crate::{
    connection::{self, KeepAlive},
    tls,
};

/// Who this member is, as PEM.
#[derive(Clone)]
pub struct Identity {
    /// The member's name.
    pub name: String,
    /// The cluster's CA.
    pub ca_pem: String,
    /// The member's certificate.
    pub certificate_pem: String,
    /// Its key; it never leaves the machine.
    pub key_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a join did not happen.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The text is no token.
    #[error(
        "the join token is malformed: expected wrn1.ID.SECRET.CAHASH; make a new one with `warren token create`"
    )]
    Malformed,
    /// The controller could not be reached, or is not the one that the token names.
    #[error("cannot reach the controller at {controller}: {cause}")]
    Unreachable {
        /// HOST:PORT.
        controller: String,
        /// The chain of causes.
        cause: String,
    },
    /// The controller is not the one that the token names. Final: trying again cannot help.
    #[error(
        "the controller at {controller} is not the one that the join token names; make a token with `warren token \
         create` on that cluster"
    )]
    WrongAuthority {
        /// HOST:PORT.
        controller: String,
    },
    /// The controller said no.
    #[error("the controller refused the join: {0}")]
    Refused(String),
    /// Something local failed.
    #[error("cannot join: {0}")]
    Local(String),
}

/// Between certificate and key in their common file; PEM allows such lines.
const KEY_FOLLOWS: &str = "# the key of the certificate above\n";

fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("identity")
}

impl Identity {
    /// The identity kept in `state_dir`, or `None` when the member never joined.
    pub fn load(state_dir: &Path) -> anyhow::Result<Option<Self>> {
        let directory = directory(state_dir);
        if !directory.join("node.pem").exists() {
            return Ok(None);
        }
        let read = |file: &str| {
            let path = directory.join(file);
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let pair = read("node.pem")?;
        let (certificate_pem, key_pem) =
            pair.split_once(KEY_FOLLOWS).context("identity/node.pem holds no certificate and key")?;
        Ok(Some(Self {
            name: read("name")?.trim().to_owned(),
            ca_pem: read("ca.pem")?,
            certificate_pem: certificate_pem.to_owned(),
            key_pem: key_pem.to_owned(),
        }))
    }

    /// Writes the identity. Certificate and key are one file, replaced at once, so that they always fit; it comes
    /// last, so that a half-written identity counts as none.
    pub fn save(&self, state_dir: &Path) -> anyhow::Result<()> {
        let directory = directory(state_dir);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let pair = format!("{}{KEY_FOLLOWS}{}", self.certificate_pem, self.key_pem);
        let files = [("name", &self.name), ("ca.pem", &self.ca_pem), ("node.pem", &pair)];
        for (file, text) in files {
            write_private(&directory.join(file), text.as_bytes())?;
        }
        Ok(())
    }
}

/// Replaces a file atomically, readable by its owner alone. What lies in its place, or in the place where it is made
/// (a link, a file that others may read), is removed and never written through.
pub fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// A fresh key and the request to certify it.
pub(crate) fn certificate_request(name: &str) -> Result<(KeyPair, Vec<u8>), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    let request = parameters.serialize_request(&key)?;
    Ok((key, request.der().to_vec()))
}

/// Wraps DER as a PEM block.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|c| std::str::from_utf8(c).unwrap_or_default()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Splits `wrn1.ID.SECRET.CAHASH` into `ID.SECRET` and the hash.
fn split_token(token: &str) -> Option<(String, &str)> {
    match token.trim().split('.').collect::<Vec<_>>()[..] {
        ["wrn1", id, secret, hash] if hash.len() == 64 && !id.is_empty() && !secret.is_empty() => {
            Some((format!("{id}.{secret}"), hash))
        }
        _ => None,
    }
}

/// What this machine is recognised by; the machine's identifier itself is nobody's business (machine-id(5)).
pub(crate) fn machine() -> String {
    let identifier = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    match identifier.trim() {
        "" => String::new(),
        identifier => tls::certificate_sha256(format!("warren machine {identifier}").as_bytes()),
    }
}

/// Exchanges a join token for an identity. `controller` is HOST:PORT. The key is made here.
pub async fn join(controller: &str, token: &str, name: &str, role: Role) -> Result<Identity, JoinError> {
    let (credential, hash) = split_token(token).ok_or(JoinError::Malformed)?;
    let local = |error: &dyn std::fmt::Display| JoinError::Local(error.to_string());
    let config = tls::pinned_config(hash).map_err(|error| local(&error))?;
    let channel = connection::connect(controller, config, KeepAlive::CALLS, None)
        .await
        .map_err(|error| unreachable(controller, &error))?;
    let (key, csr) = certificate_request(name).map_err(|error| local(&error))?;
    let request =
        JoinRequest { token: credential, name: name.to_owned(), role: role.into(), csr, machine: machine() };
    let response = JoinClient::new(channel)
        .join(request)
        .await
        .map_err(|status| declined(controller, &status))?
        .into_inner();
    if tls::certificate_sha256(&response.ca) != hash.to_ascii_lowercase() {
        return Err(JoinError::Refused("the answer carries another CA than the token names".into()));
    }
    Ok(Identity {
        name: name.to_owned(),
        ca_pem: pem("CERTIFICATE", &response.ca),
        certificate_pem: pem("CERTIFICATE", &response.certificate),
        key_pem: key.serialize_pem(),
    })
}

/// A controller that is busy or stopping may say yes a moment later.
fn declined(controller: &str, status: &Status) -> JoinError {
    match status.code() {
        Code::Unavailable => {
            JoinError::Unreachable { controller: controller.to_owned(), cause: status.message().to_owned() }
        }
        _ => JoinError::Refused(status.message().to_owned()),
    }
}

fn unreachable(controller: &str, error: &anyhow::Error) -> JoinError {
    let controller = controller.to_owned();
    let cause = format!("{error:#}");
    if cause.contains(tls::WRONG_AUTHORITY) {
        return JoinError::WrongAuthority { controller };
    }
    JoinError::Unreachable { controller, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_four_parts() {
        let hash = "ab".repeat(32);
        let token = format!("wrn1.id.secret.{hash}");
        assert_eq!(split_token(&token), Some(("id.secret".to_owned(), hash.as_str())));
        for bad in [
            "",
            "wrn1.id.secret",
            "wrn2.id.secret.00",
            &format!("wrn1..secret.{hash}"),
            &format!("{token}.x"),
        ] {
            assert_eq!(split_token(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_identity_survives_its_directory() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        assert!(Identity::load(directory.path()).expect("readable").is_none());
        let identity = Identity {
            name: "node-1".into(),
            ca_pem: "ca".into(),
            certificate_pem: "certificate".into(),
            key_pem: "key".into(),
        };
        identity.save(directory.path()).expect("writable");
        let loaded = Identity::load(directory.path()).expect("readable").expect("present");
        assert_eq!((loaded.name, loaded.key_pem), ("node-1".to_owned(), "key".to_owned()));
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(directory.path().join("identity/node.pem"))
            .expect("the key")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
