//! Commands in containers and programs of this machine as Jobs, as hooks use them.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{AttachParams, AttachedProcess, LogParams};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::cluster::{Bench, Space, claim, lab, ready};
use isthmus_lab::kubelet::SHELL_IMAGE;

async fn text(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut text = String::new();
    stream.unwrap().read_to_string(&mut text).await.unwrap();
    text
}

/// What a command printed on both streams, and its status.
async fn run(space: &Space, pod: &str, command: &[&str]) -> (String, String, serde_json::Value) {
    let params = AttachParams { container: Some("c".to_owned()), ..AttachParams::default() };
    let params = params.stdin(false).stdout(true).stderr(true);
    let mut attached: AttachedProcess =
        space.api::<Pod>().exec(pod, command.iter().copied(), &params).await.unwrap();
    let (out, err) = (attached.stdout(), attached.stderr());
    let status = attached.take_status().unwrap();
    let (out, err) = tokio::join!(text(out), text(err));
    (out, err, serde_json::to_value(status.await.unwrap()).unwrap())
}

async fn a_command_runs_in_a_container_over_its_volumes_and_its_end_is_told(bench: &Bench) {
    let space = bench.namespace("commands").await;
    space.create::<PersistentVolumeClaim>(claim("data", "ReadWriteMany", None)).await;
    space
        .create::<Pod>(json!({"metadata": {"name": "db"}, "spec": {
            "containers": [{"name": "c", "image": "db:1", "volumeMounts": [{"name": "v", "mountPath": "/var/db"}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}}))
        .await;
    space.until::<Pod>("the pod", "", |pods| pods.iter().all(ready)).await;
    let folder = bench.folder(&space, "data").await;
    let script = "echo kept > /var/db/file; echo told; echo oh >&2; echo x > /tmp/y; cat /tmp/y";
    let (out, err, status) = run(&space, "db", &["sh", "-c", script]).await;
    assert_eq!((out.as_str(), err.as_str()), ("told\nx\n", "oh\n"));
    assert_eq!(status["status"], "Success");
    assert_eq!(std::fs::read_to_string(folder.join("file")).unwrap(), "kept\n");
    let (_, _, status) = run(&space, "db", &["sh", "-c", "exit 3"]).await;
    assert_eq!(status["details"]["causes"][0]["message"], "3");
    let (_, _, status) = run(&space, "db", &["no-such-program"]).await;
    assert_eq!(status["reason"], "InternalError", "{status}");
    // More than any buffer on the way holds.
    let (out, _, _) = run(&space, "db", &["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"]).await;
    assert_eq!(out.len(), 3_000_000);
}

async fn a_job_of_the_shells_image_is_a_program_of_this_machine_whose_output_is_its_log(bench: &Bench) {
    let space = bench.namespace("programs").await;
    let command = json!(["sh", "-c", "echo done in $WHERE"]);
    space
        .create::<Job>(
            json!({"metadata": {"name": "tool"}, "spec": {"backoffLimit": 0, "template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "c", "image": SHELL_IMAGE, "command": command,
                "env": [{"name": "WHERE", "value": "here"}]}]}}}}),
        )
        .await;
    let succeeded = |pods: &[Pod]| {
        let phase = pods.first().and_then(|pod| pod.status.as_ref()?.phase.clone());
        phase.as_deref() == Some("Succeeded")
    };
    let pods = space.until::<Pod>("its pod", "job-name=tool", succeeded).await;
    let log = space.api::<Pod>().logs(&pods[0].name_any(), &LogParams::default()).await.unwrap();
    assert_eq!(log, "done in here\n");
}

on_both_flavours! {
    a_command_runs_in_a_container_over_its_volumes_and_its_end_is_told,
    a_job_of_the_shells_image_is_a_program_of_this_machine_whose_output_is_its_log,
}
