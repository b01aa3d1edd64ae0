//! The certificates that HTTPS clients are shown: those of the Ingresses, and, where they have none, a default one:
//! self-signed, made at the first start, kept in the state directory.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{DirBuilder, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use warren_proto::control::TlsCertificate;

const DIRECTORY: &str = "gateway-tls";

/// What HTTPS clients are shown: the certificate of the host that they ask for (SNI), as the Ingresses say; the default
/// one where none fits. A new set is in force for the next handshake, and concerns no connection that there is.
#[derive(Debug)]
pub struct Certificates {
    default: Arc<CertifiedKey>,
    table: ArcSwap<Table>,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug, Default)]
struct Table {
    hosts: HashMap<Box<str>, Arc<Shown>>,
    /// By what follows the first label.
    wildcards: HashMap<Box<str>, Arc<Shown>>,
    /// For hosts that have none.
    any: Option<Arc<Shown>>,
    /// By key of the feed, so that what stays is not read again.
    known: BTreeMap<String, (TlsCertificate, Result<Arc<Shown>, String>)>,
}

/// A certificate of an Ingress.
#[derive(Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    /// Seconds since 1970.
    ends: i64,
}

impl Certificates {
    /// With the default certificate from `state_dir`, which is made at the first start.
    pub fn load(state_dir: &Path) -> anyhow::Result<Arc<Self>> {
        let directory = state_dir.join(DIRECTORY);
        let (certificate, key) = (directory.join("tls.crt"), directory.join("tls.key"));
        if !certificate.exists() {
            make(&directory, &certificate, &key).context("cannot make the default certificate")?;
        }
        let mend =
            || format!("remove {} and a new certificate is made at the next start", directory.display());
        let chain = CertificateDer::pem_file_iter(&certificate).and_then(Iterator::collect);
        let chain: Vec<_> =
            chain.with_context(|| format!("cannot read {}: {}", certificate.display(), mend()))?;
        let key = PrivateKeyDer::from_pem_file(&key)
            .with_context(|| format!("cannot read {}: {}", key.display(), mend()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let default = CertifiedKey::from_der(chain, key, &provider)
            .with_context(|| format!("the default certificate is unusable: {}", mend()))?;
        Ok(Arc::new(Self { default: Arc::new(default), table: ArcSwap::default(), provider }))
    }

    /// The TLS configuration of the https listener.
    pub fn server_config(self: &Arc<Self>) -> anyhow::Result<Arc<ServerConfig>> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = rustls::crypto::ring::Ticketer::new()?;
        Ok(Arc::new(config))
    }

    /// Puts the certificates of the Ingresses in force, by their keys in the feed. One that cannot be used is named
    /// in the log, once, and left out.
    pub fn publish<'a>(&self, certificates: impl IntoIterator<Item = (&'a str, &'a TlsCertificate)>) {
        let earlier = self.table.load();
        let mut table = Table::default();
        for (name, certificate) in certificates {
            let known = earlier.known.get(name).filter(|(known, _)| known == certificate);
            let shown = match known {
                Some((_, shown)) => shown.clone(),
                None => {
                    let shown = self.read(certificate);
                    if let Err(problem) = &shown {
                        let secret = name.strip_prefix("tls/").unwrap_or(name);
                        tracing::warn!(
                            secret,
                            problem,
                            "a certificate is not shown; clients see the default one"
                        );
                    }
                    shown
                }
            };
            if let Ok(shown) = &shown {
                table.show(&certificate.hosts, shown);
            }
            table.known.insert(name.to_owned(), (certificate.clone(), shown));
        }
        self.table.store(Arc::new(table));
    }

    fn read(&self, certificate: &TlsCertificate) -> Result<Arc<Shown>, String> {
        if certificate.key.is_empty() {
            return Err("its key is kept in memory only, and waits for the controller".to_owned());
        }
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate.certificate).collect();
        let chain = chain.map_err(|error| format!("tls.crt cannot be read: {error}"))?;
        let leaf = chain.first().ok_or("tls.crt contains no certificate")?;
        let key = PrivateKeyDer::from_pem_slice(&certificate.key)
            .map_err(|error| format!("tls.key cannot be read: {error}"))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf)
            .map_err(|error| format!("tls.crt cannot be read: {error}"))?;
        let ends = parsed.validity().not_after.timestamp();
        if ends <= unix_time() {
            return Err(format!("it was valid until {}", parsed.validity().not_after));
        }
        let key = CertifiedKey::from_der(chain, key, &self.provider)
            .map_err(|error| format!("tls.crt and tls.key do not fit: {error}"))?;
        Ok(Arc::new(Shown { key: Arc::new(key), ends }))
    }
}

impl Table {
    /// The first one stays: the feed's hosts have one certificate each.
    fn show(&mut self, hosts: &[String], shown: &Arc<Shown>) {
        if hosts.is_empty() {
            self.any.get_or_insert_with(|| shown.clone());
        }
        for host in hosts {
            let (map, name) = match host.strip_prefix("*.") {
                Some(suffix) => (&mut self.wildcards, suffix),
                None => (&mut self.hosts, host.as_str()),
            };
            map.entry(name.into()).or_insert_with(|| shown.clone());
        }
    }

    fn find(&self, host: Option<&str>) -> Option<&Arc<Shown>> {
        let named = host.and_then(|host| {
            let host = host.strip_suffix('.').unwrap_or(host);
            let wildcard = || self.wildcards.get(host.split_once('.')?.1);
            self.hosts.get(host).or_else(wildcard)
        });
        named.or(self.any.as_ref()).filter(|shown| shown.ends > unix_time())
    }
}

fn unix_time() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls gives names in lower case.
        let table = self.table.load();
        let shown = table.find(hello.server_name()).map(|shown| shown.key.clone());
        Some(shown.unwrap_or_else(|| self.default.clone()))
    }
}

fn make(directory: &Path, certificate: &Path, key: &Path) -> anyhow::Result<()> {
    let pair = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["localhost".to_owned(), "*.localhost".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "Warren gateway default certificate");
    // Clients do not trust it anyway; that it never ends saves a renewal that nobody needs.
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2125, 1, 1);
    let signed = params.self_signed(&pair)?;
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // The certificate comes last: where it is, the key is.
    write(key, &pair.serialize_pem())?;
    write(certificate, &signed.pem())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    let _ = std::fs::remove_file(&partial);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&partial, path).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_made_once_and_damage_names_the_mend() {
        let state = tempfile::tempdir().expect("a temporary directory");
        Certificates::load(state.path()).expect("made");
        let file = state.path().join("gateway-tls/tls.crt");
        let first = std::fs::read(&file).expect("written");
        Certificates::load(state.path()).expect("read");
        assert_eq!(std::fs::read(&file).expect("still there"), first);
        std::fs::write(state.path().join("gateway-tls/tls.key"), "no key").expect("damaged");
        let error = format!("{:#}", Certificates::load(state.path()).expect_err("damaged"));
        assert!(error.contains("tls.key") && error.contains("remove"), "{error}");
    }

    fn certificate(hosts: &[&str], until: i32) -> TlsCertificate {
        let pair = KeyPair::generate().expect("a key");
        let names: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("names");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let signed = params.self_signed(&pair).expect("signed");
        TlsCertificate {
            hosts: names,
            certificate: signed.pem().into_bytes(),
            key: pair.serialize_pem().into_bytes(),
        }
    }

    fn der(certificate: &TlsCertificate) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(&certificate.certificate).expect("a certificate")
    }

    #[test]
    fn each_host_has_its_certificate_and_what_is_unfit_is_not_shown() {
        let state = tempfile::tempdir().expect("a temporary directory");
        let certificates = Certificates::load(state.path()).expect("made");
        let (shop, wild, old) = (
            certificate(&["shop.test"], 2100),
            certificate(&["*.shop.test"], 2100),
            certificate(&["old.test"], 2021),
        );
        let mismatched = TlsCertificate { key: shop.key.clone(), ..certificate(&["odd.test"], 2100) };
        let lost = TlsCertificate { key: Vec::new(), ..certificate(&["lost.test"], 2100) };
        let nonsense =
            TlsCertificate { hosts: vec!["bad.test".into()], certificate: b"x".to_vec(), key: b"y".to_vec() };
        let items = [
            ("tls/a/shop", &shop),
            ("tls/a/wild", &wild),
            ("tls/a/old", &old),
            ("tls/a/odd", &mismatched),
            ("tls/a/lost", &lost),
            ("tls/a/bad", &nonsense),
        ];
        certificates.publish(items);
        let shown = |host: Option<&str>| {
            let table = certificates.table.load();
            table.find(host).map(|shown| shown.key.cert[0].clone())
        };
        assert_eq!(shown(Some("shop.test")), Some(der(&shop)));
        assert_eq!(shown(Some("a.shop.test")), Some(der(&wild)));
        for host in ["a.b.shop.test", "old.test", "odd.test", "lost.test", "bad.test", "none.test"] {
            assert_eq!(shown(Some(host)), None, "{host}");
        }
        assert_eq!(shown(None), None);
        let problems: Vec<_> = certificates
            .table
            .load()
            .known
            .iter()
            .filter_map(|(key, (_, shown))| shown.as_ref().err().map(|problem| format!("{key}: {problem}")))
            .collect();
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(
            problems.iter().any(|problem| problem.contains("tls/a/odd: tls.crt and tls.key do not fit")),
            "{problems:?}"
        );
        // A new certificate of the same secret, and one for every host.
        let (again, any) = (
            certificate(&["shop.test"], 2100),
            TlsCertificate { hosts: Vec::new(), ..certificate(&["x"], 2100) },
        );
        certificates.publish([("tls/a/shop", &again), ("tls/b/any", &any)]);
        assert_eq!(shown(Some("shop.test")), Some(der(&again)));
        assert_eq!((shown(Some("none.test")), shown(None)), (Some(der(&any)), Some(der(&any))));
    }
}
