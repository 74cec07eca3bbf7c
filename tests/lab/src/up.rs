//! A deployment to play with.

use std::io::{IsTerminal, stdin};
use std::path::Path;

use anyhow::{Result, ensure};

use crate::deployment::{Deployment, NODE_IMAGE, Options, SLEEP};

/// Starts an authority and nodes, prints how to use them, and waits for Ctrl-C
/// or the end of standard input.
///
/// # Errors
/// swtpm is missing, I/O, or the authority refuses.
pub fn run(lab: &Path, folder: &Path, nodes: u32) -> Result<()> {
    ensure!(!folder.join("bundle").exists(), "{} holds a deployment already", folder.display());
    let options = Options { lease_seconds: 60, status_seconds: 30, ..Options::default() };
    let mut deployment = Deployment::create(folder, lab, &folder.join("root"), options)?;
    for n in 2..=nodes {
        let name = format!("node-{n}");
        deployment.boot(&name, NODE_IMAGE)?;
        deployment.enrol(&name, &["lab"])?;
    }
    deployment.sign_bundle()?;
    let daemon = deployment.serve()?;
    println!("authority for nodes    {}", deployment.nodes_address());
    println!("authority for readers  http://{}/readyz, /metrics, /checkpoint", deployment.public_address());
    println!("log of the authority   {}", deployment.text("authority.log"));
    for n in 1..=nodes {
        let name = format!("node-{n}");
        let machine = deployment.machine(&name);
        println!("\non {name}:");
        println!(
            "  {} portcullis --machine {} -- --config {} run -- {SLEEP} 30",
            lab.display(),
            machine.display(),
            deployment.text(&format!("{name}.toml"))
        );
    }
    println!("\nCtrl-C ends it");
    if stdin().is_terminal() {
        loop {
            std::thread::park();
        }
    }
    // In a script: until standard input closes.
    std::io::copy(&mut stdin(), &mut std::io::sink())?;
    drop(daemon);
    Ok(())
}
