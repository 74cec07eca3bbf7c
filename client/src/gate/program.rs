//! The program: its bytes in a sealed memory file. The executed bytes are the hashed
//! ones.

use std::ffi::{CString, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use portcullis_attest::bytes::Reader;
use portcullis_permit::{DynamicLinking, Workload};
use portcullis_wire::sha256;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// Largest program, in bytes.
const MAX_PROGRAM: u64 = 1 << 30;
/// Largest number of program headers that are read.
const MAX_HEADERS: u16 = 128;
const PT_INTERP: u32 = 3;

/// Why a program cannot be run.
#[derive(Debug)]
pub enum ProgramError {
    /// The program does not exist: exit code 127.
    NotFound(PathBuf, io::Error),
    /// The program cannot be executed: exit code 126.
    NotExecutable(PathBuf, &'static str),
    /// The gate itself failed: exit code 125.
    Own(io::Error),
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(path, error) => write!(f, "{}: {error}", path.display()),
            Self::NotExecutable(path, why) => write!(f, "{}: {why}", path.display()),
            Self::Own(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ProgramError {}

impl From<io::Error> for ProgramError {
    fn from(error: io::Error) -> Self {
        Self::Own(error)
    }
}

/// A program with its arguments and environment, as it will run.
pub struct Program {
    sealed: File,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    workload: Workload,
}

impl Program {
    /// Reads a program into sealed memory. A name without a slash is searched in `PATH`, as
    /// a shell does.
    ///
    /// # Errors
    /// [`ProgramError`]: scripts are refused, because the kernel would run their
    /// interpreter instead.
    pub fn open(command: &[OsString], environment: Vec<(OsString, OsString)>) -> Result<Self, ProgramError> {
        let name = command.first().cloned().unwrap_or_default();
        let (path, file) = find(Path::new(&name), &environment)?;
        let sealed = seal(&path, file)?;
        let mut bytes = Vec::new();
        (&sealed).seek(SeekFrom::Start(0))?;
        (&sealed).read_to_end(&mut bytes)?;
        let linking = linking(&bytes).map_err(|why| ProgramError::NotExecutable(path, why))?;

        let nul = |_| ProgramError::Own(io::Error::other("a zero byte in an argument or the environment"));
        let c_string = |bytes: Vec<u8>| CString::new(bytes).map_err(nul);
        let arguments: Vec<CString> =
            command.iter().map(|argument| c_string(argument.clone().into_vec())).collect::<Result<_, _>>()?;
        let mut pairs: Vec<Vec<u8>> = environment
            .into_iter()
            .map(|(key, value)| [key.into_vec(), b"=".to_vec(), value.into_vec()].concat())
            .collect();
        pairs.sort();
        let environment: Vec<CString> = pairs.into_iter().map(c_string).collect::<Result<_, _>>()?;
        let workload = Workload {
            digest: sha256(&[&bytes]),
            arguments: Workload::list_digest(arguments.iter().map(|a| a.as_bytes())),
            environment: Workload::list_digest(environment.iter().map(|e| e.as_bytes())),
            linking,
        };
        Ok(Self { sealed, arguments, environment, workload })
    }

    /// The workload that a permit must name.
    #[must_use]
    pub const fn workload(&self) -> &Workload {
        &self.workload
    }

    /// The name that the caller gave, for messages.
    pub(super) fn name(&self) -> String {
        self.arguments.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    pub(super) fn executable(&self) -> BorrowedFd<'_> {
        self.sealed.as_fd()
    }

    pub(super) fn arguments(&self) -> &[CString] {
        &self.arguments
    }

    pub(super) fn environment(&self) -> &[CString] {
        &self.environment
    }
}

fn find(name: &Path, environment: &[(OsString, OsString)]) -> Result<(PathBuf, File), ProgramError> {
    let not_found = |error| ProgramError::NotFound(name.to_owned(), error);
    let open = |path: PathBuf| File::open(&path).map(|file| (path, file));
    if name.components().count() != 1 || name.as_os_str().is_empty() {
        return open(name.to_owned()).map_err(not_found);
    }
    let path = environment.iter().find(|(key, _)| key == "PATH").map(|(_, value)| value.clone()).unwrap_or_default();
    let found = std::env::split_paths(&path).find_map(|folder| open(folder.join(name)).ok());
    found.ok_or_else(|| not_found(io::Error::from(io::ErrorKind::NotFound)))
}

/// Copies the file into memory that cannot be changed any more.
fn seal(path: &Path, mut file: File) -> Result<File, ProgramError> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ProgramError::NotExecutable(path.to_owned(), "not a regular file"));
    }
    if metadata.len() > MAX_PROGRAM {
        return Err(ProgramError::NotExecutable(path.to_owned(), "larger than 1 GiB"));
    }
    let memory = memfd_create(c"portcullis-workload", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    let mut sealed = File::from(memory.map_err(io::Error::from)?);
    io::copy(&mut Read::by_ref(&mut file).take(MAX_PROGRAM), &mut sealed)?;
    sealed.flush()?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&sealed, seals).map_err(io::Error::from)?;
    Ok(sealed)
}

/// Whether an ELF file names an interpreter.
fn linking(bytes: &[u8]) -> Result<DynamicLinking, &'static str> {
    if bytes.starts_with(b"#!") {
        return Err("a script: run its interpreter as the workload instead");
    }
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return Err("not a 64-bit little-endian ELF executable");
    }
    let headers = || {
        let mut r = Reader::new(bytes.get(32..)?);
        let offset = usize::try_from(r.u64_le().ok()?).ok()?;
        r.take(14).ok()?; // section headers, flags, size of this header
        let (size, count) = (usize::from(r.u16_le().ok()?), r.u16_le().ok()?);
        if count == 0 || count > MAX_HEADERS {
            return None;
        }
        (0..usize::from(count))
            .map(|n| {
                let at = n.checked_mul(size)?.checked_add(offset)?;
                Reader::new(bytes.get(at..)?).u32_le().ok()
            })
            .collect::<Option<Vec<u32>>>()
    };
    let kinds = headers().ok_or("its ELF program headers cannot be read")?;
    Ok(if kinds.contains(&PT_INTERP) { DynamicLinking::Dynamic } else { DynamicLinking::Static })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_other_files_are_no_programs() {
        assert_eq!(linking(b"#!/bin/sh\n"), Err("a script: run its interpreter as the workload instead"));
        assert!(linking(b"").is_err());
        assert!(linking(b"\x7fELF\x02\x01").is_err());
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(linking(&own), Ok(DynamicLinking::Dynamic));
    }

    #[test]
    fn sealed_bytes_cannot_change() {
        let program = Program::open(&["/bin/true".into()], Vec::new()).unwrap();
        assert!((&program.sealed).write_all(b"x").is_err());
        assert!(program.sealed.set_len(0).is_err());
        assert_eq!(program.workload().digest, sha256(&[&std::fs::read("/bin/true").unwrap()]));
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let missing = Program::open(&["/nonexistent".into()], Vec::new());
        assert!(matches!(missing, Err(ProgramError::NotFound(..))));
        let folder = Program::open(&["/".into()], Vec::new());
        assert!(matches!(folder, Err(ProgramError::NotExecutable(..))));
    }
}
