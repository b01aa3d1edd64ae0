//! The cluster's certificate authority: made at first start, kept in two files.
//!
//! Every certificate is X.509 v3 (rustls refuses v1), P-256, with a random serial and a start that lies a day back:
//! a member whose clock is a day behind uses it at once, and so do all others when the controller's is a day ahead.

use std::{
    fs, io,
    io::Write as _,
    net::IpAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, pem::PemObject as _};
use warren_runtime::tls::{MACHINE_URI, MEMBER_URI};

use crate::identity::{MEMBERS, Subject, common_name};

const DAY: Duration = Duration::from_secs(86_400);
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
const SERVER_LIFETIME: Duration = Duration::from_secs(365 * 86_400);
/// How long a member's certificate is good; members renew at a third of it.
pub const MEMBER_LIFETIME: Duration = Duration::from_secs(90 * 86_400);
/// A day, and an hour for clocks that are off by a little more.
const BACKDATED: Duration = Duration::from_secs(25 * 3_600);

/// Why the authority cannot start or cannot sign.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// "read", "write", "create".
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// One of the two files is missing.
    #[error(
        "{} exists but {} does not: restore it from a backup, or remove both to found a new cluster (all members must then join again)",
        present.display(), missing.display()
    )]
    Incomplete {
        /// The file that is there.
        present: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
    /// A file does not hold what it should.
    #[error("{} is damaged ({reason}): restore it from a backup", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A member's request is malformed, or its signature does not match its key.
    #[error("the certificate signing request is not acceptable: {0}")]
    Request(String),
    /// rcgen holds one value per attribute type.
    #[error("a certificate can name at most one organization, not {0}")]
    Organizations(usize),
    /// A certificate could not be made.
    #[error("cannot issue a certificate: {0}")]
    Issue(#[from] rcgen::Error),
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Issued {
    /// The leaf, PEM.
    pub certificate_pem: String,
    /// Its private key, PKCS#8 PEM.
    pub key_pem: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

/// The cluster's root of trust.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
    fingerprint: String,
}

impl CertificateAuthority {
    /// Reads `ca.pem` and `ca.key` from `dir`, or makes both when neither exists.
    pub fn load_or_create(dir: &Path) -> Result<Arc<Self>, AuthorityError> {
        let (certificate, key) = (dir.join("ca.pem"), dir.join("ca.key"));
        let authority = match (certificate.exists(), key.exists()) {
            (true, true) => Self::load(&certificate, &key),
            (false, false) => Self::create(dir, &certificate, &key),
            (true, false) => Err(AuthorityError::Incomplete { present: certificate, missing: key }),
            (false, true) => Err(AuthorityError::Incomplete { present: key, missing: certificate }),
        }?;
        Ok(Arc::new(authority))
    }

    fn create(dir: &Path, certificate: &Path, key: &Path) -> Result<Self, AuthorityError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|source| AuthorityError::File { action: "create", path: dir.to_owned(), source })?;
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = dated(AUTHORITY_LIFETIME);
        params.distinguished_name = subject("warren-ca", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&pair)?.pem();
        write(key, &pair.serialize_pem(), 0o600)?;
        write(certificate, &pem, 0o644)?;
        tracing::info!(directory = %dir.display(), "made the cluster's certificate authority");
        Self::load(certificate, key)
    }

    fn load(certificate: &Path, key: &Path) -> Result<Self, AuthorityError> {
        let damaged = |path: &Path, reason: String| AuthorityError::Damaged { path: path.to_owned(), reason };
        let pem = read(certificate)?;
        let pair = KeyPair::from_pem(&read(key)?).map_err(|error| damaged(key, error.to_string()))?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| damaged(certificate, error.to_string()))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der)
            .map_err(|error| damaged(certificate, error.to_string()))?;
        if &*parsed.public_key().subject_public_key.data != pair.public_key_raw() {
            return Err(damaged(key, format!("it is not the key of {}", certificate.display())));
        }
        let issuer = Issuer::from_ca_cert_der(&der, pair)?;
        let fingerprint = warren_runtime::tls::certificate_sha256(&der);
        Ok(Self { issuer, pem, der: der.into_owned(), fingerprint })
    }

    /// The CA certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.pem
    }

    /// The CA certificate, DER.
    pub fn ca_der(&self) -> &[u8] {
        &self.der
    }

    /// Hex SHA-256 of the CA certificate's DER form: what join tokens pin.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// A server certificate, good for a year. `sans` are DNS names and IP addresses; the first one is the CN.
    pub fn issue_server(&self, sans: &[String]) -> Result<Issued, AuthorityError> {
        let name = sans.first().map_or("warren-controller", String::as_str);
        let mut params = leaf(subject(name, None), ExtendedKeyUsagePurpose::ServerAuth, SERVER_LIFETIME);
        for san in sans {
            params.subject_alt_names.push(match san.parse::<IpAddr>() {
                Ok(address) => rcgen::SanType::IpAddress(address),
                Err(_) => rcgen::SanType::DnsName(san.as_str().try_into()?),
            });
        }
        self.issue(&params)
    }

    /// A client certificate: `common_name` is the user, the organization (at most one) its group.
    pub fn issue_client(
        &self,
        common_name: &str,
        organizations: &[&str],
        lifetime: Duration,
    ) -> Result<Issued, AuthorityError> {
        if organizations.len() > 1 {
            return Err(AuthorityError::Organizations(organizations.len()));
        }
        let subject = subject(common_name, organizations.first().copied());
        self.issue(&leaf(subject, ExtendedKeyUsagePurpose::ClientAuth, lifetime))
    }

    fn issue(&self, params: &CertificateParams) -> Result<Issued, AuthorityError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&pair, &self.issuer)?;
        Ok(Issued { certificate_pem: certificate.pem(), key_pem: pair.serialize_pem() })
    }

    /// Certifies the key of a PKCS#10 request (DER) as a member's; the answer is DER. Only the key is taken
    /// from the request: subject, purposes and lifetime are ours.
    pub(crate) fn sign_member(
        &self,
        csr_der: &[u8],
        member: &Subject<'_>,
    ) -> Result<Vec<u8>, AuthorityError> {
        let common_name = common_name(member.name, member.role)
            .ok_or_else(|| AuthorityError::Request("the role is missing".into()))?;
        let mut request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr_der))
                .map_err(|error| AuthorityError::Request(error.to_string()))?;
        let subject = subject(&common_name, Some(MEMBERS));
        request.params = leaf(subject, ExtendedKeyUsagePurpose::ClientAuth, MEMBER_LIFETIME);
        let mut uris = vec![format!("{MEMBER_URI}{}", member.id)];
        uris.extend(member.machine.map(|machine| format!("{MACHINE_URI}{machine}")));
        for uri in uris {
            request.params.subject_alt_names.push(rcgen::SanType::URI(uri.as_str().try_into()?));
        }
        Ok(request.signed_by(&self.issuer)?.der().to_vec())
    }
}

fn subject(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name
}

fn dated(lifetime: Duration) -> CertificateParams {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + lifetime).into();
    params.serial_number = Some(serial());
    params
}

fn leaf(
    subject: DistinguishedName,
    purpose: ExtendedKeyUsagePurpose,
    lifetime: Duration,
) -> CertificateParams {
    let mut params = dated(lifetime.max(Duration::from_secs(60)).min(DAY * 3_650));
    params.distinguished_name = subject;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    params
}

/// Sixteen random bytes, positive (RFC 5280 forbids negative and zero serials).
fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn read(path: &Path) -> Result<String, AuthorityError> {
    fs::read_to_string(path).map_err(|source| AuthorityError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

/// Whole or not at all: written beside, made durable, renamed.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), AuthorityError> {
    let beside = path.with_extension("new");
    let attempt = || -> io::Result<()> {
        let _ = fs::remove_file(&beside);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    attempt().map_err(|source| AuthorityError::File { action: "write", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use x509_parser::{extensions::GeneralName, prelude::*};

    use warren_proto::control::Role;

    use super::*;

    fn of(name: &str, role: Role) -> Subject<'_> {
        Subject { name, role, id: "6f1c", machine: Some("ab12") }
    }

    fn authority() -> (tempfile::TempDir, Arc<CertificateAuthority>) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let authority = CertificateAuthority::load_or_create(dir.path()).expect("made");
        (dir, authority)
    }

    fn csr(common_name: &str) -> Vec<u8> {
        let pair = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(common_name, Some("system:masters"));
        params.serialize_request(&pair).expect("a request").der().to_vec()
    }

    fn pem_to_der(pem: &str) -> Vec<u8> {
        CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM").to_vec()
    }

    fn check_leaf(authority: &CertificateAuthority, der: &[u8]) {
        let (_, leaf) = parse_x509_certificate(der).expect("DER");
        let (_, root) = parse_x509_certificate(authority.ca_der()).expect("DER");
        assert_eq!(leaf.version(), X509Version::V3);
        assert!(!leaf.is_ca());
        leaf.verify_signature(Some(root.public_key())).expect("signed by the CA");
        let now = ASN1Time::now().timestamp();
        let start = leaf.validity().not_before.timestamp();
        let back = i64::try_from(BACKDATED.as_secs()).expect("in range");
        assert!(back > 86_400 && (now - back - 60..=now - back + 10).contains(&start), "{start} {now}");
        assert!(leaf.raw_serial().len() == 16 && leaf.raw_serial()[0] < 0x80);
    }

    #[test]
    fn the_authority_survives_a_restart_and_its_key_is_private() {
        let (dir, first) = authority();
        let second = CertificateAuthority::load_or_create(dir.path()).expect("loaded");
        assert_eq!(first.fingerprint(), second.fingerprint());
        assert_eq!(first.fingerprint().len(), 64);
        let mode =
            |file: &str| fs::metadata(dir.path().join(file)).expect("file").permissions().mode() & 0o777;
        assert_eq!((mode("ca.pem"), mode("ca.key")), (0o644, 0o600));
        let der = second.sign_member(&csr("x"), &of("node-1", Role::Node)).expect("signed after a restart");
        check_leaf(&first, &der);
    }

    #[test]
    fn a_half_or_damaged_authority_is_refused_with_a_mend() {
        let (dir, _) = authority();
        fs::write(dir.path().join("ca.key"), KeyPair::generate().expect("a key").serialize_pem())
            .expect("written");
        let error = CertificateAuthority::load_or_create(dir.path()).err().expect("foreign key").to_string();
        assert!(error.contains("is damaged (it is not the key of"), "{error}");
        fs::remove_file(dir.path().join("ca.key")).expect("removed");
        let error = CertificateAuthority::load_or_create(dir.path()).err().expect("half").to_string();
        assert!(error.contains("restore it from a backup"), "{error}");
    }

    #[test]
    fn a_member_gets_our_subject_whatever_it_asks_for() {
        let (_dir, authority) = authority();
        let der = authority.sign_member(&csr("system:admin"), &of("gw", Role::Gateway)).expect("signed");
        check_leaf(&authority, &der);
        let (_, leaf) = parse_x509_certificate(&der).expect("DER");
        let peer = warren_runtime::tls::PeerIdentity::from_der(&der).expect("a subject");
        assert_eq!(peer.common_name, "system:warren:gateway:gw");
        assert_eq!(peer.organizations, ["system:warren:members"]);
        assert_eq!((peer.member.as_deref(), peer.machine.as_deref()), (Some("6f1c"), Some("ab12")));
        let usage = leaf.extended_key_usage().expect("readable").expect("present").value;
        assert!(usage.client_auth && !usage.server_auth && !usage.any);
        let lifetime = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
        assert_eq!(lifetime, (MEMBER_LIFETIME + BACKDATED).as_secs() as i64);
    }

    #[test]
    fn a_bad_request_is_refused() {
        let (_dir, authority) = authority();
        let error = authority.sign_member(b"nonsense", &of("n", Role::Node)).expect_err("no DER").to_string();
        assert!(error.starts_with("the certificate signing request is not acceptable"), "{error}");
        let mut forged = csr("x");
        let last = forged.len() - 1;
        forged[last] ^= 1;
        assert!(
            authority.sign_member(&forged, &of("n", Role::Node)).is_err(),
            "the signature does not match"
        );
        assert!(authority.sign_member(&csr("x"), &of("n", Role::Unspecified)).is_err());
    }

    #[test]
    fn a_server_certificate_names_hosts_and_addresses() {
        let (_dir, authority) = authority();
        let sans = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let issued = authority.issue_server(&sans).expect("issued");
        let der = pem_to_der(&issued.certificate_pem);
        check_leaf(&authority, &der);
        let (_, leaf) = parse_x509_certificate(&der).expect("DER");
        let names = &leaf.subject_alternative_name().expect("readable").expect("present").value.general_names;
        assert_eq!(names.len(), 3);
        assert!(matches!(names[0], GeneralName::DNSName("localhost")));
        assert!(matches!(names[1], GeneralName::IPAddress([127, 0, 0, 1])));
        assert!(leaf.extended_key_usage().expect("readable").expect("present").value.server_auth);
        assert!(KeyPair::from_pem(&issued.key_pem).is_ok());
    }

    #[test]
    fn a_client_certificate_carries_user_and_group() {
        let (_dir, authority) = authority();
        let issued = authority.issue_client("warren-admin", &["system:masters"], DAY).expect("issued");
        let der = pem_to_der(&issued.certificate_pem);
        check_leaf(&authority, &der);
        let peer = warren_runtime::tls::PeerIdentity::from_der(&der).expect("a subject");
        assert_eq!(
            (peer.common_name.as_str(), &peer.organizations[..]),
            ("warren-admin", &["system:masters".to_owned()][..])
        );
    }
}
