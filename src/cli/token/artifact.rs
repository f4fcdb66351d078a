//! A file that is to be uploaded: its digest and size, whatever its size.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use aws_lc_rs::digest;

use crate::cli::Failed;

/// What caveats and questions say of a file.
pub(super) struct Artifact {
    /// The digest of all of it.
    pub(super) sha256: [u8; 32],
    /// Its length in bytes.
    pub(super) size: u64,
}

impl Artifact {
    /// Reads a file once, a piece at a time.
    pub(super) fn read(path: &Path) -> Result<Self, Failed> {
        let failed = |error| Failed::file(path, &error);
        // Opening a pipe would wait for its writer.
        if !path.metadata().map_err(failed)?.is_file() {
            return Err(Failed::new(format!("`{}` is not a file", path.display())));
        }
        let mut file = File::open(path).map_err(failed)?;
        let mut context = digest::Context::new(&digest::SHA256);
        let (mut piece, mut size) = (vec![0; 64 * 1024], 0_u64);
        loop {
            let length = file.read(&mut piece).map_err(failed)?;
            let Some(read @ [_, ..]) = piece.get(..length) else { break };
            context.update(read);
            size = size.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(context.finish().as_ref());
        Ok(Self { sha256, size })
    }
}
