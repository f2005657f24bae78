//! The texts of a measurement, in a file that programs in any language read alike: for those that warm and then for
//! those that are measured, their number and then each with its length in bytes before it; numbers are 32 bits, little
//! end first.

use crate::Failure;
use std::path::Path;

/// Texts stay for as long as the process does, so that no memory that they leave behind is taken for an engine's.
#[derive(Debug, Default)]
pub struct Documents {
    pub warm: Vec<&'static str>,
    pub measured: Vec<&'static str>,
}

impl Documents {
    /// Reads what [`Self::write`] wrote.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let mut rest: &'static [u8] =
            std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?.leak();
        let documents = Self { warm: list(&mut rest)?, measured: list(&mut rest)? };
        Ok(documents)
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        for list in [&self.warm, &self.measured] {
            bytes.extend(u32::try_from(list.len())?.to_le_bytes());
            for text in list {
                bytes.extend(u32::try_from(text.len())?.to_le_bytes());
                bytes.extend(text.as_bytes());
            }
        }
        Ok(std::fs::write(path, bytes)?)
    }
}

fn list(rest: &mut &'static [u8]) -> Result<Vec<&'static str>, Failure> {
    (0..number(rest)?)
        .map(|_| {
            let length = number(rest)?;
            let (text, behind) = rest.split_at_checked(length).ok_or("the file of documents is cut short")?;
            *rest = behind;
            Ok(std::str::from_utf8(text)?)
        })
        .collect()
}

fn number(rest: &mut &'static [u8]) -> Result<usize, Failure> {
    let (bytes, behind) = rest.split_first_chunk().ok_or("the file of documents is cut short")?;
    *rest = behind;
    Ok(u32::from_le_bytes(*bytes) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_come_back_as_they_were_and_a_file_cut_short_is_refused() {
        let path = std::env::temp_dir().join(format!("documents-{}", std::process::id()));
        let documents = Documents { warm: vec!["a", ""], measured: vec!["zwei\n", "三"] };
        documents.write(&path).unwrap();
        let read = Documents::read(&path).unwrap();
        assert_eq!((read.warm, read.measured), (documents.warm, documents.measured));

        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(Documents::read(&path).unwrap_err().to_string(), "the file of documents is cut short");
        std::fs::remove_file(&path).unwrap();
    }
}
