//! `portcullis log mirror`: a copy of an authority's log, over the network, for
//! an auditor whose key the bundle names.
//!
//! ```text
//! head          signed root, not trusted yet
//! tiles         all tiles of a log of that size
//! journal       segments; the last one continues where the copy ends
//! archive       blobs of the entries, each by its SHA-256
//! ```
//!
//! The head is stored last, once journal and tiles lead to it and it extends the head
//! of the copy. Files that are already there are not fetched again: a file gets its
//! name only after its bytes are on the disk. A broken connection is opened again, and
//! the copy continues where it stopped.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use portcullis_channel::Identity;
use portcullis_cli::say;
use portcullis_files::{make_folder, read_if_present, write_durably};
use portcullis_lineage::{
    FileStorage, LogReader, Part, Replay, ReplayError, Storage, TilePath, head_of, shared_path, tile_paths,
};
use portcullis_permit::{Checkpoint, Endorsement, Governance, VerifyingKey};
use portcullis_wire::sha256;
use rustix::fs::syncfs;
use tokio::time::sleep;

use crate::cli::{auditor_identity, private_key};
use crate::http::{Connection, PATIENCE, unreachable};
use crate::refusal::ClientError;
use crate::waiting::{phase, within};

/// Largest file that is read into memory: a shared part of the archive.
const MAX_FILE: usize = 16 * 1024 * 1024;
const MAX_HEAD: usize = 64 * 1024;
/// Largest segment that is accepted: an authority starts a new one at 64 MiB, after a
/// batch of at most 16 MiB.
const MAX_SEGMENT: u64 = 256 * 1024 * 1024;
/// Name of the wait for a part of an answer, for messages.
const WHAT: &str = "reading from the authority";
/// Number of files that are written before they are flushed to the disk.
const BATCH: usize = 256;
/// Folder of files without their final name.
const DRAFTS: &str = "drafts";
/// How often in a row a connection is opened again, and the pause before each attempt.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_secs(1);
/// Checkpoint and signed root of one tree.
const ROOT: &str = "signed-root";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Address at which the authority accepts nodes (its `[listen] nodes`).
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
    make_folder(&arguments.out)?;
    let identity = auditor_identity(&key)?;
    let mut mirror = Mirror {
        connection: Connection::open_as(&identity, &arguments.authority, PATIENCE).await?,
        identity,
        authority: arguments.authority.clone(),
        folder: arguments.out.clone(),
        part: "head",
        fetched: 0,
        drafts: BTreeMap::new(),
        outgrown: Vec::new(),
    };
    mirror.forget_drafts()?;
    make_folder(&mirror.folder.join(DRAFTS))?;
    let size = mirror.follow(&endorsed).await?;
    mirror.forget_drafts()?;
    say!("{}: {size} entries of {}, {} files fetched", arguments.out.display(), endorsed.origin(), mirror.fetched);
    Ok(())
}

struct Mirror {
    connection: Connection,
    identity: Identity,
    authority: String,
    folder: PathBuf,
    /// The part that is being copied.
    part: &'static str,
    fetched: u64,
    /// Drafts by their final names.
    drafts: BTreeMap<String, PathBuf>,
    /// Folders of partial tiles, each with the tile that replaces them.
    outgrown: Vec<(PathBuf, PathBuf)>,
}

impl Mirror {
    /// Brings the copy up to the authority's head; returns its size.
    async fn follow(&mut self, endorsed: &Endorsement) -> Result<u64, ClientError> {
        // Fetch the head before its tiles and entries, because the log grows meanwhile.
        let root = self.small(ROOT, MAX_HEAD).await?.context("signed-root: not found")?;
        let witnessed = self.small("witnessed", MAX_HEAD).await?;
        let head = head_of(&root, &endorsed.checkpoint_key)
            .map_err(|error| ClientError::check("log.head", error, "a checkpoint of this log"))?;
        let copied = self.copied(&endorsed.checkpoint_key)?;

        self.part = "tiles";
        for tile in tile_paths(head.size()) {
            self.tile(&tile).await?;
        }
        self.settle()?;
        self.part = "journal";
        self.segments().await?;
        self.part = "archive";
        self.archive(&head, copied.as_ref().map_or(0, Checkpoint::size), endorsed).await?;
        self.settle()?;

        self.check_head(&root, copied.as_ref(), endorsed)?;
        write_durably(&self.folder.join(ROOT), &root)?;
        if let Some(note) = witnessed {
            write_durably(&self.folder.join("witnessed"), &note)?;
        }
        write_durably(&self.folder.join("checkpoint"), head.note().as_bytes())?;
        for (folder, tile) in self.outgrown.drain(..) {
            remove_others(&folder, &tile);
        }
        Ok(head.size())
    }

    /// Head of the copy, if there is one.
    fn copied(&self, key: &VerifyingKey) -> Result<Option<Checkpoint>, ClientError> {
        let path = self.folder.join("checkpoint");
        let Some(note) = read_if_present(&path)? else { return Ok(None) };
        let copied = Checkpoint::verify(&String::from_utf8_lossy(&note), key);
        let required = "a copy of this log, or an empty folder";
        let named = |error| format!("{}: {error}", path.display());
        copied.map(Some).map_err(|error| ClientError::check("log.head", named(error), required))
    }

    /// Fetches the blobs of the entries from a position on; each entry is first verified to
    /// be in the log.
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

    /// Checks that the tiles lead to the new head, and that it extends the head of the
    /// copy.
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

    /// Fetches a tile, or the full one that has replaced it.
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
        let full = tile.grown.as_ref().unwrap_or(&tile.path);
        self.outgrown.push((self.folder.join(format!("{full}.p")), self.folder.join(path)));
        self.put(path, &bytes)
    }

    /// Fetches a shared file of the archive, and checks it against its name.
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

    /// Fetches every segment of the journal. A segment that has grown continues where the
    /// copy ends. A segment that is shorter than the copy, because evidence was pruned, is
    /// fetched from its start.
    async fn segments(&mut self) -> Result<(), ClientError> {
        let list = self.small("segments", MAX_FILE).await?.context("segments: not found")?;
        let list = String::from_utf8(list).context("list of segments")?;
        let journal = self.folder.join("journal");
        make_folder(&journal)?;
        let last = list.lines().last();
        for line in list.lines() {
            let parsed = line.split_once(' ').and_then(|(name, length)| Some((name, length.parse::<u64>().ok()?)));
            let plain = |name: &str| name.len() == 20 && name.bytes().all(|b| b.is_ascii_digit());
            let (name, length) = parsed.filter(|(name, _)| plain(name)).context("list of segments")?;
            let newest = Some(line) == last;
            let mut tries = TRIES;
            while let Err(error) = self.segment(name, length, newest, &journal.join(name)).await {
                self.open_again(error, &mut tries).await?;
            }
        }
        Ok(())
    }

    /// Fetches one segment. Only the newest one is appended to.
    async fn segment(&mut self, name: &str, length: u64, newest: bool, path: &Path) -> Result<(), ClientError> {
        let have = fs::metadata(path).map_or(0, |metadata| metadata.len());
        if have == length {
            return Ok(());
        }
        let from = if have < length && newest { have } else { 0 };
        let response = self.connection.fetch(&format!("/v1/log/journal/{name}"), from).await?;
        match (response.status(), from) {
            (StatusCode::OK, _) => self.stream(response.into_body(), path, false).await,
            (StatusCode::PARTIAL_CONTENT, 1..) => self.stream(response.into_body(), path, true).await,
            (status, _) => Err(unreachable(format!("{name}: HTTP {status}"))),
        }
    }

    async fn stream(&mut self, mut body: Incoming, path: &Path, append: bool) -> Result<(), ClientError> {
        let draft = path.with_extension("new");
        let written = if append { path } else { &draft };
        let named = |error| anyhow!("{}: {error}", written.display());
        let opened = if append { OpenOptions::new().append(true).open(path) } else { File::create(&draft) };
        let mut file = opened.map_err(named)?;
        while let Some(frame) = within(PATIENCE, WHAT, body.frame()).await.map_err(unreachable)? {
            if let Ok(data) = frame.map_err(unreachable)?.into_data() {
                file.write_all(&data).map_err(named)?;
            }
            if file.metadata()?.len() > MAX_SEGMENT {
                let found = format!("more than {MAX_SEGMENT} bytes of {}", path.display());
                return Err(ClientError::check("log.journal.damaged", found, "a segment of the journal"));
            }
        }
        file.sync_all().map_err(named)?;
        self.count();
        if append { Ok(()) } else { Ok(fs::rename(&draft, path).map_err(named)?) }
    }

    /// Fetches a file into memory; `None` if the authority does not have it.
    async fn small(&mut self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, ClientError> {
        let mut tries = TRIES;
        loop {
            match self.small_once(path, limit).await {
                Ok(answer) => return Ok(answer),
                Err(error) => self.open_again(error, &mut tries).await?,
            }
        }
    }

    async fn small_once(&mut self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, ClientError> {
        let response = self.connection.fetch(&format!("/v1/log/{path}"), 0).await?;
        let status = response.status();
        let body = self.connection.read(path, response.into_body(), limit).await?;
        match status {
            StatusCode::OK => {
                self.count();
                Ok(Some(body))
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

    /// Opens the connection again after it broke. Returns the error if it has another
    /// cause, or if the connection broke too often.
    async fn open_again(&mut self, error: ClientError, tries: &mut u32) -> Result<(), ClientError> {
        while let (ClientError::Unreachable(_), 1..) = (&error, *tries) {
            sleep(PAUSE.saturating_mul(TRIES.saturating_sub(*tries))).await;
            *tries = tries.saturating_sub(1);
            if let Ok(connection) = Connection::open_as(&self.identity, &self.authority, PATIENCE).await {
                self.connection = connection;
                return Ok(());
            }
        }
        Err(error)
    }

    fn has(&self, path: &str) -> bool {
        self.drafts.contains_key(path) || self.folder.join(path).exists()
    }

    /// Writes a draft, which gets its final name later together with others.
    fn put(&mut self, path: &str, bytes: &[u8]) -> Result<(), ClientError> {
        let draft = self.folder.join(DRAFTS).join(self.drafts.len().to_string());
        fs::write(&draft, bytes).with_context(|| draft.display().to_string())?;
        self.drafts.insert(path.to_owned(), draft);
        if self.drafts.len() < BATCH { Ok(()) } else { self.settle() }
    }

    /// Waits until all drafts are on the disk, and gives them their names.
    fn settle(&mut self) -> Result<(), ClientError> {
        let sync = || syncfs(File::open(&self.folder)?).map_err(std::io::Error::from);
        sync().with_context(|| self.folder.display().to_string())?;
        while let Some((path, draft)) = self.drafts.pop_first() {
            let target = self.folder.join(&path);
            fs::create_dir_all(target.parent().unwrap_or(&self.folder)).context(path)?;
            fs::rename(draft, &target).with_context(|| target.display().to_string())?;
        }
        // The names must be on the disk too, before a head refers to them.
        Ok(sync().with_context(|| self.folder.display().to_string())?)
    }

    /// Empties the folder of drafts, of an interrupted run and of this one.
    fn forget_drafts(&self) -> Result<(), ClientError> {
        let drafts = self.folder.join(DRAFTS);
        match fs::remove_dir_all(&drafts) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(anyhow!("{}: {error}", drafts.display()).into());
            }
            _ => {}
        }
        Ok(())
    }
}

/// Removes partial tiles that another tile has replaced. Remaining ones are never read.
fn remove_others(folder: &Path, tile: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path() != tile {
            drop(fs::remove_file(entry.path()));
        }
    }
    // Succeeds only if the folder is empty.
    drop(fs::remove_dir(folder));
}
