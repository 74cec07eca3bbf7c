//! Authorization by Cedar, in which doubt denies.
//!
//! Cedar skips a policy that errs at evaluation: a `forbid` that reads a missing
//! attribute then forbids nothing. Here such an error is a denial. Policies are
//! validated strictly against the schema when they are loaded, and the question
//! is validated when it is asked.
//!
//! ```
//! use portcullis_authz::{Answer, Authorizer, Question, SCHEMA};
//!
//! let policies = r#"permit(principal, action == Action::"execute", resource) when { principal.tags.contains("prod") };"#;
//! let authorizer = Authorizer::load(policies, SCHEMA)?;
//! let question = Question {
//!     node: "node-1", class: "snp", generation: "Milan", tags: &["prod".into()],
//!     workload: "00", workload_name: "demo", dynamic: false, renewal: false,
//! };
//! assert_eq!(authorizer.ask(&question), Answer::Permitted);
//! # Ok::<(), portcullis_authz::AuthzError>(())
//! ```
//!
//! It is a crate of its own because Cedar compiles for minutes.

use std::collections::{HashMap, HashSet};
use std::fmt;

use cedar_policy::{
    Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet, Request, RestrictedExpression,
    Schema, ValidationMode, Validator,
};

/// The schema that questions fit.
pub const SCHEMA: &str = r#"entity Node = {
    "class": String,
    "generation": String,
    "tags": Set<String>,
};
entity Workload = {
    "name": String,
    "dynamic": Bool,
};
action "execute" appliesTo {
    principal: [Node],
    resource: [Workload],
    context: { "renewal": Bool },
};
"#;

/// Why policies were not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthzError {
    /// The schema does not parse.
    Schema(String),
    /// The policies do not parse.
    Policies(String),
    /// The policies do not fit the schema, or the validator warns of them.
    Validation(String),
}

impl fmt::Display for AuthzError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schema(why) => write!(f, "cedar schema: {why}"),
            Self::Policies(why) => write!(f, "cedar policies: {why}"),
            Self::Validation(why) => write!(f, "cedar validation: {why}"),
        }
    }
}

impl std::error::Error for AuthzError {}

/// May this node run this workload?
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Name of the enrolled node.
    pub node: &'a str,
    /// Evidence class that it showed.
    pub class: &'a str,
    /// Chip generation, or `none` without an SNP report.
    pub generation: &'a str,
    /// Tags of its enrolment.
    pub tags: &'a [String],
    /// SHA-256 of the workload, in hex.
    pub workload: &'a str,
    /// Name of the workload in the bundle.
    pub workload_name: &'a str,
    /// Whether it loads shared libraries.
    pub dynamic: bool,
    /// Whether a running permit is renewed.
    pub renewal: bool,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A policy permits, none forbids, none erred.
    Permitted,
    /// These policies forbid.
    Forbidden(Vec<String>),
    /// No policy permits.
    NotPermitted,
    /// A policy erred, or the question did not fit the schema.
    Erred(String),
}

/// Validated policies.
pub struct Authorizer {
    policies: PolicySet,
    schema: Schema,
    cedar: cedar_policy::Authorizer,
    types: Types,
}

struct Types {
    node: EntityTypeName,
    workload: EntityTypeName,
    action: EntityUid,
}

impl Authorizer {
    /// Loads policies and schema; every validation error and warning refuses.
    ///
    /// # Errors
    /// [`AuthzError`].
    pub fn load(policies: &str, schema: &str) -> Result<Self, AuthzError> {
        let (schema, warnings) =
            Schema::from_cedarschema_str(schema).map_err(|error| AuthzError::Schema(error.to_string()))?;
        let warnings: Vec<String> = warnings.map(|w| w.to_string()).collect();
        if !warnings.is_empty() {
            return Err(AuthzError::Schema(warnings.join("; ")));
        }
        let policies: PolicySet =
            policies.parse().map_err(|error: cedar_policy::ParseErrors| AuthzError::Policies(error.to_string()))?;
        let outcome = Validator::new(schema.clone()).validate(&policies, ValidationMode::Strict);
        if !outcome.validation_passed_without_warnings() {
            return Err(AuthzError::Validation(outcome.to_string()));
        }
        let name = |text: &str| text.parse().map_err(|_| AuthzError::Schema(text.to_owned()));
        let action_type: EntityTypeName = name("Action")?;
        let types = Types {
            node: name("Node")?,
            workload: name("Workload")?,
            action: EntityUid::from_type_name_and_id(action_type, EntityId::new("execute")),
        };
        Ok(Self { policies, schema, cedar: cedar_policy::Authorizer::new(), types })
    }

    /// Answers a question. Pure: the same question has the same answer.
    #[must_use]
    pub fn ask(&self, question: &Question<'_>) -> Answer {
        match self.request(question) {
            Err(why) => Answer::Erred(why),
            Ok((request, entities)) => {
                let response = self.cedar.is_authorized(&request, &self.policies, &entities);
                let errors: Vec<String> = response.diagnostics().errors().map(|e| e.to_string()).collect();
                let reasons = response.diagnostics().reason();
                match (errors.is_empty(), response.decision()) {
                    (false, _) => Answer::Erred(errors.join("; ")),
                    (true, Decision::Allow) => Answer::Permitted,
                    (true, Decision::Deny) => {
                        let mut forbids: Vec<String> = reasons.map(|id| self.label(id)).collect();
                        forbids.sort();
                        if forbids.is_empty() { Answer::NotPermitted } else { Answer::Forbidden(forbids) }
                    }
                }
            }
        }
    }

    /// The `@id` annotation of a policy, or Cedar's own number for it.
    fn label(&self, id: &cedar_policy::PolicyId) -> String {
        self.policies.annotation(id, "id").map_or_else(|| id.to_string(), str::to_owned)
    }

    fn request(&self, q: &Question<'_>) -> Result<(Request, Entities), String> {
        let node = EntityUid::from_type_name_and_id(self.types.node.clone(), EntityId::new(q.node));
        let workload = EntityUid::from_type_name_and_id(self.types.workload.clone(), EntityId::new(q.workload));
        let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
        let tags = RestrictedExpression::new_set(q.tags.iter().map(|tag| text(tag)));
        let entity = |uid: &EntityUid, attributes: Vec<(&str, RestrictedExpression)>| {
            let attributes: HashMap<String, _> = attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
            Entity::new(uid.clone(), attributes, HashSet::new()).map_err(|error| error.to_string())
        };
        let entities = [
            entity(&node, vec![("class", text(q.class)), ("generation", text(q.generation)), ("tags", tags)])?,
            entity(
                &workload,
                vec![("name", text(q.workload_name)), ("dynamic", RestrictedExpression::new_bool(q.dynamic))],
            )?,
        ];
        let entities = Entities::from_entities(entities, Some(&self.schema)).map_err(|error| error.to_string())?;
        let context = Context::from_pairs([("renewal".to_owned(), RestrictedExpression::new_bool(q.renewal))])
            .map_err(|error| error.to_string())?;
        let request = Request::new(node, self.types.action.clone(), workload, context, Some(&self.schema))
            .map_err(|error| error.to_string())?;
        Ok((request, entities))
    }
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAGS: &[String] = &[];

    fn question() -> Question<'static> {
        Question {
            node: "node-1",
            class: "snp+tpm",
            generation: "Milan",
            tags: TAGS,
            workload: "ab",
            workload_name: "demo",
            dynamic: false,
            renewal: false,
        }
    }

    fn ask(policies: &str) -> Answer {
        Authorizer::load(policies, SCHEMA).unwrap().ask(&question())
    }

    #[test]
    fn forbid_wins_and_nothing_permits_by_itself() {
        assert_eq!(ask("permit(principal, action, resource);"), Answer::Permitted);
        assert_eq!(ask("permit(principal, action, resource) when { context.renewal };"), Answer::NotPermitted);
        let both = r#"permit(principal, action, resource);
            @id("no-demo") forbid(principal, action, resource) when { resource.name == "demo" };"#;
        assert_eq!(ask(both), Answer::Forbidden(vec!["no-demo".into()]));
    }

    /// THREATS row 21: what validation cannot exclude (arithmetic overflow)
    /// errs at evaluation, and the error denies, in a `permit` and in a `forbid`.
    #[test]
    fn threat_21_a_policy_that_errs_denies() {
        let overflow = "9223372036854775807 + 1 == 0";
        let in_permit =
            format!("permit(principal, action, resource); permit(principal, action, resource) when {{ {overflow} }};");
        let in_forbid =
            format!("permit(principal, action, resource); forbid(principal, action, resource) when {{ {overflow} }};");
        for policies in [in_permit, in_forbid] {
            assert!(matches!(ask(&policies), Answer::Erred(_)), "{policies}");
        }
    }

    #[test]
    fn policies_outside_the_schema_are_not_loaded() {
        for policies in [
            "permit(principal, action, resource) when { principal.missing };",
            r#"permit(principal, action == Action::"other", resource);"#,
            "permit(principal, action",
            r#"forbid(principal, action, resource) when { principal.tags == "x" };"#,
        ] {
            assert!(Authorizer::load(policies, SCHEMA).is_err(), "{policies}");
        }
    }
}
