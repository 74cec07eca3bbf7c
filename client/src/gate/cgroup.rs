//! A cgroup of the program's own, where the hierarchy can be written. The PID
//! namespace already kills as a whole; the cgroup makes it visible, and kills
//! even what is stuck between the two.

use std::fs;
use std::path::{Path, PathBuf};

/// Where cgroup v2 may be mounted.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// A cgroup with the program in it.
#[derive(Debug)]
pub(super) struct Cgroup(PathBuf);

impl Cgroup {
    /// Moves a process into a cgroup of its own; `None` where there is no
    /// hierarchy that can be written.
    pub(super) fn hold(pid: i32) -> Option<Self> {
        let root = ROOTS.into_iter().map(Path::new).find(|root| root.join("cgroup.procs").exists())?;
        let folder = root.join(format!("portcullis-{pid}"));
        fs::create_dir(&folder).ok()?;
        let cgroup = Self(folder);
        fs::write(cgroup.0.join("cgroup.procs"), pid.to_string()).ok()?;
        Some(cgroup)
    }

    /// Kills everything in it.
    pub(super) fn kill(&self) {
        // Kernels before 5.14 have no cgroup.kill; the namespace kills there.
        let _killed = fs::write(self.0.join("cgroup.kill"), "1");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Not empty yet: the kernel still tidies up. The folder is harmless.
        let _removed = fs::remove_dir(&self.0);
    }
}
