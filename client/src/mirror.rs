//! `portcullis log mirror`: a copy of an authority's log, over the network, for
//! an auditor whose key the bundle names.
//!
//! ```text
//! head          signed root, not believed yet
//! tiles         as many as a log of that size has
//! journal       segments; the last one from where the copy ends
//! archive       what the entries refer to, each by its SHA-256
//! ```
//!
//! The head takes its place at the end, once journal and tiles lead to it and it
//! extends the head of the copy. What is there already is not fetched again.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use portcullis_cli::say;
use portcullis_lineage::{
    FileStorage, LogReader, Part, Replay, ReplayError, Storage, TilePath, head_of, shared_path, tile_paths,
};
use portcullis_permit::{Checkpoint, Endorsement, Governance, VerifyingKey};
use portcullis_wire::sha256;

use crate::cli::{auditor_identity, private_key};
use crate::http::{Connection, PATIENCE, unreachable};
use crate::refusal::ClientError;
use crate::waiting::{phase, within};

/// Largest file that is read into memory: a shared part of the archive.
const MAX_FILE: usize = 16 * 1024 * 1024;
const MAX_HEAD: usize = 64 * 1024;
/// Largest segment that is accepted: an authority begins another at 64 MiB, after
/// a batch of 16 MiB at most.
const MAX_SEGMENT: u64 = 256 * 1024 * 1024;
/// Part of an answer that is waited for.
const WHAT: &str = "reading from the authority";
/// Checkpoint and signed root of one tree.
const ROOT: &str = "signed-root";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where the authority listens for nodes (its `[listen] nodes`).
    #[arg(long, value_name = "HOST:PORT")]
    authority: String,
    /// The auditor's private key (PKCS#8 PEM, P-256).
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Endorsement of the authority (`.pce`).
    #[arg(long, value_name = "FILE")]
    endorsement: PathBuf,
    /// The governors' keys and threshold.
    #[arg(long, value_name = "FILE")]
    governance_root: PathBuf,
    /// Folder of the copy.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), ClientError> {
    let read = |path: &PathBuf| fs::read(path).with_context(|| path.display().to_string());
    let governors = Governance::from_file(&read(&arguments.governance_root)?)
        .with_context(|| arguments.governance_root.display().to_string())?;
    let endorsed = Endorsement::verify(&read(&arguments.endorsement)?, &governors)
        .map_err(|error| ClientError::check("authority.endorsement", error, "an endorsement by the governors"))?;
    let key = private_key(&arguments.key)?;
    fs::create_dir_all(&arguments.out).with_context(|| arguments.out.display().to_string())?;
    let mut mirror = Mirror {
        connection: Connection::open_as(&auditor_identity(&key)?, &arguments.authority).await?,
        folder: arguments.out.clone(),
        part: "head",
        fetched: 0,
    };
    let size = mirror.follow(&endorsed).await?;
    say!("{}: {size} entries of {}, {} files fetched", arguments.out.display(), endorsed.origin(), mirror.fetched);
    Ok(())
}

struct Mirror {
    connection: Connection,
    folder: PathBuf,
    /// What is being copied.
    part: &'static str,
    fetched: u64,
}

impl Mirror {
    /// Brings the copy up to the authority's head; its size.
    async fn follow(&mut self, endorsed: &Endorsement) -> Result<u64, ClientError> {
        // The head before what leads to it: the log goes on meanwhile.
        let root = self.small(ROOT, MAX_HEAD).await?.context("signed-root: not found")?;
        let witnessed = self.small("witnessed", MAX_HEAD).await?;
        let head = head_of(&root, &endorsed.checkpoint_key)
            .map_err(|error| ClientError::check("log.head", error, "a checkpoint of this log"))?;
        let copied = self.copied(&endorsed.checkpoint_key)?;

        self.part = "tiles";
        for tile in tile_paths(head.size()) {
            self.tile(&tile).await?;
        }
        self.part = "journal";
        self.segments().await?;
        self.part = "archive";
        self.archive(&head, copied.as_ref().map_or(0, Checkpoint::size), endorsed).await?;

        self.check_head(&root, copied.as_ref(), endorsed)?;
        self.put(ROOT, &root)?;
        if let Some(note) = witnessed {
            self.put("witnessed", &note)?;
        }
        self.put("checkpoint", head.note().as_bytes())?;
        Ok(head.size())
    }

    /// Head of the copy, if there is one.
    fn copied(&self, key: &VerifyingKey) -> Result<Option<Checkpoint>, ClientError> {
        let Ok(note) = fs::read_to_string(self.folder.join("checkpoint")) else { return Ok(None) };
        let copied = Checkpoint::verify(&note, key);
        let required = "a copy of this log, or an empty folder";
        copied.map(Some).map_err(|error| ClientError::check("log.head", error, required))
    }

    /// What entries from a place on refer to, each shown to be in the log first.
    async fn archive(&mut self, head: &Checkpoint, from: u64, endorsed: &Endorsement) -> Result<(), ClientError> {
        let refused =
            |error: ReplayError| ClientError::check(error.check(), &error, "a journal that leads to the head");
        let storage: Arc<dyn Storage> = Arc::new(FileStorage::reader(&self.folder));
        let from = from.min(head.size());
        let mut replay = Replay::open(storage, from, endorsed.checkpoint_key.clone(), head.clone()).map_err(refused)?;
        while let Some(batch) = replay.next_batch().map_err(refused)? {
            for part in batch.entries.iter().flat_map(|entry| &entry.blobs).flat_map(|blob| &blob.0) {
                if let Part::Shared { digest, .. } = part {
                    self.shared(&shared_path(digest), digest).await?;
                }
            }
        }
        Ok(())
    }

    /// The tiles lead to the new head, and it extends the copy's.
    fn check_head(&self, root: &[u8], copied: Option<&Checkpoint>, endorsed: &Endorsement) -> Result<(), ClientError> {
        let storage = Arc::new(FileStorage::reader(&self.folder));
        let log = LogReader::at(root, storage, &endorsed.checkpoint_key, &endorsed.receipt_key)
            .map_err(|error| ClientError::check("log.head", error, "tiles that lead to the head"))?;
        let (Some(copied), size) = (copied, log.checkpoint().size()) else { return Ok(()) };
        if size < copied.size() {
            let found = format!("a log of {size} entries");
            return Err(ClientError::check("log.rollback", found, format!("at least {} as copied", copied.size())));
        }
        match log.tree().root_at(copied.size()) {
            Ok(root) if root == *copied.root() => Ok(()),
            _ => Err(ClientError::check(
                "log.fork",
                "another log",
                format!("one that extends the {} entries", copied.size()),
            )),
        }
    }

    /// A tile, or the full one that has taken its place.
    async fn tile(&mut self, tile: &TilePath) -> Result<(), ClientError> {
        if self.has(&tile.path) || tile.grown.as_ref().is_some_and(|grown| self.has(grown)) {
            return Ok(());
        }
        let mut path = &tile.path;
        let mut bytes = self.small(path, MAX_FILE).await?;
        if let (None, Some(grown)) = (&bytes, &tile.grown) {
            path = grown;
            bytes = self.small(path, MAX_FILE).await?;
        }
        let bytes = bytes.with_context(|| format!("{path}: not found"))?;
        // Narrower ones of before have had their time.
        let full = tile.grown.as_ref().unwrap_or(&tile.path);
        drop(fs::remove_dir_all(self.folder.join(format!("{full}.p"))));
        self.put(path, &bytes)
    }

    /// A shared file of the archive, if it is what its name says.
    async fn shared(&mut self, path: &str, digest: &[u8; 32]) -> Result<(), ClientError> {
        if self.has(path) {
            return Ok(());
        }
        let bytes = self.small(path, MAX_FILE).await?.with_context(|| format!("{path}: not found"))?;
        if sha256(&[&bytes]) != *digest {
            return Err(ClientError::check("archive.hole", format!("{path}: other bytes"), "what its name says"));
        }
        self.put(path, &bytes)
    }

    /// Every segment of the journal; one that has grown from where the copy ends,
    /// one that is shorter than the copy, as evidence was pruned, from its start.
    async fn segments(&mut self) -> Result<(), ClientError> {
        let list = self.small("segments", MAX_FILE).await?.context("segments: not found")?;
        let list = String::from_utf8(list).context("list of segments")?;
        let journal = self.folder.join("journal");
        fs::create_dir_all(&journal)?;
        let last = list.lines().last();
        for line in list.lines() {
            let parsed = line.split_once(' ').and_then(|(name, length)| Some((name, length.parse::<u64>().ok()?)));
            let plain = |name: &str| name.len() == 20 && name.bytes().all(|b| b.is_ascii_digit());
            let (name, length) = parsed.filter(|(name, _)| plain(name)).context("list of segments")?;
            let path = journal.join(name);
            let have = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            if have == length {
                continue;
            }
            // Only the newest is appended to.
            let from = if have < length && Some(line) == last { have } else { 0 };
            let response = self.connection.fetch(&format!("/v1/log/journal/{name}"), from).await?;
            match (response.status(), from) {
                (StatusCode::OK, _) => self.stream(response.into_body(), &path, false).await?,
                (StatusCode::PARTIAL_CONTENT, 1..) => self.stream(response.into_body(), &path, true).await?,
                (status, _) => return Err(unreachable(format!("{name}: HTTP {status}"))),
            }
        }
        Ok(())
    }

    async fn stream(&mut self, mut body: Incoming, path: &Path, append: bool) -> Result<(), ClientError> {
        let draft = path.with_extension("new");
        let mut file = if append { OpenOptions::new().append(true).open(path)? } else { File::create(&draft)? };
        while let Some(frame) = within(PATIENCE, WHAT, body.frame()).await.map_err(unreachable)? {
            if let Ok(data) = frame.map_err(unreachable)?.into_data() {
                file.write_all(&data)?;
            }
            if file.metadata()?.len() > MAX_SEGMENT {
                let found = format!("more than {MAX_SEGMENT} bytes of {}", path.display());
                return Err(ClientError::check("log.journal.damaged", found, "a segment of the journal"));
            }
        }
        self.count();
        if append { Ok(()) } else { Ok(fs::rename(draft, path)?) }
    }

    /// A file in memory; none where the authority has none.
    async fn small(&mut self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, ClientError> {
        let response = self.connection.fetch(&format!("/v1/log/{path}"), 0).await?;
        let status = response.status();
        let body = http_body_util::Limited::new(response.into_body(), limit).collect();
        let body = within(PATIENCE, WHAT, body).await.map_err(unreachable)?.map_err(unreachable)?.to_bytes();
        match status {
            StatusCode::OK => {
                self.count();
                Ok(Some(body.to_vec()))
            }
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::FORBIDDEN => {
                Err(ClientError::check("auditor.key", "a key that the bundle does not name", "an enrolled auditor"))
            }
            status => Err(unreachable(format!("{path}: HTTP {status}"))),
        }
    }

    fn count(&mut self) {
        self.fetched = self.fetched.saturating_add(1);
        phase(format!("copying the log: {}, {} files so far", self.part, self.fetched));
    }

    fn has(&self, path: &str) -> bool {
        self.folder.join(path).exists()
    }

    fn put(&self, path: &str, bytes: &[u8]) -> Result<(), ClientError> {
        let target = self.folder.join(path);
        fs::create_dir_all(target.parent().unwrap_or(&self.folder))?;
        let draft = self.folder.join("draft");
        fs::write(&draft, bytes)?;
        Ok(fs::rename(draft, target)?)
    }
}
