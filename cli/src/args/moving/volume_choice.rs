//! `--volume`: what becomes of one volume, in one word of the command line.
//!
//! ```text
//!   cms/data=keep
//!   cms/data=copy,class=fast,size=20Gi,mode=RWX,name=content,verify=full
//! ```

use clap::ValueEnum as _;
use isthmus_shared::resources::{VolumeAction, VolumeChoice};

use super::access_mode;
use super::volumes::Verify;

/// What becomes of one volume.
pub fn volume_choice(text: &str) -> Result<VolumeChoice, String> {
    let shape = || {
        format!(
            "{text:?} is no choice for a volume: write NAMESPACE/CLAIM=copy, =skip or =keep, and after it what else \
             there is to say, as in cms/data=copy,class=fast,size=20Gi,name=content"
        )
    };
    let (claim, choice) = text.split_once('=').ok_or_else(shape)?;
    let (namespace, claim) = claim.trim().split_once('/').ok_or_else(shape)?;
    let mut parts = choice.split(',').map(str::trim);
    let action = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "copy" => VolumeAction::Copy,
        "skip" => VolumeAction::Skip,
        "keep" => VolumeAction::Keep,
        _ => return Err(shape()),
    };
    let mut chosen = VolumeChoice {
        namespace: namespace.to_owned(),
        claim: claim.to_owned(),
        action,
        storage_class: None,
        size: None,
        access_modes: Vec::new(),
        name: None,
        verify: None,
    };
    for part in parts {
        let (key, value) = part.split_once('=').map_or((part, ""), |(key, value)| (key.trim(), value.trim()));
        let value = (!value.is_empty()).then(|| value.to_owned());
        let value =
            value.ok_or_else(|| format!("{part:?} of {text:?} says nothing: write it as key=value"))?;
        match key {
            "class" => chosen.storage_class = Some(value),
            "size" => chosen.size = Some(value),
            "mode" => chosen.access_modes.push(access_mode(&value)?),
            "name" => chosen.name = Some(value),
            "verify" => chosen.verify = Some(Verify::from_str(&value, true)?.into()),
            _ => {
                return Err(format!(
                    "{key:?} is nothing that can be chosen for a volume: write class, size, mode, name or verify"
                ));
            }
        }
    }
    Ok(chosen)
}
