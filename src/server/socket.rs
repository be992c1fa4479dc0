//! A Unix socket that listens, and its file.
//!
//! 1. The file has mode 0660: its owner and its group may connect, and at no moment anybody else.
//! 2. A socket at which nobody listens any more is replaced. One in use stops the start, and so does whatever else
//!    stands in its place.
//! 3. The file goes when nobody listens at it any more, if it still is the one that was made here.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use super::BACKLOG;

const MODE: u32 = 0o660;

/// The file of a socket; removed when dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

/// Listens at `path`.
pub(super) fn bind(path: &Path) -> io::Result<(SocketFile, UnixListener)> {
    make_room(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // On Linux the file has no more of a mode than its socket; elsewhere the process's umask must do for a moment.
    let _ = fchmod(&socket, Mode::from_raw_mode(MODE));
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::at(path)?;
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    socket.listen(BACKLOG)?;
    Ok((file, UnixListener::from_std(socket.into())?))
}

/// Rule 2.
fn make_room(path: &Path) -> io::Result<()> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !there.is_socket() {
        let sentence = "what stands there is no socket, and is left alone";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, sentence));
    }
    let caller = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    caller.set_nonblocking(true)?;
    match caller.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // It would wait: somebody has more callers than he takes at the moment.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        Ok(()) | Err(_) => {
            let sentence = "another process listens there";
            Err(io::Error::new(io::ErrorKind::AddrInUse, sentence))
        }
    }
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: identity(path)?,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|there| there == self.identity) {
            // What cannot be removed is replaced by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let there = fs::symlink_metadata(path)?;
    Ok((there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn refused(path: &Path) -> io::ErrorKind {
        bind(path).unwrap_err().kind()
    }

    #[tokio::test]
    async fn rule_1_owner_and_group_may_connect() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _bound = bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        UnixStream::connect(&path).unwrap();
    }

    #[tokio::test]
    async fn rule_2_the_dead_are_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let bound = bind(&path).unwrap();
        assert_eq!(refused(&path), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();
        drop(bound);

        // A full queue is a sign of life.
        let busy = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        busy.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        busy.listen(0).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        assert_eq!(refused(&path), io::ErrorKind::AddrInUse);
        fs::remove_file(&path).unwrap();

        fs::write(&path, "precious").unwrap();
        assert_eq!(refused(&path), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert_eq!(refused(&folder.path().join("no/folder")), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn rule_3_the_file_goes_unless_it_is_anothers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(bind(&path).unwrap());
        assert!(!path.exists());
        let first = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _second = bind(&path).unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
    }
}
