//! `cp -a`: the floor. The second pass copies what is newer.

use super::{Figures, Scene};
use crate::bench::measured::{Program, measured};

pub async fn pass(scene: &Scene<'_>) -> anyhow::Result<Figures> {
    let destination = scene.destination()?;
    let mut source = scene.source.as_os_str().to_owned();
    source.push("/.");
    let mut program = Program::new("cp", scene.folder);
    program.args(["-a", "--update"]).arg(&source).arg(&destination);
    measured(&program).await
}
