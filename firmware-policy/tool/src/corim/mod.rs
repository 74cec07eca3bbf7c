//! CoRIM (draft-ietf-rats-corim-11): import of reference values from others, and export
//! of ours.
//!
//! ```text
//! file --signed--> CoRIM --read--> tags, triples, measurements --snp--> images
//! image --export--> CoRIM, signed or not
//! ```
//!
//! The drafts still change, so CoRIM is not an internal format. The account lists every
//! value of a file: as stored at a place, or as not representable.

mod export;
mod import;
mod read;
mod signed;
mod snp;

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use portcullis_cli::say;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(crate) enum Corim {
    /// List the values of a CoRIM, and draft its SEV-SNP reference values into a folder,
    /// marked as not reviewed.
    Import(ImportArguments),
    /// Write the images of a folder or bundle as a CoRIM.
    Export(ExportArguments),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ImportArguments {
    /// The CoRIM, signed or not.
    file: PathBuf,
    /// Public key of the signer: COSE_Key, JWK, or PEM. A signed CoRIM requires this or
    /// --root.
    #[arg(long, conflicts_with = "root")]
    key: Option<PathBuf>,
    /// Certificate of the signer's root (PEM); the CoRIM contains the other certificates.
    #[arg(long)]
    root: Option<PathBuf>,
    /// RFC 3339 time for the check of certificates and validity. Default: now.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Folder of a bundle, for the drafts.
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArguments {
    /// Folder, or bundle (`.pcb`).
    bundle: PathBuf,
    /// Output file for the CoRIM.
    #[arg(long)]
    out: PathBuf,
    /// Private key that signs the CoRIM.
    #[arg(long)]
    key: Option<PathBuf>,
    /// Name of the signer; required to sign.
    #[arg(long, requires = "key")]
    signer: Option<String>,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(action: &Corim) -> Result<()> {
    match action {
        Corim::Import(arguments) => import::run(arguments),
        Corim::Export(arguments) => export::run(arguments),
    }
}

/// The result for a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The place where it is stored.
    Kept(String),
    /// The reason why it is not stored.
    NotRepresentable(String),
}

/// Every value of a document: its place in the document, and its result.
#[derive(Debug, Default)]
pub(super) struct Account(Vec<(String, Fate)>);

impl Account {
    pub(super) fn keep(&mut self, place: impl Into<String>, to: impl Into<String>) {
        self.0.push((place.into(), Fate::Kept(to.into())));
    }

    pub(super) fn lose(&mut self, place: impl Into<String>, why: impl Into<String>) {
        self.0.push((place.into(), Fate::NotRepresentable(why.into())));
    }

    fn kept(&self) -> usize {
        self.0.iter().filter(|(_, fate)| matches!(fate, Fate::Kept(_))).count()
    }

    fn print(&self) {
        let width = self.0.iter().map(|(place, _)| place.chars().count()).max().unwrap_or(0);
        for (place, fate) in &self.0 {
            match fate {
                Fate::Kept(to) => say!("  {place:width$}  -> {to}"),
                Fate::NotRepresentable(why) => say!("  {place:width$}  NOT REPRESENTABLE: {why}"),
            }
        }
        let (kept, all) = (self.kept(), self.0.len());
        say!("{kept} of {all} values kept, {} not representable", all.saturating_sub(kept));
    }

    fn json(&self) -> Vec<Value> {
        let entry = |(place, fate): &(String, Fate)| match fate {
            Fate::Kept(to) => json!({ "place": place, "kept": to }),
            Fate::NotRepresentable(why) => json!({ "place": place, "not_representable": why }),
        };
        self.0.iter().map(entry).collect()
    }
}
