//! The smallest wheel that real publishing clients accept: one module, and the three files that PEP 427 demands.
//!
//! The archive is written by hand because a wheel of four stored files needs forty lines of ZIP and no compressor.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::package::PackageName;

/// A wheel: the name of its file and the file's bytes, the same for the same package and version.
#[derive(Debug, Clone)]
pub struct Wheel {
    /// `acme_widgets-1.0.0-py3-none-any.whl`
    pub file_name: String,
    /// The archive.
    pub bytes: Vec<u8>,
}

impl Wheel {
    /// A wheel of that package and version (PEP 440, in its normal form).
    pub fn new(package: &PackageName, version: &str) -> Self {
        // PEP 427: runs of separators are one `_` in file names.
        let module = package.as_str().replace('-', "_");
        let info = format!("{module}-{version}.dist-info");
        let metadata = format!(
            "Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n\
             Summary: A package without content, published by a demonstration\n\
             Description-Content-Type: text/plain\n\nPublished by `trustmint demo`.\n"
        );
        let mut files = vec![
            (format!("{module}.py"), format!("\"\"\"{package} {version}: nothing but its name.\"\"\"\n")),
            (format!("{info}/METADATA"), metadata),
            (
                format!("{info}/WHEEL"),
                "Wheel-Version: 1.0\nGenerator: trustmint\nRoot-Is-Purelib: true\nTag: py3-none-any\n".to_owned(),
            ),
        ];
        let lines = files.iter().map(|(name, content)| record_line(name, content));
        let record = lines.chain([format!("{info}/RECORD,,\n")]).collect();
        files.push((format!("{info}/RECORD"), record));
        Self { file_name: format!("{module}-{version}-py3-none-any.whl"), bytes: zip(&files) }
    }
}

/// `name,sha256=…,size`: a line of RECORD (PEP 376, PEP 427).
fn record_line(name: &str, content: &str) -> String {
    let digest = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, content.as_bytes()));
    format!("{name},sha256={digest},{}\n", content.len())
}

/// A ZIP archive (APPNOTE.TXT 6.3.3, sections 4.3.7, 4.3.12 and 4.3.16) of stored files, dated 1980-01-01.
fn zip(files: &[(String, String)]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut directory = Vec::new();
    for (name, content) in files {
        let offset = uint32(archive.len());
        // What both headers have: version 2.0, no flags, stored, midnight of the first day that the format knows; then
        // checksum, both sizes and the name's length, which is 16 bits, followed by the length of no extra field.
        let mut entry = Vec::new();
        entry.extend([20, 0, 0, 0, 0x21].into_iter().flat_map(u16::to_le_bytes));
        let size = uint32(content.len());
        entry
            .extend([crc32(content.as_bytes()), size, size, uint32(name.len())].into_iter().flat_map(u32::to_le_bytes));
        archive.extend(b"PK\x03\x04");
        archive.extend(&entry);
        archive.extend(name.as_bytes());
        archive.extend(content.as_bytes());
        // Made by version 2.0 on Unix; no comment, first disk, no attributes but the mode of a readable file.
        directory.extend(b"PK\x01\x02\x14\x03");
        directory.extend(&entry);
        directory.extend([0; 6]);
        directory.extend(u32::to_le_bytes(0o100_644 << 16));
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    // One disk; the entries on it and in all; the directory's size and place; no comment.
    let entries = u16::try_from(files.len()).unwrap_or(u16::MAX);
    let (size, place) = (uint32(directory.len()), uint32(archive.len()));
    archive.extend(directory);
    archive.extend(b"PK\x05\x06\0\0\0\0");
    archive.extend([entries, entries].into_iter().flat_map(u16::to_le_bytes));
    archive.extend([size, place].into_iter().flat_map(u32::to_le_bytes));
    archive.extend([0; 2]);
    archive
}

/// A length as the format's 32 bits; nothing here comes near their end.
fn uint32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// CRC-32 as in ISO 3309 (reflected, polynomial 0xEDB88320).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use crate::package::Ecosystem;

    use super::*;

    #[test]
    fn the_checksum_is_the_standard_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn it_is_byte_for_byte_the_wheel_that_twine_pip_and_uv_accepted() {
        let package = PackageName::parse(Ecosystem::Pypi, "Acme.Widgets").unwrap();
        let wheel = Wheel::new(&package, "1.0.0");
        assert_eq!(wheel.file_name, "acme_widgets-1.0.0-py3-none-any.whl");
        let digest = digest::digest(&digest::SHA256, &wheel.bytes);
        assert_eq!(URL_SAFE_NO_PAD.encode(digest), "2omIXdnVV2zQFxYpiSWkUou1QzMXh4TbMSQ2ixP0IBk");
    }
}
