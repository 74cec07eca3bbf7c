//! CoRIM (draft-ietf-rats-corim-11): reference values of others in, ours out.
//!
//! ```text
//! file --signed--> CoRIM --read--> tags, triples, measurements --snp--> images
//! image --export--> CoRIM, signed or not
//! ```
//!
//! The drafts still move, so nothing here is an internal form. Every value of a
//! file is accounted for: kept somewhere, or named as one that cannot be.

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
    /// Say what a CoRIM holds, and draft its SEV-SNP reference values into a
    /// folder, marked as not reviewed.
    Import(ImportArguments),
    /// Write the images of a folder or bundle as a CoRIM.
    Export(ExportArguments),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ImportArguments {
    /// The CoRIM, signed or not.
    file: PathBuf,
    /// Public key of the signer: COSE_Key, JWK, or PEM. A signed CoRIM is refused
    /// without this or --root.
    #[arg(long, conflicts_with = "root")]
    key: Option<PathBuf>,
    /// Certificate of the signer's root (PEM); the others come with the CoRIM.
    #[arg(long)]
    root: Option<PathBuf>,
    /// RFC 3339 time at which certificates and validity are judged; now, unless
    /// told otherwise.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Folder of a bundle, to draft into.
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
    /// Where the CoRIM goes.
    #[arg(long)]
    out: PathBuf,
    /// Private key to sign it with.
    #[arg(long)]
    key: Option<PathBuf>,
    /// Name of the signer; needed to sign.
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

/// What became of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Where it is now.
    Kept(String),
    /// Why it is nowhere.
    NotRepresentable(String),
}

/// Every value of a document, by its place in it, with what became of it.
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
