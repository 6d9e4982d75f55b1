//! The root of the volume: a directory, or a device that is filled like one large file.

use std::{
    ffi::CString,
    sync::{Arc, Mutex, atomic::AtomicU64},
};

use super::{Planner, Streamed};
use crate::mover::{
    device::NAME,
    error::MoverError,
    format::{Entry, FormatError, Kind, show_path},
    receive::file::{FileTask, Home, Present},
};

/// How much of a device without any data one job makes zeros of.
const CLEARED_PART: u64 = 64 * 1024 * 1024;

const FILES: &str = "files (volumeMode Filesystem)";
const BLOCKS: &str = "raw blocks (volumeMode Block)";

impl Planner {
    /// Takes the manifest's first entry: it tells what the volume is.
    pub(super) fn root_entry(&mut self, entry: Entry) -> Result<(), MoverError> {
        match (&entry.kind, &self.device) {
            (Kind::File(_), Some(_)) => self.device_entry(entry, 0),
            (Kind::File(_), None) => Err(MoverError::VolumeModeDiffers { sent: BLOCKS, here: FILES }),
            (_, Some(_)) => Err(MoverError::VolumeModeDiffers { sent: FILES, here: BLOCKS }),
            (_, None) => {
                self.push_directory(self.root.clone(), entry, false);
                Ok(())
            }
        }
    }

    /// Begins to fill the device, or goes on at an offset.
    pub(super) fn device_entry(&mut self, entry: Entry, at: u64) -> Result<(), MoverError> {
        let (Kind::File(content), Some(device)) = (&entry.kind, &self.device) else {
            return Ok(());
        };
        if !content.pieces.is_empty() || !content.open {
            // No sender writes such an entry.
            let (path, why) = (show_path(NAME), "the content of a device must follow its entry");
            let number = self.follower.reader().position();
            return Err(self.refused(number, FormatError::Content { path, why }));
        }
        let (size, have) = (content.size, device.size());
        if have < size {
            return Err(MoverError::DeviceTooSmall { path: device.path().to_owned(), have, need: size });
        }
        self.shared.file_opened();
        let task = Arc::new(FileTask {
            path: NAME.to_vec(),
            home: Home::Device(device.clone()),
            name: CString::default(),
            metadata: entry.metadata.clone(),
            size,
            present: Present::Differing,
            inline: Vec::new(),
            fd: Mutex::new(None),
            written: AtomicU64::new(0),
            window: Mutex::new(None),
        });
        self.streamed = Some(Streamed { entry, task: Some(task), at });
        Ok(())
    }

    /// Has what is before the next piece of a device made zeros, in parts that workers share, and
    /// tells where the last of them begins. In a file that is one call, left to the comparison.
    pub(super) fn clear_before(
        &mut self,
        task: &Arc<FileTask>,
        from: u64,
        to: u64,
    ) -> Result<u64, MoverError> {
        let mut at = from;
        if matches!(task.home, Home::Device(_)) {
            while to.saturating_sub(at) > CLEARED_PART {
                self.compare(task, Vec::new(), at, at + CLEARED_PART)?;
                at += CLEARED_PART;
            }
        }
        Ok(at)
    }
}
