//! A command in a container, through the API server's `pods/exec`.
//!
//! The command has no input and no terminal. What it prints is handed on as it comes, stdout and stderr
//! drained together, so that neither stands still for the other; how it ended is read behind both.
//! Nothing here bounds the time: whoever asks drops the future, which closes the connection. The
//! command itself may go on in the container then, as after a `kubectl exec` that is interrupted.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Api;
use kube::api::AttachParams;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{Cluster, ClusterError};
use crate::cluster::chain;

/// What is read of each stream at once, bytes.
const BUFFER: usize = 64 * 1024;
/// The reason of the cause that holds the exit code.
const EXIT_CODE: &str = "ExitCode";

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The Pod's namespace.
    pub namespace: String,
    /// The Pod.
    pub pod: String,
    /// The container.
    pub container: String,
}

/// Which stream of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Its output.
    Out,
    /// Its errors.
    Err,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It returned.
    Code(i32),
    /// It was not run; what the node says of it.
    NotRun(String),
    /// The connection ended first: it may have ended in any way, and may go on.
    Lost(String),
}

impl Cluster {
    /// Runs a command in a container until it ends.
    pub async fn exec(
        &self,
        place: &Place,
        command: &[String],
        take: &(dyn Fn(Stream, &[u8]) + Send + Sync),
    ) -> Result<Ended, ClusterError> {
        let pods = Api::<Pod>::namespaced(self.long_lived(), &place.namespace);
        let params = AttachParams {
            container: Some(place.container.clone()),
            stdin: false,
            stdout: true,
            stderr: true,
            tty: false,
            max_stdout_buf_size: Some(BUFFER),
            max_stderr_buf_size: Some(BUFFER),
            ..AttachParams::default()
        };
        let operation = || format!("exec in Pod {}/{}", place.namespace, place.pod);
        let mut attached = pods
            .exec(&place.pod, command.to_vec(), &params)
            .await
            .map_err(|error| refused(operation(), &error))?;
        let (out, err, status) = (attached.stdout(), attached.stderr(), attached.take_status());
        tokio::join!(drain(out, Stream::Out, take), drain(err, Stream::Err, take));
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        Ok(match status {
            Some(status) => ended(&status),
            None => match attached.join().await {
                Ok(()) => Ended::Lost("the connection was closed".to_owned()),
                Err(error) => Ended::Lost(chain(&error)),
            },
        })
    }
}

async fn drain<R: AsyncRead + Unpin>(
    stream: Option<R>,
    which: Stream,
    take: &(dyn Fn(Stream, &[u8]) + Send + Sync),
) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; BUFFER];
    // An error here is one of the connection, of which the status tells.
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        take(which, &buffer[..read]);
    }
}

/// What the status behind the streams says.
fn ended(status: &Status) -> Ended {
    if status.status.as_deref() == Some("Success") {
        return Ended::Code(0);
    }
    let causes = status.details.iter().flat_map(|details| details.causes.iter().flatten());
    let mut of_exit = causes.filter(|cause| cause.reason.as_deref() == Some(EXIT_CODE));
    let code = of_exit.find_map(|cause| cause.message.as_deref()?.parse().ok());
    code.map_or_else(|| Ended::NotRun(status.message.clone().unwrap_or_default()), Ended::Code)
}

fn refused(operation: String, error: &kube::Error) -> ClusterError {
    match error {
        kube::Error::Api(status) => {
            let body = serde_json::to_vec(status).unwrap_or_default();
            ClusterError::refused(operation, status.code, None, &body)
        }
        // It answers, and does not speak as is needed: that does not pass by itself.
        kube::Error::UpgradeConnection(_) => ClusterError::Unsound { operation, detail: chain(error) },
        other => ClusterError::Unreachable { operation, detail: chain(other) },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(status: serde_json::Value) -> Ended {
        ended(&serde_json::from_value(status).unwrap())
    }

    #[test]
    fn the_status_behind_the_streams_says_how_the_command_ended() {
        assert_eq!(of(json!({"metadata": {}, "status": "Success"})), Ended::Code(0));
        let failed = json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": "command terminated with non-zero exit code",
            "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}});
        assert_eq!(of(failed), Ended::Code(3));
        let missing = json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
            "message": "exec: \"/bin/sh\": no such file or directory"});
        let Ended::NotRun(why) = of(missing) else { panic!("it was not run") };
        assert!(why.contains("no such file"));
    }
}
