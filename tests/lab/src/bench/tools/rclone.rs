//! `rclone sync` into the bucket and out of it. With `--metadata`, Debian 12's rclone (1.60) fails
//! at symbolic links; so it moves contents, times and links only.
//!
//! The server is reached over plain HTTP; a bundle of CAs in the environment, which rclone's
//! client cannot load, is left out.

use super::{Figures, Scene};
use crate::bench::measured::{Program, measured};

pub async fn pass(scene: &Scene<'_>) -> anyhow::Result<Figures> {
    let destination = scene.destination()?;
    let bucket = format!("bench:{}/rclone", scene.store.access().bucket);
    let mut up = rclone(scene);
    up.arg(scene.source).arg(&bucket);
    let mut down = rclone(scene);
    down.arg(&bucket).arg(&destination);
    Ok(measured(&up).await?.then(measured(&down).await?))
}

fn rclone(scene: &Scene<'_>) -> Program {
    let access = scene.store.access();
    let mut program = Program::new("rclone", scene.folder);
    program
        .without_env("AWS_CA_BUNDLE")
        .env("RCLONE_CONFIG", "/dev/null")
        .env("RCLONE_CONFIG_BENCH_TYPE", "s3")
        .env("RCLONE_CONFIG_BENCH_PROVIDER", "Other")
        .env("RCLONE_CONFIG_BENCH_ENDPOINT", &access.endpoint)
        .env("RCLONE_CONFIG_BENCH_REGION", &access.region)
        .env("RCLONE_CONFIG_BENCH_FORCE_PATH_STYLE", "true")
        .env("RCLONE_CONFIG_BENCH_ACCESS_KEY_ID", &access.access_key_id)
        .env("RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY", &access.secret_access_key)
        .args(["sync", "--links", "--retries", "1"]);
    program
}
