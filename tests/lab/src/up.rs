//! A deployment for experiments, in a folder from which it can be resumed.

mod attend;
mod folder;
mod leftovers;

use std::path::Path;

use anyhow::{Result, ensure};
use portcullis_cli::{Waiting, say};

use self::folder::{Found, LabFolder};
use crate::deployment::{Deployment, NODE_IMAGE, Options, SLEEP};

/// Days for which a lab can be resumed.
const DAYS: i64 = 365;
/// Default number of nodes of a new lab.
const NODES: u32 = 2;

/// Starts an authority and nodes, prints how to use them, and waits for Ctrl-C, or for
/// the end of standard input if that is a pipe. An existing lab in the folder is
/// resumed.
///
/// # Errors
/// swtpm is missing, I/O, the folder holds something else, or the authority
/// refuses.
pub fn run(lab: &Path, folder: &Path, nodes: Option<u32>) -> Result<()> {
    let (held, found) = LabFolder::take(folder)?;
    let mut deployment = match found {
        Found::Nothing => {
            let deployment = create(lab, folder, nodes.unwrap_or(NODES))?;
            held.mark_complete()?;
            deployment
        }
        Found::Lab => resume(lab, folder, nodes)?,
    };
    let waiting = Waiting::start("portcullis-lab");
    waiting.on("starting the authority");
    let daemon = deployment.serve()?;
    drop(waiting);
    print_use(lab, &deployment);
    attend::until_told(&mut deployment, daemon)
}

fn create(lab: &Path, folder: &Path, nodes: u32) -> Result<Deployment> {
    let waiting = Waiting::start("portcullis-lab");
    waiting.on("making keys, and booting machines");
    let options =
        Options { lease_seconds: 60, status_seconds: 30, bundle_seconds: DAYS * 86_400, ..Options::default() };
    let mut deployment = Deployment::create(folder, lab, &folder.join("root"), options)?;
    for n in 2..=nodes {
        let name = format!("node-{n}");
        deployment.boot(&name, NODE_IMAGE)?;
        deployment.enrol(&name, &["lab"])?;
    }
    deployment.sign_bundle()?;
    Ok(deployment)
}

fn resume(lab: &Path, folder: &Path, nodes: Option<u32>) -> Result<Deployment> {
    let waiting = Waiting::start("portcullis-lab");
    waiting.on("booting machines");
    let ended = leftovers::end(folder)?;
    if ended > 0 {
        waiting.say(format!("ended {ended} processes that an earlier run had left behind"));
    }
    let deployment = Deployment::resume(folder, lab)?;
    let has = deployment.machines().count() - 1;
    ensure!(
        nodes.is_none_or(|wanted| usize::try_from(wanted).is_ok_and(|wanted| wanted == has)),
        "{} holds a lab of {has} nodes: leave out --nodes, or name another folder",
        folder.display()
    );
    drop(waiting);
    say!("resumed {}: the same authority, log, nodes and keys\n", folder.display());
    Ok(deployment)
}

fn print_use(lab: &Path, deployment: &Deployment) {
    say!("authority for nodes    {}", deployment.nodes_address());
    say!("authority for readers  http://{}/readyz, /metrics, /checkpoint", deployment.public_address());
    say!("log of the authority   {}", deployment.text("authority.log"));
    for name in deployment.machines().filter(|name| *name != "authority") {
        say!("\non {name}:");
        say!(
            "  {} portcullis --machine {} -- --config {} run -- {SLEEP} 30",
            lab.display(),
            deployment.machine(name).display(),
            deployment.text(&format!("{name}.toml"))
        );
    }
    say!("\nCtrl-C ends it; the same command takes it up again");
}
