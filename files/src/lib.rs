//! Files that survive a power failure: afterwards, a file has either its old or its new
//! content, complete. It is never partial or empty.
//!
//! ```text
//! .NAME.draft     written, synced
//! NAME            renamed over, folder synced
//! ```
//!
//! Each file has one draft, and its writer holds a lock on the draft. Two writers do
//! not mix their bytes, and the next writer reuses a draft that remains after a crash.
//!
//! ```
//! let folder = std::env::temp_dir().join("portcullis-files-example");
//! portcullis_files::make_folder(&folder)?;
//! let path = folder.join("state");
//! portcullis_files::write_durably(&path, b"new")?;
//! assert_eq!(portcullis_files::read_if_present(&path)?.as_deref(), Some(&b"new"[..]));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Every error names the file. The reader checks the content: a damaged file is an
//! error, and is never treated as an absent file.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Mode of files with secrets: access for the owner only.
pub const PRIVATE: u32 = 0o600;
/// Mode of other new files, before the umask.
const SHARED: u32 = 0o666;

/// Replaces a file, or creates it. Symbolic links are followed, and an existing file
/// keeps its access rights. A target that is not a regular file, such as a pipe,
/// `/dev/stdout` or `/dev/null`, is written directly.
///
/// # Errors
/// I/O errors with the path; the file then still has its old content.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let target = if path.is_symlink() { fs::canonicalize(path).unwrap_or(path.into()) } else { path.into() };
    match fs::metadata(&target) {
        Ok(found) if found.is_file() && !is_descriptor(path) => {
            replace(&target, bytes, Some(&found), SHARED, |draft| fs::rename(draft, &target))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            replace(&target, bytes, None, SHARED, |draft| fs::rename(draft, &target))
        }
        Ok(_) => write_in_place(path, bytes),
        Err(error) => Err(error),
    }
    .map_err(named(path))
}

/// Creates a file that must not exist, with this mode (such as [`PRIVATE`]).
///
/// # Errors
/// I/O errors with the path; [`io::ErrorKind::AlreadyExists`].
pub fn create_durably(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(named(path)(io::ErrorKind::AlreadyExists.into()));
    }
    let place = |draft: &Path| match renameat_with(CWD, draft, CWD, path, RenameFlags::NOREPLACE) {
        // This file system does not support NOREPLACE. The existence check above must suffice.
        Err(Errno::INVAL) => fs::rename(draft, path),
        outcome => Ok(outcome?),
    };
    replace(path, bytes, None, mode, place).map_err(named(path))
}

/// Reads a file; `None` if it does not exist. A file that cannot be read is an error.
///
/// # Errors
/// I/O errors with the path.
pub fn read_if_present(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(path)(error)),
    }
}

/// Creates a folder and its parents.
///
/// # Errors
/// I/O errors with the path.
pub fn make_folder(path: &Path) -> io::Result<()> {
    let absent: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    fs::create_dir_all(path).map_err(named(path))?;
    absent.into_iter().try_for_each(|folder| sync_folder_of(folder).map_err(named(folder)))
}

/// Waits for the exclusive lock on a folder, which holds until the value is dropped. A
/// program takes it before it reads a file, decides and writes the file.
///
/// # Errors
/// I/O errors with the path.
pub fn lock_folder(path: &Path) -> io::Result<File> {
    let folder = File::open(path).map_err(named(path))?;
    folder.lock().map_err(named(path))?;
    Ok(folder)
}

/// Adds the path to an error.
fn named(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// `/dev/stdout` may be a regular file that other processes also write.
fn is_descriptor(path: &Path) -> bool {
    path.starts_with("/dev") || path.starts_with("/proc")
}

fn write_in_place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(bytes)
}

fn replace(
    target: &Path,
    bytes: &[u8],
    former: Option<&fs::Metadata>,
    mode: u32,
    place: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let draft = draft_of(target)?;
    let mut file = open_draft(&draft, mode)?;
    let written = (|| {
        if let Some(former) = former {
            file.set_permissions(former.permissions())?;
            // Only root can preserve another owner of the file.
            drop(fchown(&file, Some(former.uid()), Some(former.gid())));
        } else if mode == PRIVATE {
            // A draft that remains after a crash may be readable for others.
            file.set_permissions(Permissions::from_mode(PRIVATE))?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        place(&draft)
    })();
    if written.is_err() {
        // Removes the draft, so that it does not fill the disk. The first error is returned.
        drop(fs::remove_file(&draft));
    }
    written?;
    sync_folder_of(target)
}

fn draft_of(target: &Path) -> io::Result<PathBuf> {
    let name = target.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let mut draft = OsString::from(".");
    draft.push(name);
    draft.push(".draft");
    Ok(target.with_file_name(draft))
}

/// Waits until no other writer holds the draft, and opens it empty.
fn open_draft(path: &Path, mode: u32) -> io::Result<File> {
    let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(mode).custom_flags(no_follow);
    loop {
        let file = options.open(path)?;
        file.lock()?;
        // The previous writer may have renamed the opened draft to the target.
        let held = file.metadata()?;
        if fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (held.dev(), held.ino())) {
            file.set_len(0)?;
            return Ok(file);
        }
    }
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(folder)?.sync_all() {
        // Some file systems can sync files but not folders.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_and_keeps_its_access_rights() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        write_durably(&path, b"one").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        write_durably(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(names(folder.path()), ["state"]);
    }

    #[test]
    fn what_a_crash_left_behind_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(folder.path().join(".key.draft"), "half of something longer").unwrap();
        create_durably(&path, b"new", PRIVATE).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(names(folder.path()), ["key"]);
        let error = create_durably(&path, b"other", PRIVATE).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn links_are_followed_and_devices_stay_devices() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&path, "old").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write_durably(&link, b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"new");
        write_durably(Path::new("/dev/null"), b"gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn errors_name_the_path_and_leave_the_file() {
        let error = write_durably(Path::new("/dev/full"), b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(error.to_string(), "/dev/full: No space left on device (os error 28)");
        let error = write_durably(Path::new("/nonexistent/file"), b"x").unwrap_err();
        assert_eq!(error.to_string(), "/nonexistent/file: No such file or directory (os error 2)");
        assert_eq!(read_if_present(Path::new("/nonexistent/file")).unwrap(), None);
        assert!(read_if_present(Path::new("/")).unwrap_err().to_string().starts_with("/: "));
    }

    #[test]
    fn writers_at_the_same_time_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shared");
        std::thread::scope(|scope| {
            for writer in 0..4_u8 {
                let path = &path;
                scope.spawn(move || (0..20).for_each(|_| write_durably(path, &vec![writer; 10_000]).unwrap()));
            }
        });
        let written = fs::read(&path).unwrap();
        assert_eq!(written.len(), 10_000);
        assert!(written.iter().all(|byte| *byte == written[0]));
        assert_eq!(names(folder.path()), ["shared"]);
    }
}
