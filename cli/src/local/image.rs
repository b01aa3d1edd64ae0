//! The image of nodes and of pod sandboxes: this very binary and nothing else, handed to Docker
//! through its API. No registry is involved.

use std::path::Path;

use anyhow::Context as _;
use bollard::{
    errors::Error,
    query_parameters::{CreateImageOptionsBuilder, RemoveImageOptions, TagImageOptionsBuilder},
};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use sha2::{Digest as _, Sha256};

use super::engine::LocalDocker;

const REPOSITORY: &str = "warren/node";
/// The name under which the demonstration's manifests find the image.
pub(crate) const DEMONSTRATION: (&str, &str) = ("warren/hello", "latest");
/// How long the engine may take to unpack the image.
const IMPORT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(300);

/// A binary as an image.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    tag: String,
    binary: Bytes,
}

impl Image {
    /// The image of the running binary.
    pub(crate) fn of_this_binary() -> anyhow::Result<Self> {
        // Not the path it was started by: the file there may have been replaced since.
        let path = Path::new("/proc/self/exe");
        let binary = std::fs::read(path).context("cannot read this binary")?;
        Ok(Self::new(binary.into()))
    }

    fn new(binary: Bytes) -> Self {
        let digest = Sha256::digest(&binary);
        Self { tag: digest[..6].iter().map(|byte| format!("{byte:02x}")).collect(), binary }
    }

    /// The image's name, the same wherever this binary runs.
    pub(crate) fn name(&self) -> String {
        format!("{REPOSITORY}:{}", self.tag)
    }

    /// Makes sure that the engine has the image; says whether it was imported now.
    pub(crate) async fn ensure(&self, engine: &LocalDocker) -> anyhow::Result<bool> {
        let name = self.name();
        match engine.docker.inspect_image(&name).await {
            Ok(_) => return Ok(false),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot look for the image {name}")),
        }
        let options = CreateImageOptionsBuilder::default()
            .from_src("-")
            .repo(REPOSITORY)
            .tag(&self.tag)
            .message("warren: this binary and nothing else")
            .changes(vec!["ENTRYPOINT [\"/warren\"]".to_owned(), "ENV PATH=/".to_owned()])
            .build();
        let body = bollard::body_full(root_archive(&self.binary).context("cannot pack the image")?.into());
        let import = engine.docker.create_image(Some(options), Some(body), None).try_collect::<Vec<_>>();
        tokio::time::timeout(IMPORT_TIMEOUT, import)
            .await
            .context("time-out")
            .and_then(|imported| imported.map_err(anyhow::Error::from))
            .with_context(|| format!("cannot import the image {name}"))?;
        Ok(true)
    }

    /// Lets the demonstration's image name point at this image.
    pub(crate) async fn tag_demonstration(&self, engine: &LocalDocker) -> anyhow::Result<()> {
        let (repository, tag) = DEMONSTRATION;
        let options = TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
        let tagged = engine.docker.tag_image(&self.name(), Some(options)).await;
        tagged.with_context(|| format!("cannot tag the image {repository}:{tag}"))
    }
}

/// Takes Warren's own names off the image `identifier`; its last name takes the image along. An
/// image that a container still uses stays. Returns the names that were removed.
pub(crate) async fn remove(engine: &LocalDocker, identifier: &str) -> anyhow::Result<Vec<String>> {
    let known = match engine.docker.inspect_image(identifier).await {
        Ok(image) => image.repo_tags.unwrap_or_default(),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error).context("cannot look at the cluster's image"),
    };
    let demonstration = format!("{}:{}", DEMONSTRATION.0, DEMONSTRATION.1);
    let mut removed = Vec::new();
    for name in known {
        if !name.starts_with(&format!("{REPOSITORY}:")) && name != demonstration {
            continue;
        }
        match engine.docker.remove_image(&name, None::<RemoveImageOptions>, None).await {
            Ok(_) => removed.push(name),
            Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot remove the image {name}")),
        }
    }
    Ok(removed)
}

/// The root file system as a tar archive. The same binary gives the same bytes.
fn root_archive(binary: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::with_capacity(binary.len() + (16 << 10)));
    let mut add = |path: &str, kind: tar::EntryType, mode: u32, contents: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(contents.len() as u64);
        archive.append_data(&mut header, path, contents)
    };
    for (directory, mode) in [("etc/", 0o755), ("tmp/", 0o1777), ("var/", 0o755), ("var/lib/", 0o755)] {
        add(directory, tar::EntryType::Directory, mode, &[])?;
    }
    add("warren", tar::EntryType::Regular, 0o755, binary)?;
    archive.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_named_by_its_contents_and_packed_the_same_way_each_time() {
        let image = Image::new(Bytes::from_static(b"abc"));
        assert_eq!(image.name(), "warren/node:ba7816bf8f01");
        assert_eq!(root_archive(b"abc").unwrap(), root_archive(b"abc").unwrap());
    }

    #[test]
    fn the_root_holds_the_binary_and_empty_directories() {
        let bytes = root_archive(b"abc").unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let entries: Vec<(String, u32, u64)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                (entry.path().unwrap().display().to_string(), header.mode().unwrap(), header.size().unwrap())
            })
            .collect();
        assert_eq!(entries.last().unwrap(), &("warren".to_owned(), 0o755, 3));
        assert!(entries.contains(&("tmp/".to_owned(), 0o1777, 0)), "{entries:?}");
        assert_eq!(entries.iter().filter(|(_, _, size)| *size > 0).count(), 1);
    }
}
