//! Garage as the S3 server: one node, one bucket, one key.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use isthmus_shared::staging::StoreAccess;
use tokio::process::{Child, Command};

use super::child::BUCKET;

/// The program's name.
pub const PROGRAM: &str = "garage";
const REGION: &str = "garage";
const KEY: &str = "bench";
/// How long it may take to answer.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is asked.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What the node says that it can hold; it is not reserved.
const CAPACITY: &str = "100G";

/// Starts a node that keeps everything in `folder`, with a bucket and a key to it.
pub async fn start_server(folder: &Path) -> anyhow::Result<(Child, StoreAccess)> {
    let (rpc, api) = (free_port()?, free_port()?);
    let config = folder.join("garage.toml");
    std::fs::write(&config, configuration(folder, rpc, api)?).context("writing garage's configuration")?;
    let log = std::fs::File::create(folder.join("garage.log"))?;
    let process = Command::new(PROGRAM)
        .arg("-c")
        .arg(&config)
        .arg("server")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()?;
    let garage = Garage { config };
    let node = garage.wait_for_node().await?;
    garage.run(&["layout", "assign", "-z", "bench", "-c", CAPACITY, &node]).await?;
    garage.run(&["layout", "apply", "--version", "1"]).await?;
    garage.run(&["bucket", "create", BUCKET]).await?;
    let key = garage.run(&["key", "create", KEY]).await?;
    garage.run(&["bucket", "allow", "--read", "--write", "--owner", BUCKET, "--key", KEY]).await?;
    let field = |name: &str| {
        let line = key.lines().find_map(|line| line.trim().strip_prefix(name));
        let value = line.and_then(|rest| rest.trim_start_matches(':').split_whitespace().next());
        value.map(str::to_owned).with_context(|| format!("garage did not tell the new key's {name}"))
    };
    let access = StoreAccess {
        endpoint: format!("http://127.0.0.1:{api}"),
        region: REGION.to_owned(),
        bucket: BUCKET.to_owned(),
        prefix: None,
        path_style: true,
        ca_pem: None,
        access_key_id: field("Key ID")?,
        secret_access_key: field("Secret key")?,
        session_token: None,
        sts: None,
    };
    Ok((process, access))
}

fn configuration(folder: &Path, rpc: u16, api: u16) -> anyhow::Result<String> {
    let folder = folder.to_str().context("the folder's name is not UTF-8")?;
    let secret = hex::encode(rand::random::<[u8; 32]>());
    Ok(format!(
        r#"metadata_dir = "{folder}/meta"
data_dir = "{folder}/data"
db_engine = "sqlite"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:{rpc}"
rpc_public_addr = "127.0.0.1:{rpc}"
rpc_secret = "{secret}"
[s3_api]
s3_region = "{REGION}"
api_bind_addr = "127.0.0.1:{api}"
root_domain = ".s3.garage.localhost"
"#
    ))
}

fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}

struct Garage {
    config: PathBuf,
}

impl Garage {
    /// Runs one of its administrative commands and gives what it printed.
    async fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(PROGRAM).arg("-c").arg(&self.config).args(args).output().await?;
        if !output.status.success() {
            bail!("garage {} failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Waits until the node answers, and gives its id.
    async fn wait_for_node(&self) -> anyhow::Result<String> {
        let started = Instant::now();
        loop {
            let Err(error) = self.run(&["status"]).await else { break };
            if started.elapsed() > START_TIMEOUT {
                return Err(error.context("the node does not answer; look at garage.log beside its data"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let id = self.run(&["node", "id", "-q"]).await?;
        let id = id.trim().split('@').next().unwrap_or_default();
        // The layout takes the start of an id.
        Ok(id.get(..16).context("garage gave no node id")?.to_owned())
    }
}
