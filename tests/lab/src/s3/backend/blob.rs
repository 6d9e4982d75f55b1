//! A file of bytes that nobody changes once it is whole, and that is removed with its last user.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};

/// What is gathered before it is written, and read at once: fewer and larger calls cost less CPU.
const CHUNK_BYTES: usize = 1 << 20;

type StdError = Box<dyn std::error::Error + Send + Sync>;

/// The bytes of an object or of a part of one.
#[derive(Debug)]
pub(in crate::s3) struct Blob {
    path: PathBuf,
    len: u64,
}

impl Drop for Blob {
    fn drop(&mut self) {
        // Gone already when the server's whole folder is being removed.
        drop(fs::remove_file(&self.path));
    }
}

impl Blob {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// An opaque tag, as unique as the file's name.
    pub fn tag(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// These bytes in a new file.
    pub fn of(dir: &Path, bytes: &[u8]) -> io::Result<Self> {
        let mut writer = Writer::new(dir)?;
        writer.file.write_all(bytes)?;
        writer.blob.len = bytes.len() as u64;
        Ok(writer.blob)
    }

    /// Writes a body to a new file. A body that breaks off leaves nothing.
    pub async fn write<S>(dir: &Path, mut body: S) -> Result<Self, StdError>
    where
        S: Stream<Item = Result<Bytes, StdError>> + Unpin,
    {
        let mut writer = Writer::new(dir)?;
        let mut gathered = BytesMut::with_capacity(CHUNK_BYTES);
        while let Some(chunk) = body.next().await {
            gathered.extend_from_slice(&chunk?);
            if gathered.len() >= CHUNK_BYTES {
                (writer, gathered) = writer.append(gathered).await?;
            }
        }
        if !gathered.is_empty() {
            (writer, _) = writer.append(gathered).await?;
        }
        Ok(writer.blob)
    }

    /// Writes the parts one behind the other to a new file.
    pub async fn join(dir: &Path, parts: Vec<Arc<Self>>) -> Result<Self, StdError> {
        let mut writer = Writer::new(dir)?;
        tokio::task::spawn_blocking(move || {
            for part in parts {
                writer.blob.len += io::copy(&mut File::open(&part.path)?, &mut writer.file)?;
            }
            Ok(writer.blob)
        })
        .await?
    }

    /// Streams `len` bytes from `offset`.
    pub fn read(
        self: Arc<Self>,
        offset: u64,
        len: u64,
    ) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + Sync> {
        let file = Arc::new(File::open(&self.path)?);
        Ok(stream::try_unfold((self, file, offset, len), |(blob, file, offset, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let take = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let reading = file.clone();
            let chunk = tokio::task::spawn_blocking(move || {
                let mut chunk = vec![0; take];
                reading.read_exact_at(&mut chunk, offset).map(|()| Bytes::from(chunk))
            })
            .await??;
            let read = chunk.len() as u64;
            Ok(Some((chunk, (blob, file, offset + read, left - read))))
        }))
    }
}

struct Writer {
    file: File,
    blob: Blob,
}

impl Writer {
    fn new(dir: &Path) -> io::Result<Self> {
        let path = dir.join(uuid::Uuid::new_v4().simple().to_string());
        Ok(Self { file: File::create_new(&path)?, blob: Blob { path, len: 0 } })
    }

    async fn append(mut self, mut bytes: BytesMut) -> Result<(Self, BytesMut), StdError> {
        tokio::task::spawn_blocking(move || {
            self.file.write_all(&bytes)?;
            self.blob.len += bytes.len() as u64;
            bytes.clear();
            Ok((self, bytes))
        })
        .await?
    }
}
