//! Makes a pod's volumes as folders: claims' own (for raw blocks a file), and copies of what the API
//! holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccount,
    ServiceAccountTokenProjection, Volume,
};
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::Kubelet;
use super::command::{self, Mount};
use super::security;
use crate::controllers::namespace_of;

/// The lifetime of a token that asks for none.
const TOKEN_SECONDS: i64 = 3600;
/// As a kubelet: a token is replaced when 80 % of its life are over.
const RENEW_AT_PERCENT: u64 = 80;

/// What keeps a volume from being made. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum VolumeError {
    #[error("reading {object} for volume {volume}: {source}")]
    Read { object: String, volume: String, source: Box<kube::Error> },
    #[error("volume {volume}: {problem}")]
    Missing { volume: String, problem: String },
    #[error("writing {path} for volume {volume}: {source}")]
    Write { path: PathBuf, volume: String, source: std::io::Error },
}

/// A token file to be renewed.
#[derive(Debug, Clone)]
pub(super) struct Token {
    volume: String,
    file: PathBuf,
    projection: ServiceAccountTokenProjection,
}

impl Token {
    /// How long the token may be used before it is renewed.
    pub fn life(&self) -> Duration {
        let seconds = self.projection.expiration_seconds.unwrap_or(TOKEN_SECONDS);
        Duration::from_secs(u64::try_from(seconds).unwrap_or_default() * RENEW_AT_PERCENT / 100)
    }
}

/// A pod's volumes, made.
#[derive(Debug, Default)]
pub(super) struct Volumes {
    folders: BTreeMap<String, PathBuf>,
    pub tokens: Vec<Token>,
}

impl Volumes {
    /// Where a container sees them.
    pub fn mounts(&self, container: &Container) -> Vec<Mount> {
        let mounts = container.volume_mounts.iter().flatten().filter_map(|mount| {
            let folder = self.folders.get(&mount.name)?;
            let folder = mount.sub_path.as_ref().map_or_else(|| folder.clone(), |sub| folder.join(sub));
            Some(Mount { at: mount.mount_path.clone().into(), folder })
        });
        // The file that stands for a device is what its path means.
        let devices = container.volume_devices.iter().flatten().filter_map(|device| {
            let file = self.folders.get(&device.name)?.clone();
            Some(Mount { at: device.device_path.clone().into(), folder: file })
        });
        mounts.chain(devices).collect()
    }
}

/// Makes volumes of one pod.
pub(super) struct Maker<'a> {
    pub kubelet: &'a Kubelet,
    pub pod: &'a Pod,
    pub address: &'a str,
    pub dir: &'a Path,
}

impl Maker<'_> {
    pub async fn make(&self) -> Result<Volumes, VolumeError> {
        let mut made = Volumes::default();
        // A pod without volumes has its logs there.
        Self::folder("of the pod itself", self.dir)?;
        for volume in self.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let folder = self.one(volume, &mut made.tokens).await?;
            made.folders.insert(volume.name.clone(), folder);
        }
        Ok(made)
    }

    async fn one(&self, volume: &Volume, tokens: &mut Vec<Token>) -> Result<PathBuf, VolumeError> {
        let name = &volume.name;
        let missing = |problem: String| VolumeError::Missing { volume: name.clone(), problem };
        if volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() {
            let folder =
                self.claim(volume).ok_or_else(|| missing("its claim is not bound to a folder".to_owned()))?;
            return self.given(name, folder).await;
        }
        if let Some(source) = &volume.host_path {
            return Ok(source.path.clone().into());
        }
        let folder = self.dir.join("volumes").join(name);
        Self::folder(name, &folder)?;
        if let Some(source) = &volume.config_map {
            let items = source.items.as_deref();
            self.config_map(name, &folder, &source.name, items, source.optional).await?;
        } else if let Some(source) = &volume.secret {
            let secret = source.secret_name.as_deref().unwrap_or_default();
            self.secret(name, &folder, secret, source.items.as_deref(), source.optional).await?;
        } else if let Some(source) = &volume.downward_api {
            self.downward(name, &folder, source.items.as_deref().unwrap_or_default())?;
        } else if let Some(projected) = &volume.projected {
            for source in projected.sources.iter().flatten() {
                if let Some(source) = &source.config_map {
                    let items = source.items.as_deref();
                    self.config_map(name, &folder, &source.name, items, source.optional).await?;
                }
                if let Some(source) = &source.secret {
                    self.secret(name, &folder, &source.name, source.items.as_deref(), source.optional)
                        .await?;
                }
                if let Some(source) = &source.downward_api {
                    self.downward(name, &folder, source.items.as_deref().unwrap_or_default())?;
                }
                if let Some(projection) = &source.service_account_token {
                    let file = folder.join(&projection.path);
                    let token = Token { volume: name.clone(), file, projection: projection.clone() };
                    self.renew(&token).await?;
                    tokens.push(token);
                }
            }
        } else if volume.empty_dir.is_none() {
            return Err(missing("the lab does not have this type of volume".to_owned()));
        }
        Ok(folder)
    }

    /// The folder once it is the pod's group's, where it has one for its volumes.
    async fn given(&self, volume: &str, folder: PathBuf) -> Result<PathBuf, VolumeError> {
        let Some(group) = security::fs_group(self.pod).filter(|_| security::applies()) else {
            return Ok(folder);
        };
        let failed = |path: PathBuf, source| VolumeError::Write { path, volume: volume.to_owned(), source };
        let path = folder.clone();
        let given = tokio::task::spawn_blocking(move || security::give_to_group(&path, group)).await;
        let given = given.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        given.map(|()| folder.clone()).map_err(|source| failed(folder, source))
    }

    fn claim(&self, volume: &Volume) -> Option<PathBuf> {
        let cache = &self.kubelet.context.cache;
        let name = match &volume.persistent_volume_claim {
            Some(source) => source.claim_name.clone(),
            None => format!("{}-{}", self.pod.name_any(), volume.name),
        };
        let claim = cache.claim(&namespace_of(self.pod), &name)?;
        let volume = cache.volume(crate::controllers::bound_volume(&claim)?)?;
        crate::controllers::folder(&volume).map(Path::to_owned)
    }

    /// Writes a token bound to the pod, as projected tokens are.
    pub async fn renew(&self, token: &Token) -> Result<(), VolumeError> {
        let account =
            self.pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: token.projection.audience.clone().into_iter().collect(),
                expiration_seconds: Some(token.projection.expiration_seconds.unwrap_or(TOKEN_SECONDS)),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: self.pod.metadata.name.clone(),
                    uid: self.pod.uid(),
                }),
            },
            ..TokenRequest::default()
        };
        let issued = self
            .api::<ServiceAccount>()
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .map_err(|source| VolumeError::Read {
                object: format!("a token of ServiceAccount {account}"),
                volume: token.volume.clone(),
                source: Box::new(source),
            })?;
        let text = issued.status.map(|status| status.token).unwrap_or_default();
        Self::write_for(self.user(), &token.volume, &token.file, text.as_bytes())
    }

    /// The user of all containers, where they have one: whose a token is.
    fn user(&self) -> Option<u32> {
        let containers = self.pod.spec.iter().flat_map(|spec| &spec.containers);
        let users: BTreeSet<Option<u32>> = containers
            .map(|container| security::credentials(self.pod, container).map(|found| found.user))
            .collect();
        let one = users.first().copied().flatten();
        one.filter(|_| users.len() == 1 && security::applies())
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.kubelet.context.client.clone(), &namespace_of(self.pod))
    }

    async fn config_map(
        &self,
        volume: &str,
        folder: &Path,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<(), VolumeError> {
        let found = self.api::<ConfigMap>().get_opt(name).await.map_err(|source| VolumeError::Read {
            object: format!("ConfigMap {name}"),
            volume: volume.to_owned(),
            source: Box::new(source),
        })?;
        let files = found.map(|map| {
            let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
            text.chain(map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)))
                .collect()
        });
        Self::files(volume, folder, &format!("ConfigMap {name}"), files, items, optional)
    }

    async fn secret(
        &self,
        volume: &str,
        folder: &Path,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<(), VolumeError> {
        let found = self.api::<Secret>().get_opt(name).await.map_err(|source| VolumeError::Read {
            object: format!("Secret {name}"),
            volume: volume.to_owned(),
            source: Box::new(source),
        })?;
        let files = found.map(|secret| {
            secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()
        });
        Self::files(volume, folder, &format!("Secret {name}"), files, items, optional)
    }

    fn files(
        volume: &str,
        folder: &Path,
        object: &str,
        files: Option<BTreeMap<String, Vec<u8>>>,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<(), VolumeError> {
        let missing = |problem: String| VolumeError::Missing { volume: volume.to_owned(), problem };
        let Some(files) = files else {
            return if optional == Some(true) {
                Ok(())
            } else {
                Err(missing(format!("{object} is not there")))
            };
        };
        match items {
            None => files.iter().try_for_each(|(key, bytes)| Self::write(volume, &folder.join(key), bytes)),
            Some(items) => items.iter().try_for_each(|item| match files.get(&item.key) {
                Some(bytes) => Self::write(volume, &folder.join(&item.path), bytes),
                None if optional == Some(true) => Ok(()),
                None => Err(missing(format!("{object} has no key {}", item.key))),
            }),
        }
    }

    fn downward(
        &self,
        volume: &str,
        folder: &Path,
        items: &[DownwardAPIVolumeFile],
    ) -> Result<(), VolumeError> {
        items.iter().try_for_each(|item| {
            let path = item.field_ref.as_ref().map(|field| field.field_path.as_str()).unwrap_or_default();
            let value = command::field(self.pod, path, self.address).unwrap_or_default();
            Self::write(volume, &folder.join(&item.path), value.as_bytes())
        })
    }

    fn folder(volume: &str, path: &Path) -> Result<(), VolumeError> {
        fs::create_dir_all(path).map_err(|source| VolumeError::Write {
            path: path.to_owned(),
            volume: volume.to_owned(),
            source,
        })
    }

    /// Writes a file whole: a reader sees the old or the new content.
    fn write(volume: &str, path: &Path, bytes: &[u8]) -> Result<(), VolumeError> {
        Self::write_for(None, volume, path, bytes)
    }

    /// As [`Self::write`], for a user to read.
    fn write_for(user: Option<u32>, volume: &str, path: &Path, bytes: &[u8]) -> Result<(), VolumeError> {
        if let Some(parent) = path.parent() {
            Self::folder(volume, parent)?;
        }
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        let written = fs::write(&fresh, bytes)
            .and_then(|()| fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)))
            .and_then(|()| user.map_or(Ok(()), |user| chown(&fresh, Some(user), None)))
            .and_then(|()| fs::rename(&fresh, path));
        written.map_err(|source| VolumeError::Write {
            path: path.to_owned(),
            volume: volume.to_owned(),
            source,
        })
    }
}
