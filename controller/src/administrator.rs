//! The administrator's kubeconfig: made at the first start, and again when its certificate grows old.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use warren_nodes::CertificateAuthority;
use warren_runtime::{CancellationToken, identity::write_private};

/// The file's name inside the data directory.
const FILE: &str = "admin.kubeconfig";
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3_600);
const RENEW_AFTER: Duration = Duration::from_secs(120 * 24 * 3_600);
const LOOK_EVERY: Duration = Duration::from_secs(24 * 3_600);

/// Looks every day, until stopped, whether the kubeconfig must be made anew: a controller may run for years.
pub(crate) async fn keep(
    directory: PathBuf,
    authority: Arc<CertificateAuthority>,
    address: SocketAddr,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if let Err(error) = write_kubeconfig(&directory, &authority, address) {
            tracing::error!(error = format!("{error:#}"), "cannot renew the administrator's kubeconfig");
        }
    }
}

/// Writes `admin.kubeconfig` (0600) unless a young enough one for the same CA is there.
pub(crate) fn write_kubeconfig(
    directory: &Path,
    authority: &CertificateAuthority,
    address: SocketAddr,
) -> anyhow::Result<()> {
    let path = directory.join(FILE);
    let ca = STANDARD.encode(authority.ca_pem());
    let young = std::fs::metadata(&path)
        .and_then(|metadata| metadata.modified())
        // Written in the future: the clock was set back since, which is no reason to hand out another one.
        .is_ok_and(|written| written.elapsed().map_or(true, |age| age < RENEW_AFTER));
    if young && std::fs::read_to_string(&path).is_ok_and(|text| text.contains(&ca)) {
        return Ok(());
    }
    let issued = authority.issue_client("warren-admin", &["system:masters"], LIFETIME)?;
    let (certificate, key) = (STANDARD.encode(issued.certificate_pem), STANDARD.encode(issued.key_pem));
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: warren\nclusters:\n- name: warren\n  cluster:\n    \
         server: https://127.0.0.1:{}\n    certificate-authority-data: {ca}\ncontexts:\n- name: warren\n  context:\n    \
         cluster: warren\n    user: warren-admin\nusers:\n- name: warren-admin\n  user:\n    \
         client-certificate-data: {certificate}\n    client-key-data: {key}\n",
        address.port(),
    );
    write_private(&path, text.as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_old_kubeconfig_is_made_anew_while_the_controller_runs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let authority = CertificateAuthority::load_or_create(&directory.path().join("pki")).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 6443));
        let grow_old = |age: Duration| {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        };
        let read = || std::fs::read_to_string(&path).unwrap();
        write_kubeconfig(directory.path(), &authority, address).unwrap();
        let first = read();
        let stop = CancellationToken::new();
        let keeping = keep(directory.path().to_owned(), Arc::clone(&authority), address, stop.clone());
        let keeping = tokio::spawn(keeping);

        grow_old(RENEW_AFTER / 2);
        tokio::time::sleep(LOOK_EVERY + LOOK_EVERY / 2).await;
        assert_eq!(read(), first, "half its time is no reason");
        grow_old(RENEW_AFTER * 2);
        tokio::time::sleep(LOOK_EVERY).await;
        let second = read();
        assert_ne!(second, first);
        std::fs::remove_file(&path).unwrap();
        tokio::time::sleep(LOOK_EVERY).await;
        assert_ne!(read(), second, "a lost one is written again");
        stop.cancel();
        keeping.await.unwrap().unwrap();
    }
}
