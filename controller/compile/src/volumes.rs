//! A pod's volumes: ConfigMaps, Secrets and pod fields become files, the rest is passed on.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use warren_objects::quantity;
use warren_proto::control::{EmptyDir, File, Files, HostPath, TokenFile, Volume, volume::Source};

use crate::{budget::Budget, references::References};

const DEFAULT_MODE: i32 = 0o644;
/// How long a token is good whose volume does not say.
const TOKEN_SECONDS: i64 = 3_600;
/// Of a token whose owner is known: nobody else needs it. Where there is a group, that reads it, too.
const OWNED_TOKEN_MODE: i32 = 0o600;
const GROUP_READS: i32 = 0o040;
/// Volume sources that are understood; others are named in the pod's status.
const SUPPORTED: [&str; 6] = ["configMap", "secret", "projected", "downwardAPI", "emptyDir", "hostPath"];

/// A volume, or the message of what stands in its way.
pub(crate) fn compile(
    references: &References<'_>,
    volume: &core::Volume,
    budget: &Budget<'_>,
) -> Result<Volume, String> {
    let source = source(references, volume, budget)
        .map_err(|message| format!("MountVolume.SetUp failed for volume \"{}\" : {message}", volume.name))?;
    Ok(Volume { name: volume.name.clone(), source: Some(source) })
}

fn source(references: &References<'_>, volume: &core::Volume, budget: &Budget<'_>) -> Result<Source, String> {
    let (files, tokens) = (BTreeMap::new(), BTreeMap::new());
    let mut files = Collection { references, budget, files, tokens, secret: false };
    if let Some(source) = &volume.config_map {
        files.config_map(&source.name, source.items.as_deref(), source.optional, source.default_mode)?;
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        files.secret(name, source.items.as_deref(), source.optional, source.default_mode)?;
    } else if let Some(source) = &volume.downward_api {
        files.downward(source.items.as_deref(), source.default_mode)?;
    } else if let Some(source) = &volume.projected {
        for part in source.sources.iter().flatten() {
            files.projection(part, source.default_mode)?;
        }
    } else if let Some(source) = &volume.host_path {
        let r#type = source.type_.clone().unwrap_or_default();
        return Ok(Source::HostPath(HostPath { path: source.path.clone(), r#type }));
    } else {
        return empty_dir(volume);
    }
    Ok(files.finish())
}

/// A volume without any source is an emptyDir, too.
fn empty_dir(volume: &core::Volume) -> Result<Source, String> {
    if let Some(other) = unsupported(volume) {
        return Err(format!("volumes of type {other} are not supported yet"));
    }
    let source = volume.empty_dir.clone().unwrap_or_default();
    let size = source.size_limit.as_ref().map_or(Ok(0), |size| quantity::bytes(&size.0));
    Ok(Source::EmptyDir(EmptyDir {
        memory: source.medium.as_deref() == Some("Memory"),
        size_limit_bytes: size.map_err(|error| format!("sizeLimit: {error}"))?,
    }))
}

fn unsupported(volume: &core::Volume) -> Option<String> {
    let value = serde_json::to_value(volume).ok()?;
    let mut fields = value.as_object()?.keys().cloned();
    fields.find(|field| field != "name" && !SUPPORTED.contains(&field.as_str()))
}

/// Files by path; a later source wins, as in a projected volume.
struct Collection<'a> {
    references: &'a References<'a>,
    budget: &'a Budget<'a>,
    files: BTreeMap<String, (Vec<u8>, i32)>,
    tokens: BTreeMap<String, TokenFile>,
    secret: bool,
}

impl Collection<'_> {
    fn finish(self) -> Source {
        let file =
            |(path, (content, mode)): (String, (Vec<u8>, i32))| File { path, content, mode: bits(mode) };
        Source::Files(Files {
            files: self.files.into_iter().map(file).collect(),
            secret: self.secret,
            tokens: self.tokens.into_values().collect(),
        })
    }

    fn add(&mut self, path: &str, content: &[u8], mode: i32) -> Result<(), String> {
        self.claim(path, content.len())?;
        self.files.insert(path.to_owned(), (content.to_vec(), mode));
        Ok(())
    }

    /// Makes room for a file.
    fn claim(&mut self, path: &str, bytes: usize) -> Result<(), String> {
        let stays_inside = !path.is_empty()
            && !path.starts_with('/')
            && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !stays_inside {
            return Err(format!("path {path:?} must be relative and must not contain \"..\""));
        }
        self.budget.take(path.len().saturating_add(bytes), &format_args!("file {path:?}"))?;
        self.files.remove(path);
        self.tokens.remove(path);
        Ok(())
    }

    /// A token of the pod's account, which its agent asks for. Its owner is the pod's user, if all containers have the
    /// same one, and its group the pod's `fsGroup`.
    ///
    /// Source: <https://kubernetes.io/docs/concepts/storage/projected-volumes/#serviceaccounttoken>.
    fn token(
        &mut self,
        source: &core::ServiceAccountTokenProjection,
        mode: Option<i32>,
    ) -> Result<(), String> {
        let audience = source.audience.clone().unwrap_or_default();
        self.claim(&source.path, audience.len())?;
        let spec = self.references.pod.spec.as_ref();
        let user = spec.and_then(only_user);
        let group = spec.and_then(|spec| spec.security_context.as_ref()?.fs_group);
        let mode = match (user, group) {
            (_, Some(_)) => OWNED_TOKEN_MODE | GROUP_READS,
            (Some(_), None) => OWNED_TOKEN_MODE,
            (None, None) => mode.unwrap_or(DEFAULT_MODE),
        };
        let token = TokenFile {
            path: source.path.clone(),
            audience,
            expiration_seconds: source.expiration_seconds.unwrap_or(TOKEN_SECONDS),
            mode: bits(mode),
            user,
            group,
        };
        self.tokens.insert(source.path.clone(), token);
        Ok(())
    }

    fn config_map(
        &mut self,
        name: &str,
        items: Option<&[core::KeyToPath]>,
        optional: Option<bool>,
        mode: Option<i32>,
    ) -> Result<(), String> {
        let Some(map) = self.references.config_map(name, optional)? else { return Ok(()) };
        let text = map.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
        let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
        self.keys(&text.chain(binary).collect(), items, optional, mode, "config")
    }

    fn secret(
        &mut self,
        name: &str,
        items: Option<&[core::KeyToPath]>,
        optional: Option<bool>,
        mode: Option<i32>,
    ) -> Result<(), String> {
        self.secret = true;
        let Some(secret) = self.references.secret(name, optional)? else { return Ok(()) };
        let data = secret.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
        self.keys(&data.collect(), items, optional, mode, "secret")
    }

    fn keys(
        &mut self,
        data: &BTreeMap<&str, &[u8]>,
        items: Option<&[core::KeyToPath]>,
        optional: Option<bool>,
        mode: Option<i32>,
        kind: &str,
    ) -> Result<(), String> {
        let mode = mode.unwrap_or(DEFAULT_MODE);
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            return data.iter().try_for_each(|(key, content)| self.add(key, content, mode));
        };
        for item in items {
            match data.get(item.key.as_str()) {
                Some(content) => self.add(&item.path, content, item.mode.unwrap_or(mode))?,
                None if optional == Some(true) => {}
                None => return Err(format!("references non-existent {kind} key: {}", item.key)),
            }
        }
        Ok(())
    }

    fn downward(
        &mut self,
        items: Option<&[core::DownwardAPIVolumeFile]>,
        mode: Option<i32>,
    ) -> Result<(), String> {
        for item in items.unwrap_or_default() {
            let value = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => self.references.field(field)?,
                (None, Some(resource)) => self.references.resource(resource, None)?,
                (None, None) => String::new(),
            };
            self.add(&item.path, value.as_bytes(), item.mode.or(mode).unwrap_or(DEFAULT_MODE))?;
        }
        Ok(())
    }

    fn projection(&mut self, part: &core::VolumeProjection, mode: Option<i32>) -> Result<(), String> {
        if let Some(source) = &part.config_map {
            self.config_map(&source.name, source.items.as_deref(), source.optional, mode)
        } else if let Some(source) = &part.secret {
            self.secret(&source.name, source.items.as_deref(), source.optional, mode)
        } else if let Some(source) = &part.downward_api {
            self.downward(source.items.as_deref(), mode)
        } else if let Some(source) = &part.service_account_token {
            self.token(source, mode)
        } else {
            Err("a projected source other than configMap, secret, downwardAPI and serviceAccountToken is not \
                 supported yet"
                .into())
        }
    }
}

/// Of a mode that was checked: its bits.
fn bits(mode: i32) -> u32 {
    u32::try_from(mode).unwrap_or_default() & 0o7777
}

/// The user that every container of the pod runs as; none when one does not say, or says another.
fn only_user(spec: &core::PodSpec) -> Option<i64> {
    let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let user = |container: &core::Container| {
        container.security_context.as_ref().and_then(|context| context.run_as_user).or(of_pod)
    };
    let mut users = spec.init_containers.iter().flatten().chain(&spec.containers).map(user);
    let first = users.next()??;
    users.all(|other| other == Some(first)).then_some(first)
}
