//! Which API server a lab runs: its own, or a real one where its programs are found.

use std::fmt;
use std::path::{Path, PathBuf};

/// Forces a flavour: `embedded` or `real`.
pub const FLAVOUR_ENV: &str = "ISTHMUS_LAB";
/// Where the real programs are, as controller-runtime's tests name it.
const ASSETS_ENV: &str = "KUBEBUILDER_ASSETS";
const ASSETS_DEFAULT: &str = "/usr/local/kubebuilder/bin";

/// What serves a cluster's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flavour {
    /// The lab's own API server, in this process.
    Embedded,
    /// etcd and kube-apiserver.
    Real(Binaries),
}

/// The programs of a real control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// etcd.
    pub etcd: PathBuf,
    /// kube-apiserver.
    pub api_server: PathBuf,
    /// kube-controller-manager; without it the lab's own controllers run.
    pub controller_manager: Option<PathBuf>,
}

/// The flavour that was asked for is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum FlavourError {
    /// Real was asked for.
    #[error(
        "the real flavour was asked for, but {dir} holds no etcd and kube-apiserver; set {ASSETS_ENV} to the folder that does"
    )]
    NoBinaries {
        /// Where they were looked for.
        dir: PathBuf,
    },
    /// Something else was asked for.
    #[error("{FLAVOUR_ENV} is {0:?}; set it to embedded or real, or not at all")]
    Unknown(String),
}

impl FlavourError {
    /// Real was asked for, and its programs are not there.
    pub fn no_binaries() -> Self {
        Self::NoBinaries { dir: assets() }
    }
}

impl Flavour {
    /// Real where its programs are found, else embedded, unless the environment says which.
    pub fn detect() -> Result<Self, FlavourError> {
        match std::env::var(FLAVOUR_ENV).as_deref() {
            Ok("embedded") => Ok(Self::Embedded),
            Ok("real") => Self::real().ok_or_else(FlavourError::no_binaries),
            Ok("") | Err(_) => Ok(Self::real().unwrap_or(Self::Embedded)),
            Ok(other) => Err(FlavourError::Unknown(other.to_owned())),
        }
    }

    /// The real flavour, where its programs are found.
    pub fn real() -> Option<Self> {
        let dir = assets();
        let program = |name: &str| Some(dir.join(name)).filter(|path| is_program(path));
        Some(Self::Real(Binaries {
            etcd: program("etcd")?,
            api_server: program("kube-apiserver")?,
            controller_manager: program("kube-controller-manager"),
        }))
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("the lab's own API server"),
            Self::Real(binaries) => {
                let dir = binaries.api_server.parent().unwrap_or(Path::new("."));
                let manager =
                    if binaries.controller_manager.is_some() { " and kube-controller-manager" } else { "" };
                write!(f, "etcd, kube-apiserver{manager} of {}", dir.display())
            }
        }
    }
}

fn assets() -> PathBuf {
    std::env::var_os(ASSETS_ENV)
        .filter(|dir| !dir.is_empty())
        .map_or_else(|| ASSETS_DEFAULT.into(), PathBuf::from)
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
