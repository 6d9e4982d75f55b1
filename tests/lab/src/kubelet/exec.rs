//! Commands in containers, as `kubectl exec` has them run: a session over a WebSocket that was upgraded
//! already, in the protocols `v4.channel.k8s.io` and `v5.channel.k8s.io`.
//!
//! A container of the lab is no more than its Pod's folder. A command runs as a process of this machine
//! in that folder, as the lab's own user; a path at or below a mount, or below `/tmp`, is rewritten to
//! the folder that stands for it, wherever it stands in the command. It has no input and no terminal.
//!
//! Other than in a real cluster a command is killed when whoever asked for it is gone: nothing is to
//! outlive a test. What it has put into the background goes on, until it is ended or finds its Pod's
//! `/tmp` gone, which goes with the Pod.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::process::{Child, Command};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::Kubelet;
use super::command::{self, Mount};
use super::volumes::Maker;
use crate::controllers::{namespace_of, pods};

/// The protocols, the preferred first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// What is read of a stream at once.
const CHUNK_BYTES: usize = 32 * 1024;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;

/// Which command is to run where.
#[derive(Debug, Clone)]
pub(crate) struct ExecQuery {
    pub namespace: String,
    pub pod: String,
    pub container: String,
    pub command: Vec<String>,
}

/// What a handshake is answered with: the accepted key and the chosen protocol; none if it is none.
pub(crate) fn handshake(headers: &http::HeaderMap) -> Option<(String, &'static str)> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let key = text("sec-websocket-key")?;
    let offered = text("sec-websocket-protocol")?;
    let chosen = PROTOCOLS.into_iter().find(|known| offered.split(',').any(|one| one.trim() == *known))?;
    Some((derive_accept_key(key.as_bytes()), chosen))
}

impl Kubelet {
    /// Serves a session until the command has ended.
    pub async fn exec<S>(self: Arc<Self>, io: S, query: ExecQuery)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        let status = match self.begin(&query).await {
            Ok(child) => match pump(child, &mut socket).await {
                Some(status) => status,
                None => return,
            },
            Err(why) => json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
                "message": format!("Internal error occurred: {why}")}),
        };
        let mut message = vec![STATUS];
        message.extend_from_slice(status.to_string().as_bytes());
        // Whoever asked may be gone.
        if socket.send(Message::Binary(message.into())).await.is_ok() {
            drop(socket.close(None).await);
        }
    }

    async fn begin(&self, query: &ExecQuery) -> Result<Child, String> {
        let named = |pod: &Pod| pod.name_any() == query.pod && namespace_of(pod) == query.namespace;
        let pod = self.context.cache.pods.find(|pod| named(pod)).ok_or("pod does not exist")?;
        let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let container = containers.find(|container| container.name == query.container);
        let container = container.ok_or_else(|| format!("container {} not found", query.container))?;
        if pods::phase(&pod) != "Running" {
            return Err(format!("container {} is not running", query.container));
        }
        let dir = self.dir.join(pod.uid().unwrap_or_default());
        let failed = |error: std::io::Error| format!("making the folder of the pod: {error}");
        let tmp = temporary(&dir);
        std::fs::create_dir_all(&tmp).map_err(failed)?;
        let maker = Maker { kubelet: self, pod: &pod, address: "", dir: &dir };
        let volumes = maker.make().await.map_err(|error| error.to_string())?;
        let mut mounts = volumes.mounts(container);
        mounts.push(Mount { at: "/tmp".into(), folder: tmp });
        spawn(container, &query.command, &mounts, &dir)
    }
}

/// What stands for `/tmp` of a pod's containers.
pub(super) fn temporary(dir: &Path) -> PathBuf {
    dir.join("tmp")
}

fn spawn(container: &Container, command: &[String], mounts: &[Mount], dir: &Path) -> Result<Child, String> {
    let mut words = command.iter().map(|word| command::rewrite_within(word, mounts));
    let program = words.next().ok_or("there is no command")?;
    let env = container.env.iter().flatten().filter_map(|variable| {
        Some((variable.name.clone(), command::rewrite(variable.value.as_deref()?, mounts)))
    });
    Command::new(&program)
        .args(words)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(env)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("error executing command in container: exec: {program:?}: {error}"))
}

/// Hands on what a process prints until it has ended; its status, or none if nobody listens any more.
async fn pump<S>(mut child: Child, socket: &mut WebSocketStream<S>) -> Option<Value>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let (mut out_buffer, mut err_buffer) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    while out.is_some() || err.is_some() {
        let (channel, chunk) = tokio::select! {
            read = read(out.as_mut(), &mut out_buffer), if out.is_some() => match read {
                0 => { out = None; continue }
                read => (STDOUT, &out_buffer[..read]),
            },
            read = read(err.as_mut(), &mut err_buffer), if err.is_some() => match read {
                0 => { err = None; continue }
                read => (STDERR, &err_buffer[..read]),
            },
            heard = socket.next() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => continue,
            },
        };
        let mut message = Vec::with_capacity(chunk.len() + 1);
        message.push(channel);
        message.extend_from_slice(chunk);
        socket.send(Message::Binary(message.into())).await.ok()?;
    }
    let ended = tokio::select! {
        ended = child.wait() => ended,
        () = gone(socket) => return None,
    };
    Some(status(ended.ok()?))
}

/// Comes back when nobody listens any more.
async fn gone<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) {
    while let Some(Ok(message)) = socket.next().await {
        if message.is_close() {
            return;
        }
    }
}

async fn read<R: AsyncRead + Unpin>(stream: Option<&mut R>, buffer: &mut [u8]) -> usize {
    match stream {
        // A pipe that cannot be read has ended.
        Some(stream) => stream.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

/// The status that the kubelet sends behind the streams.
fn status(ended: ExitStatus) -> Value {
    use std::os::unix::process::ExitStatusExt;
    let code = ended.code().or_else(|| ended.signal().map(|signal| 128 + signal)).unwrap_or(255);
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]}
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_protocol_that_both_know_is_chosen() {
        let mut headers = http::HeaderMap::new();
        assert!(handshake(&headers).is_none());
        headers.insert("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap());
        headers.insert("sec-websocket-protocol", "v4.channel.k8s.io, v5.channel.k8s.io".parse().unwrap());
        let accepted = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned();
        assert_eq!(handshake(&headers), Some((accepted, "v5.channel.k8s.io")));
        headers.insert("sec-websocket-protocol", "channel.k8s.io".parse().unwrap());
        assert!(handshake(&headers).is_none());
    }
}
