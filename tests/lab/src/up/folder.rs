//! Owner of a folder: none, a lab, something else, or a lab that runs.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Marks the folder of a lab. The process that runs the lab holds a lock on it.
const MARK: &str = "portcullis-lab";
const BEGUN: &str = "a lab of portcullis-lab up: being made\n";
const COMPLETE: &str = "a lab of portcullis-lab up: complete\n";

/// The content of a folder.
pub(super) enum Found {
    Nothing,
    Lab,
}

/// A folder that this process holds until it ends.
pub(super) struct LabFolder(File);

impl LabFolder {
    /// Takes a folder that is absent, empty, or a lab's.
    pub(super) fn take(folder: &Path) -> Result<(Self, Found)> {
        let shown = folder.display();
        fs::create_dir_all(folder).with_context(|| shown.to_string())?;
        let mark = folder.join(MARK);
        let first = fs::read_dir(folder)?.next().transpose()?;
        if let Some(entry) = first
            && !mark.exists()
        {
            let name = entry.file_name();
            bail!("{shown} holds something else than a lab ({}): name an empty or absent folder", name.display());
        }
        let mut file = File::options().create(true).truncate(false).read(true).write(true).open(&mark)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("{shown}: another portcullis-lab up runs this lab"),
            Err(TryLockError::Error(error)) => return Err(error).context(mark.display().to_string()),
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        match text.as_str() {
            COMPLETE => Ok((Self(file), Found::Lab)),
            "" => {
                file.write_all(BEGUN.as_bytes())?;
                Ok((Self(file), Found::Nothing))
            }
            BEGUN => bail!("{shown}: making this lab was broken off: remove the folder, and begin again"),
            _ => bail!("{}: not the mark of a lab", mark.display()),
        }
    }

    /// Marks the lab as complete, so that it can be resumed.
    pub(super) fn mark_complete(&self) -> Result<()> {
        let mut file = &self.0;
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(COMPLETE.as_bytes())?;
        Ok(file.sync_all()?)
    }
}
