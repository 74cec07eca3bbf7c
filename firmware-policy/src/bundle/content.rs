//! The files of a bundle, read and checked against each other.
//!
//! ```text
//! policy.toml          who, when, limits, floors, nodes, workloads
//! reference/*.toml     an image each
//! ima/*                digests of files that an image may have measured
//! *.cedar, schema.cedarschema
//! roots/*, collateral/*
//! ```

use std::collections::BTreeMap;

use portcullis_attest::check::Checks;
use portcullis_attest::ima::{AllowError, AllowList, Refusal};
use portcullis_attest::snp::collateral::Collateral;
use portcullis_attest::snp::roots::Roots;
use portcullis_attest::snp::verify::SnpVerifier;
use portcullis_authz::{Authorizer, PolicyFile, SCHEMA_FILE};

use super::archive::Files;
use super::error::BundleError;
use crate::document::{self, Document, RootChoice};
use crate::finding::Finding;
use crate::policy::{AllowLists, Policy};

const REFERENCES: &str = "reference/";
const LISTS: &str = "ima/";
pub(super) const ROOTS: &str = "roots/";
pub(super) const COLLATERAL: &str = "collateral/";
const TOML: &str = ".toml";
const CEDAR: &str = ".cedar";

/// A bundle's content, checked for consistency. Signatures are not checked here.
pub struct Content {
    policy: Policy,
    authorizer: Authorizer,
    verifier: SnpVerifier,
}

impl Content {
    /// Reads the files of a bundle: documents, Cedar policies with strict
    /// validation, roots and collateral.
    ///
    /// # Errors
    /// [`BundleError`]; for texts, it lists every mistake.
    pub fn read(files: &Files) -> Result<Self, BundleError> {
        let mut findings = strangers(files);
        let (document, references) = parse_documents(files, &mut findings);
        let policy = document.as_ref().map(|document| meaning(files, document, &references));
        if let Some(Err(BundleError::Document(more))) = &policy {
            findings.extend(more.iter().cloned());
        }
        let authorizer = authorizer(files);
        if !findings.is_empty() {
            findings.extend(authorizer.err().iter().flat_map(BundleError::findings).cloned());
            return Err(BundleError::Document(findings));
        }
        let (Some(document), Some(policy)) = (document, policy) else { return Err(BundleError::Document(findings)) };
        let (policy, verifier) = (policy?, SnpVerifier::new(roots(files, document.roots)?, below(files, COLLATERAL)?));
        let verifier = verifier.tolerating(policy.clock_skew);
        Ok(Self { policy, authorizer: authorizer?, verifier })
    }

    /// As [`Content::read`], with documents that were changed after reading: for rehearsals
    /// of changes that are not in a file yet.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn of(
        files: &Files,
        document: &Document,
        references: &[(String, document::Reference)],
    ) -> Result<Self, BundleError> {
        let policy = meaning(files, document, references)?;
        let verifier = SnpVerifier::new(roots(files, document.roots)?, below(files, COLLATERAL)?);
        let verifier = verifier.tolerating(policy.clock_skew);
        Ok(Self { policy, authorizer: authorizer(files)?, verifier })
    }

    /// The policy that the documents define.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether the bundle is valid at a time, Unix seconds: from its start, less its own
    /// clock tolerance, until its end.
    ///
    /// # Errors
    /// [`BundleError::Validity`].
    pub const fn check_time(&self, at: u64) -> Result<(), BundleError> {
        let (valid, clock) = (self.policy.valid, self.policy.clock(at));
        if valid.contains(clock) {
            return Ok(());
        }
        Err(BundleError::Validity { clock, not_before: valid.from, expires: valid.until })
    }

    /// [`Self::check_time`] as a check, `bundle.not_before` or `bundle.expired`;
    /// `None` where it fails.
    pub fn judge_time(&self, at: u64, detail: &'static str, checks: &mut Checks) -> Option<()> {
        let judged = self.check_time(at);
        let id = judged.as_ref().map_or_else(BundleError::check, |()| "bundle.expired");
        checks.step(id, judged, "a bundle that is valid", detail)
    }

    /// Whether the bundle is for an authority, by the origin of its log.
    ///
    /// # Errors
    /// [`BundleError::Authority`].
    pub fn check_authority(&self, origin: &str) -> Result<(), BundleError> {
        let named = &self.policy.authority;
        if named == origin {
            return Ok(());
        }
        Err(BundleError::Authority { found: named.clone(), required: origin.to_owned() })
    }

    /// The Cedar policies.
    #[must_use]
    pub const fn authorizer(&self) -> &Authorizer {
        &self.authorizer
    }

    /// The verifier with the bundle's roots and collateral.
    #[must_use]
    pub const fn verifier(&self) -> &SnpVerifier {
        &self.verifier
    }
}

/// Reads the policy from the documents. Findings carry their line numbers.
fn meaning(
    files: &Files,
    document: &Document,
    references: &[(String, document::Reference)],
) -> Result<Policy, BundleError> {
    Policy::read(document, references, &lists(files)?).map_err(|mut findings| {
        for finding in &mut findings {
            let text = files.get(&finding.file).and_then(|bytes| std::str::from_utf8(bytes).ok());
            finding.locate(text.unwrap_or_default());
        }
        BundleError::Document(findings)
    })
}

/// The parsed texts of a bundle, by file.
///
/// # Errors
/// [`BundleError::Document`].
pub fn documents(files: &Files) -> Result<(Document, References), BundleError> {
    let mut findings = Vec::new();
    match parse_documents(files, &mut findings) {
        (Some(document), references) if findings.is_empty() => Ok((document, references)),
        _ => Err(BundleError::Document(findings)),
    }
}

/// Reference values, each with its file.
pub type References = Vec<(String, document::Reference)>;

fn parse_documents(files: &Files, findings: &mut Vec<Finding>) -> (Option<Document>, References) {
    let document = match files.get(document::FILE) {
        Some(bytes) => parse(document::FILE, bytes, findings),
        None => {
            findings.push(about(document::FILE, "is missing", "`portcullis-policy new` writes one to fill in"));
            None
        }
    };
    let mut references = Vec::new();
    for (path, bytes) in files.iter().filter(|(path, _)| path.starts_with(REFERENCES)) {
        references.extend(parse(path, bytes, findings).map(|reference| (path.clone(), reference)));
    }
    (document, references)
}

fn parse<T: serde::de::DeserializeOwned>(path: &str, bytes: &[u8], findings: &mut Vec<Finding>) -> Option<T> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        findings.push(about(path, "is no UTF-8", "save it as UTF-8"));
        return None;
    };
    toml::from_str(text).map_err(|error| findings.push(Finding::toml(path, text, &error))).ok()
}

fn about(file: &str, what: &str, hint: &str) -> Finding {
    Finding { file: file.to_owned(), line: None, key: String::new(), what: what.to_owned(), hint: hint.to_owned() }
}

/// Files that the bundle format does not define. Each is a mistake: its author expected
/// it to be read.
fn strangers(files: &Files) -> Vec<Finding> {
    let flat = |path: &str, folder: &str| path.strip_prefix(folder).is_some_and(|rest| !rest.contains('/'));
    let known = |path: &str| {
        path == document::FILE
            || path == SCHEMA_FILE
            || (!path.contains('/') && path.ends_with(CEDAR))
            || (flat(path, REFERENCES) && path.ends_with(TOML))
            || [LISTS, ROOTS, COLLATERAL].iter().any(|folder| flat(path, folder))
    };
    let hint = "move it out of the folder, or give it a name that is read: docs/policy.md lists them";
    let unread = files.keys().filter(|path| !known(path));
    unread.map(|path| about(path, "is read by no part of a bundle", hint)).collect()
}

fn lists(files: &Files) -> Result<AllowLists, BundleError> {
    let (mut lists, mut findings) = (BTreeMap::new(), Vec::new());
    for (path, bytes) in files.iter().filter(|(path, _)| path.starts_with(LISTS)) {
        match AllowList::parse(bytes) {
            Ok(list) => drop(lists.insert(path.clone(), list)),
            Err(AllowError { line, why }) => findings.push(Finding { line: Some(line), ..allow_finding(path, why) }),
        }
    }
    if findings.is_empty() { Ok(lists) } else { Err(BundleError::Document(findings)) }
}

fn allow_finding(path: &str, why: Refusal) -> Finding {
    match why {
        Refusal::Form => about(path, "is no line of sha256sum", "write DIGEST, two blanks, NAME; SHA-256 or longer"),
        Refusal::Weak(algorithm) => {
            let hint = "make the list with sha256sum, and boot the machines with ima_hash=sha256, so that Linux \
                        measures the same digests";
            about(path, &format!("has a digest of {algorithm}, which vouches for no file"), hint)
        }
        Refusal::TooMany => about(path, "has too many digests", "an image may have a million"),
    }
}

fn authorizer(files: &Files) -> Result<Authorizer, BundleError> {
    let mut findings = Vec::new();
    let mut text = |path: &'static str, bytes: Option<&Vec<u8>>| match bytes.map(|bytes| std::str::from_utf8(bytes)) {
        Some(Ok(text)) => text.to_owned(),
        Some(Err(_)) => {
            findings.push(about(path, "is no UTF-8", "save it as UTF-8"));
            String::new()
        }
        None => {
            findings.push(about(path, "is missing", "`portcullis-policy new` writes one"));
            String::new()
        }
    };
    let schema = text(SCHEMA_FILE, files.get(SCHEMA_FILE));
    let policies = policy_files(files);
    let unread = |path: &&String| path.ends_with(CEDAR) && !policies.iter().any(|file| file.name == path.as_str());
    findings.extend(files.keys().filter(unread).map(|path| about(path, "is no UTF-8", "save it as UTF-8")));
    if policies.is_empty() {
        let hint = "without a policy nothing is permitted: write at least one permit";
        findings.push(about("*.cedar", "there is none", hint));
    }
    if !findings.is_empty() {
        return Err(BundleError::Cedar(findings));
    }
    let mistakes =
        |list: Vec<portcullis_authz::Mistake>| BundleError::Cedar(list.into_iter().map(Into::into).collect());
    let authorizer = Authorizer::load(&policies, &schema).map_err(mistakes)?;
    unnamed(&authorizer)?;
    Ok(authorizer)
}

/// The files with Cedar policies that are valid UTF-8.
pub(super) fn policy_files(files: &Files) -> Vec<PolicyFile<'_>> {
    let named = files.iter().filter(|(path, _)| path.ends_with(CEDAR));
    named.filter_map(|(path, bytes)| Some(PolicyFile { name: path, text: std::str::from_utf8(bytes).ok()? })).collect()
}

/// Refuses policies without a name: a denial names the policy.
fn unnamed(authorizer: &Authorizer) -> Result<(), BundleError> {
    let names = authorizer.engine().texts();
    let unnamed = names.keys().filter_map(|name| name.rsplit_once("#policy"));
    let hint = "put @id(\"a-name\") before it: denials name the policy; @reason(\"…\") tells why";
    let findings: Vec<Finding> = unnamed
        .map(|(file, number)| {
            about(file, &format!("policy {} has no @id", number.parse().map_or(0, |n: u32| n.saturating_add(1))), hint)
        })
        .collect();
    if findings.is_empty() { Ok(()) } else { Err(BundleError::Cedar(findings)) }
}

fn roots(files: &Files, choice: RootChoice) -> Result<Roots, BundleError> {
    let roots = match choice {
        RootChoice::Amd => Roots::amd()
            .map_err(|error| BundleError::Collateral { file: "pinned roots".into(), error: error.into() })?,
        RootChoice::Given => Roots::given(below(files, ROOTS)?.certificates),
    };
    if roots.arks().is_empty() {
        let hint = "put the certificate of the root into roots/, or write roots = \"amd\"";
        return Err(BundleError::Document(vec![Finding {
            key: "roots".into(),
            ..about(document::FILE, "is \"given\", but roots/ is empty", hint)
        }]));
    }
    Ok(roots)
}

fn below(files: &Files, folder: &str) -> Result<Collateral, BundleError> {
    let mut all = Collateral::default();
    for (path, bytes) in files.iter().filter(|(path, _)| path.starts_with(folder)) {
        let found = Collateral::parse(bytes).and_then(Collateral::strict);
        all.extend(found.map_err(|error| BundleError::Collateral { file: path.clone(), error })?);
    }
    Ok(all)
}
