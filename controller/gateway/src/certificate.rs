//! The certificate that HTTPS clients are shown until an Ingress brings its own: self-signed, made at the
//! first start, kept in the state directory.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

use anyhow::Context as _;
use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

const DIRECTORY: &str = "gateway-tls";

/// The TLS configuration of the https listener, with the default certificate from `state_dir`.
pub fn server_config(state_dir: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let directory = state_dir.join(DIRECTORY);
    let (certificate, key) = (directory.join("tls.crt"), directory.join("tls.key"));
    if !certificate.exists() {
        make(&directory, &certificate, &key).context("cannot make the default certificate")?;
    }
    let mend = || format!("remove {} and a new certificate is made at the next start", directory.display());
    let chain = CertificateDer::pem_file_iter(&certificate).and_then(Iterator::collect);
    let chain: Vec<_> =
        chain.with_context(|| format!("cannot read {}: {}", certificate.display(), mend()))?;
    let key = PrivateKeyDer::from_pem_file(&key)
        .with_context(|| format!("cannot read {}: {}", key.display(), mend()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .with_context(|| format!("the default certificate is unusable: {}", mend()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    Ok(Arc::new(config))
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
        server_config(state.path()).expect("made");
        let file = state.path().join("gateway-tls/tls.crt");
        let first = std::fs::read(&file).expect("written");
        server_config(state.path()).expect("read");
        assert_eq!(std::fs::read(&file).expect("still there"), first);
        std::fs::write(state.path().join("gateway-tls/tls.key"), "no key").expect("damaged");
        let error = format!("{:#}", server_config(state.path()).expect_err("damaged"));
        assert!(error.contains("tls.key") && error.contains("remove"), "{error}");
    }
}
