//! Garage beside the lab's own server: an implementation that is nobody's double, where it is
//! installed.

use std::net::SocketAddr;

use isthmus_shared::staging::StoreAccess;
use tokio::process::Child;

use crate::bench::garage::{PROGRAM, start_server};
use crate::bench::tools::installed;

/// A running server with an empty bucket; dropping it ends it and removes what it holds.
#[derive(Debug)]
pub struct Garage {
    access: StoreAccess,
    // Before the folder, so that it has ended when that goes.
    _process: Child,
    _folder: tempfile::TempDir,
}

impl Garage {
    /// Starts it; `None` where `garage` is not on the search path.
    pub async fn start() -> anyhow::Result<Option<Self>> {
        if installed(PROGRAM).is_none() {
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        let (process, access) = start_server(folder.path()).await?;
        Ok(Some(Self { access, _process: process, _folder: folder }))
    }

    /// How to reach it.
    pub fn access(&self) -> &StoreAccess {
        &self.access
    }

    /// Where it listens.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        let address = self.access.endpoint.trim_start_matches("http://");
        Ok(address.parse()?)
    }
}
