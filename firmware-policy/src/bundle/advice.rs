//! Advice on a valid bundle, for effects that its governors may not want: dates that
//! have passed or are near, policies about things that do not exist, roles without an
//! image.
//!
//! Nothing here decides: a valid bundle takes effect, and its checks deny. This advice
//! is for the people who sign it.

use portcullis_attest::binding::Role;
use portcullis_attest::snp::certificate::Certificate;
use portcullis_attest::snp::collateral::Collateral;
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::roots::{generation_of, known_asks};
use portcullis_authz::{Names, Subject, unknown_literals};
use portcullis_wire::hex::hex;
use portcullis_wire::rfc3339;

use super::archive::Files;
use super::content::{COLLATERAL, Content, ROOTS, References, documents, policy_files};
use crate::document::{self, Document};
use crate::finding::Finding;
use crate::policy::{Policy, Reference, Span};
use crate::remedy::{Reader, remedy};
use crate::time::stretch;

/// Warn of anything that ends within this time, in seconds. It leaves governors on
/// several continents time to sign, and nodes time to fetch the signed bundle.
const SOON: u64 = 30 * 86_400;

/// Errors and warnings about a valid bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// Conditions that deny every request of a kind at this time, each with its check.
    pub errors: Vec<(&'static str, Finding)>,
    /// Conditions that will deny later, or parts that have no effect.
    pub warnings: Vec<Finding>,
}

impl Content {
    /// Errors and warnings about this bundle at a time, Unix seconds. `files` are the files
    /// that it was read from.
    #[must_use]
    pub fn advice(&self, files: &Files, at: u64) -> Advice {
        let (document, references) = documents(files).ok().unzip();
        let mut almanac = Almanac { at, ends: self.policy().valid.until, advice: Advice::default() };
        almanac.bundle(self.policy());
        almanac.images(self.policy(), &references.unwrap_or_default());
        almanac.lists(self, files);
        almanac.certificates(self, files);
        almanac.floors(document.as_ref());
        let Advice { mut errors, mut warnings } = almanac.advice;
        warnings.extend(roles(self.policy()));
        warnings.extend(unknown_names(self.policy(), files));
        for finding in errors.iter_mut().map(|(_, finding)| finding).chain(&mut warnings) {
            let text = files.get(&finding.file).and_then(|bytes| std::str::from_utf8(bytes).ok());
            finding.locate(text.unwrap_or_default());
        }
        Advice { errors, warnings }
    }
}

/// Collects advice on dates, relative to a given time.
struct Almanac {
    /// Unix seconds.
    at: u64,
    /// End of the bundle.
    ends: u64,
    advice: Advice,
}

/// Something with a start and an end.
struct Dated<'a> {
    file: &'a str,
    /// Keys of its start and end, if it is in a text.
    keys: [&'a str; 2],
    /// Its description; empty where the key is description enough.
    what: &'a str,
    valid: Span,
    /// Its end as written. The last second of a certificate or list still counts (RFC 5280,
    /// sections 4.1.2.5 and 5.1.2.5); that of a text does not.
    end: u64,
    /// The check that fails at its end; `None` where something else replaces it.
    check: Option<&'static str>,
    /// The effect of its absence.
    then: &'a str,
}

impl Almanac {
    /// Reports the end of a thing, in the past or the future tense.
    fn tell(&mut self, dated: &Dated<'_>) {
        let Dated { file, keys: [start, key], what, valid, end, check, then } = *dated;
        let said = |verb: &str, time: u64| format!("{what}{verb} on {}", rfc3339(time));
        let hint = check.map_or("remove it: it does nothing any more", |check| remedy(check, Reader::Governor));
        let left = valid.until.saturating_sub(self.at);
        if left == 0 {
            let ended = finding(file, key, format!("{}: {then}", said("ended", end)), hint);
            match check {
                Some(check) => self.advice.errors.push((check, ended)),
                None => self.advice.warnings.push(ended),
            }
        } else if self.at < valid.from {
            let begins = format!("{}, not yet", said("begins", valid.from));
            self.advice.warnings.push(finding(file, start, begins, "until then it does not count"));
        } else if left < SOON {
            let ends = format!("{}, in {}: from then on {then}", said("ends", end), stretch(left));
            self.advice.warnings.push(finding(
                file,
                key,
                ends,
                "have what follows on it signed and active before then",
            ));
        } else if valid.until < self.ends {
            let ends = format!("{}, before the bundle does: from then on {then}", said("ends", end));
            let hint = "sign a bundle with what follows on it before then";
            self.advice.warnings.push(finding(file, key, ends, hint));
        }
    }

    fn bundle(&mut self, policy: &Policy) {
        self.tell(&Dated {
            file: document::FILE,
            keys: ["not_before", "expires"],
            what: "the bundle ",
            valid: policy.valid,
            end: policy.valid.until,
            check: Some("bundle.expired"),
            then: "an authority stops, and nodes trust nothing",
        });
    }

    /// An expired image is an error if it was the last of its role.
    fn images(&mut self, policy: &Policy, references: &References) {
        for image in policy.references().iter().filter(|image| image.valid != policy.valid) {
            let file = references.iter().find(|(_, reference)| reference.name == image.name);
            let others = |other: &&Reference| other.role == image.role && self.at < other.valid.until;
            let last = !policy.references().iter().any(|other| others(&other));
            self.tell(&Dated {
                file: file.map_or(document::FILE, |(file, _)| file),
                keys: ["not_before", "expires"],
                what: &format!("the image {:?} ", image.name),
                valid: image.valid,
                end: image.valid.until,
                check: last.then_some("reference.validity"),
                then: "machines with this image are denied (reference.validity)",
            });
        }
    }

    /// For each admitted generation, the list with the latest end counts.
    fn lists(&mut self, content: &Content, files: &Files) {
        for generation in content.policy().floors.keys() {
            let Some(until) = content.verifier().lists_until(*generation) else {
                let what =
                    format!("no revocation list of a {generation} root: evidence of {generation} is denied (snp.crl)");
                self.advice.warnings.push(finding(COLLATERAL, "", what, remedy("snp.crl", Reader::Governor)));
                continue;
            };
            let (file, from) = list_that_ends(content, files, *generation, until).unwrap_or((COLLATERAL, 0));
            self.tell(&Dated {
                file,
                keys: ["", ""],
                what: &format!("the revocation list of {generation} "),
                valid: Span { from, until: until.saturating_add(1) },
                end: until,
                check: Some("snp.crl"),
                then: &format!("evidence of {generation} is denied (snp.crl)"),
            });
        }
    }

    /// An expired certificate is an error if no other has its name.
    fn certificates(&mut self, content: &Content, files: &Files) {
        let given = certificates(files);
        let roots = content.verifier().roots().arks();
        let all = || given.iter().map(|(_, certificate)| certificate).chain(roots).chain(known_asks());
        let named = given.iter().map(|(file, certificate)| (file.as_str(), certificate));
        let used =
            |root: &&Certificate| generation_of(root).is_some_and(|of| content.policy().floors.contains_key(&of));
        let pinned = roots.iter().filter(used).filter(|root| !given.iter().any(|(_, given)| given == *root));
        for (file, certificate) in named.chain(pinned.map(|root| ("AMD's pinned roots", root))) {
            let same = |other: &&Certificate| other.subject == certificate.subject && self.at <= other.not_after;
            let last = !all().any(|other| same(&other));
            self.tell(&Dated {
                file,
                keys: ["", ""],
                what: &format!("the certificate {} ", certificate.common_name),
                valid: Span { from: certificate.not_before, until: certificate.not_after.saturating_add(1) },
                end: certificate.not_after,
                check: last.then_some("snp.validity"),
                then: "evidence that leads to it is denied (snp.validity)",
            });
        }
    }

    /// Floors with a date: they warn before it, and deny from then on.
    fn floors(&mut self, document: Option<&Document>) {
        for (at, floor) in document.iter().flat_map(|document| document.floors.iter().enumerate()) {
            let time = floor.deny_from.as_ref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
            let Some(from) = time.and_then(|time| u64::try_from(time.as_second()).ok()) else { continue };
            let (key, generation) = (format!("floor[{at}].deny_from"), &floor.generation);
            let left = from.saturating_sub(self.at);
            if left == 0 {
                let what = format!("the floor of {generation} denies since {}", rfc3339(from));
                let hint = "remove deny_from, and the floors that this one is above";
                self.advice.warnings.push(finding(document::FILE, &key, what, hint));
            } else if left < SOON {
                let what = format!("the floor of {generation} denies from {} on, in {}", rfc3339(from), stretch(left));
                let hint = "portcullis-policy rehearse --at tells which nodes would be denied";
                self.advice.warnings.push(finding(document::FILE, &key, what, hint));
            }
        }
    }
}

/// The file with the list of a generation that ends at a time, and the list's start.
fn list_that_ends<'f>(
    content: &Content,
    files: &'f Files,
    generation: Generation,
    until: u64,
) -> Option<(&'f str, u64)> {
    let roots = content.verifier().roots();
    let mut lists =
        below(files, COLLATERAL).flat_map(|(file, found)| found.crls.into_iter().map(move |crl| (file, crl)));
    let of = |issuer: &[u8]| roots.named(issuer).and_then(generation_of) == Some(generation);
    let found = lists.find(|(_, crl)| crl.next_update == until && of(&crl.issuer));
    found.map(|(file, crl)| (file, crl.this_update))
}

fn below<'f>(files: &'f Files, folder: &'static str) -> impl Iterator<Item = (&'f str, Collateral)> {
    let inside = files.iter().filter(move |(file, _)| file.starts_with(folder));
    inside.map(|(file, bytes)| (file.as_str(), Collateral::parse(bytes).unwrap_or_default()))
}

/// Certificates in the bundle's files, each with its file.
fn certificates(files: &Files) -> Vec<(String, Certificate)> {
    let found = below(files, ROOTS).chain(below(files, COLLATERAL));
    found.flat_map(|(file, found)| found.certificates.into_iter().map(move |c| (file.to_owned(), c))).collect()
}

/// Roles without an image.
fn roles(policy: &Policy) -> Vec<Finding> {
    let roles = [(Role::Authority, "authority"), (Role::Node, "node")];
    let lacking = roles.into_iter().filter(|(role, _)| !policy.references().iter().any(|image| image.role == *role));
    let hint = "add a file to reference/ with this role; portcullis-policy new --from-evidence drafts one";
    let what = |name: &str| format!("no image has the role {name:?}: no {name} passes (snp.measurement)");
    lacking.map(|(_, name)| finding("reference/", "", what(name), hint)).collect()
}

/// Names in Cedar policies that match nothing in the bundle.
fn unknown_names(policy: &Policy, files: &Files) -> Vec<Finding> {
    unknown_literals(&policy_files(files), &names(policy)).into_iter().map(Into::into).collect()
}

fn names(policy: &Policy) -> Names {
    let mut names = Names::default();
    let nodes = || policy.nodes.values();
    names.add(Subject::Node, nodes().map(|node| node.name.clone()));
    names.add(Subject::Chip, nodes().filter_map(|node| node.chip_id.map(|chip| hex(&chip))));
    names.add(Subject::Tag, nodes().flat_map(|node| node.tags.iter().cloned()));
    // A machine without a report has the generation "none".
    let generations = Generation::ALL.into_iter().map(Generation::name).chain(["none"]);
    names.add(Subject::Generation, generations.map(str::to_owned));
    let images = policy.references().iter().filter(|image| image.role == Role::Node);
    names.add(Subject::Image, images.map(|image| image.name.clone()));
    names.add(Subject::Class, policy.classes.iter().map(|class| class.name().to_owned()));
    names.add(Subject::Workload, policy.workloads.keys().map(|digest| hex(digest)));
    names.add(Subject::WorkloadName, policy.workloads.values().map(|workload| workload.name.clone()));
    names.digests = policy.workloads.values().map(|workload| (workload.name.clone(), hex(&workload.digest))).collect();
    names
}

fn finding(file: &str, key: &str, what: String, hint: &str) -> Finding {
    Finding { file: file.to_owned(), line: None, key: key.to_owned(), what, hint: hint.to_owned() }
}
