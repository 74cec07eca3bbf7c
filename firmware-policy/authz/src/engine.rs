//! Strict Cedar: policies that do not validate are not loaded, and an evaluation error
//! denies.

use std::collections::BTreeMap;
use std::fmt;

use cedar_policy::{Decision, Entities, Policy, PolicyId, PolicySet, Request, Schema, ValidationMode, Validator};
use miette::Diagnostic;

use crate::SCHEMA_FILE;
use crate::mistake::Mistake;

const ID: &str = "id";
const REASON: &str = "reason";

/// A file with policies.
#[derive(Clone, Copy, Debug)]
pub struct PolicyFile<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
}

/// A policy that caused a denial.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blame {
    /// Its `@id`; without one, its file and its number in it.
    pub policy: String,
    /// Its `@reason`; for a policy that failed, the error.
    pub reason: Option<String>,
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.policy)?;
        self.reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A policy permits, none forbids, none failed.
    Permitted,
    /// These policies forbid, by name.
    Forbidden(Vec<Blame>),
    /// No policy permits.
    NotPermitted,
    /// These policies failed, by name. It is unknown whether they would have permitted or
    /// forbidden.
    Erred(Vec<Blame>),
}

/// Policies that were validated against their schema.
pub struct Engine {
    policies: PolicySet,
    schema: Schema,
    cedar: cedar_policy::Authorizer,
}

impl Engine {
    /// Loads policies and schema; every validation error and warning refuses.
    ///
    /// # Errors
    /// Every [`Mistake`] that was found.
    pub fn load(files: &[PolicyFile<'_>], schema: &str) -> Result<Self, Vec<Mistake>> {
        let hint = "write the schema in Cedar's own syntax; `portcullis-policy new` writes the one to begin with";
        let found = |error: &dyn Diagnostic| Mistake::found(SCHEMA_FILE, schema, error, hint);
        let (parsed, warnings) = Schema::from_cedarschema_str(schema).map_err(|error| vec![found(&error)])?;
        let warnings: Vec<Mistake> = warnings.map(|warning| found(&warning)).collect();
        if !warnings.is_empty() {
            return Err(warnings);
        }
        let policies = parse(files)?;
        let outcome = Validator::new(parsed.clone()).validate(&policies.set, ValidationMode::Strict);
        let hint = "policies must fit the schema without an error or a warning";
        let place = |id: &PolicyId, error: &dyn Diagnostic| policies.mistake(id, error, hint);
        let errors = outcome.validation_errors().map(|error| place(error.policy_id(), error));
        let warnings = outcome.validation_warnings().map(|warning| place(warning.policy_id(), warning));
        let mistakes: Vec<Mistake> = errors.chain(warnings).collect();
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Self { policies: policies.set, schema: parsed, cedar: cedar_policy::Authorizer::new() })
    }

    /// The schema.
    #[must_use]
    pub const fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The policies.
    pub(crate) fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.policies()
    }

    /// Names of the policies, sorted, each with its text.
    #[must_use]
    pub fn texts(&self) -> BTreeMap<String, String> {
        self.policies.policies().map(|policy| (policy.id().to_string(), policy.to_string())).collect()
    }

    /// Decides. Pure: the same request has the same answer.
    #[must_use]
    pub fn decide(&self, request: &Request, entities: &Entities) -> Answer {
        let response = self.cedar.is_authorized(request, &self.policies, entities);
        let mut erred: Vec<Blame> = response
            .diagnostics()
            .errors()
            .map(|error| {
                let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
                Blame { policy: error.policy_id().to_string(), reason: Some(error.to_string()) }
            })
            .collect();
        if !erred.is_empty() {
            erred.sort();
            return Answer::Erred(erred);
        }
        if response.decision() == Decision::Allow {
            return Answer::Permitted;
        }
        let mut forbids: Vec<Blame> = response.diagnostics().reason().map(|id| self.blame(id)).collect();
        forbids.sort();
        if forbids.is_empty() { Answer::NotPermitted } else { Answer::Forbidden(forbids) }
    }

    fn blame(&self, id: &PolicyId) -> Blame {
        Blame { policy: id.to_string(), reason: self.policies.annotation(id, REASON).map(str::to_owned) }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// Policies of all files under their own names.
pub(crate) struct Parsed<'a> {
    pub(crate) set: PolicySet,
    pub(crate) origin: BTreeMap<PolicyId, PolicyFile<'a>>,
}

impl Parsed<'_> {
    fn mistake(&self, id: &PolicyId, error: &dyn Diagnostic, hint: &str) -> Mistake {
        match self.origin.get(id) {
            Some(file) => Mistake::found(file.name, file.text, error, hint),
            None => Mistake::found(id.as_ref(), "", error, hint),
        }
    }
}

pub(crate) fn parse<'a>(files: &[PolicyFile<'a>]) -> Result<Parsed<'a>, Vec<Mistake>> {
    let (mut all, mut mistakes) = (Parsed { set: PolicySet::new(), origin: BTreeMap::new() }, Vec::new());
    for file in files {
        match file.text.parse::<PolicySet>() {
            Ok(set) => take(&mut all, *file, &set, &mut mistakes),
            Err(errors) => {
                let hint = "write a policy as: permit(principal, action, resource) when { … };";
                mistakes.extend(errors.iter().map(|error| Mistake::found(file.name, file.text, error, hint)));
            }
        }
    }
    if mistakes.is_empty() { Ok(all) } else { Err(mistakes) }
}

fn take<'a>(all: &mut Parsed<'a>, file: PolicyFile<'a>, set: &PolicySet, mistakes: &mut Vec<Mistake>) {
    if set.templates().next().is_some() {
        let what = "a template, which nothing here links: it would never take part".to_owned();
        mistakes.push(Mistake::ours(file.name, None, what, "write it as a policy"));
    }
    for policy in set.policies() {
        let id = PolicyId::new(named(file, policy));
        let renamed = policy.new_id(id.clone());
        if all.set.add(renamed).is_err() {
            let what = format!("@id(\"{id}\") names two policies");
            let line = line_of_annotation(file.text, id.as_ref());
            mistakes.push(Mistake::ours(file.name, line, what, "give every policy an @id of its own"));
        }
        all.origin.insert(id, file);
    }
}

fn named(file: PolicyFile<'_>, policy: &Policy) -> String {
    policy.annotation(ID).map_or_else(|| format!("{}#{}", file.name, policy.id()), str::to_owned)
}

/// The last line that has an `@id` of this name.
fn line_of_annotation(text: &str, id: &str) -> Option<usize> {
    let wanted = format!("@id(\"{id}\")");
    let lines = text.lines().enumerate().filter(|(_, line)| line.contains(&wanted));
    lines.last().map(|(at, _)| at.saturating_add(1))
}
