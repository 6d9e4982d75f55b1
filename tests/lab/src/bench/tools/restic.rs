//! `restic backup` into the bucket and `restic restore` out of it.
//!
//! Each restore goes into an empty folder: over an earlier one, Debian 12's restic (0.14) writes
//! all files anew all the same, and fails at the first symbolic link.

use super::{Figures, Scene};
use crate::bench::measured::{Program, measured};

pub async fn pass(scene: &Scene<'_>) -> anyhow::Result<Figures> {
    let destination = scene.destination()?.join(format!("pass-{}", scene.pass));
    if scene.pass == 1 {
        measured(restic(scene).arg("init")).await?;
    }
    let mut backup = restic(scene);
    backup.args(["backup", "."]).folder(scene.source);
    let mut restore = restic(scene);
    restore.args(["restore", "latest", "--target"]).arg(&destination);
    Ok(measured(&backup).await?.then(measured(&restore).await?))
}

fn restic(scene: &Scene<'_>) -> Program {
    let access = scene.store.access();
    let mut program = Program::new("restic", scene.folder);
    program
        .env("RESTIC_REPOSITORY", &format!("s3:{}/{}/restic", access.endpoint, access.bucket))
        .env("RESTIC_PASSWORD", "measured")
        .env("AWS_ACCESS_KEY_ID", &access.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &access.secret_access_key)
        .env("AWS_DEFAULT_REGION", &access.region)
        .arg("--quiet")
        .arg("--cache-dir")
        .arg(scene.folder.join("cache"));
    program
}
