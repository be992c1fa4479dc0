//! Files that settings name, read to an end that is known: some have none.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// The longest list of certificates that is read.
pub const LONGEST_PEM: usize = 4 * 1024 * 1024;

/// Reads a file whole.
///
/// # Errors
/// When it cannot be read, or is longer than `most` bytes.
pub fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = File::open(path)?;
    // A buffer that grows leaves copies behind, of secrets too.
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    bytes.reserve_exact(length.min(most) + 1);
    file.by_ref().take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        bytes.fill(0);
        let long = format!("it is longer than {} KiB", most / 1024);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, long));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_at_the_limit_is_read_and_none_over_it_nor_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [7; 2048]).unwrap();
        assert_eq!(read(&path, 2048).unwrap(), [7; 2048]);
        assert_eq!(read(&path, 2047).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        let endless = read(Path::new("/dev/zero"), 2048).unwrap_err();
        assert_eq!(endless.to_string(), "it is longer than 2 KiB");
    }
}
