//! Authorization by Cedar: any doubt denies.
//!
//! ```text
//! texts --Engine::load--> strictly validated policies
//! Question --Authorizer::ask--> Answer
//! ```
//!
//! Cedar skips a policy that fails during evaluation: a `forbid` that reads a missing
//! attribute then forbids nothing. Here such an error is a denial. Policies are
//! validated strictly against the schema when they are loaded. The schema must also fit
//! the question; otherwise it is refused before the first question.
//!
//! ```
//! use portcullis_authz::{Answer, Authorizer, PolicyFile, Question, SCHEMA};
//!
//! let text = r#"@id("prod") permit(principal, action == Action::"execute", resource)
//!     when { principal.tags.contains("prod") };"#;
//! let authorizer = Authorizer::load(&[PolicyFile { name: "policy.cedar", text }], SCHEMA)?;
//! let question = Question { node: "node-1", tags: &["prod".into()], ..Question::EXAMPLE };
//! assert_eq!(authorizer.ask(&question), Answer::Permitted);
//! assert_eq!(authorizer.ask(&Question::EXAMPLE), Answer::NotPermitted);
//! # Ok::<(), Vec<portcullis_authz::Mistake>>(())
//! ```
//!
//! It is a separate crate because Cedar compiles for minutes.

mod engine;
mod literals;
mod memory;
mod mistake;
mod question;

pub use engine::{Answer, Blame, Engine, PolicyFile};
pub use literals::{Names, Subject, unknown_literals};
pub use mistake::Mistake;
pub use question::{Authorizer, Parent, Question};

/// The schema that fits the question.
pub const SCHEMA: &str = include_str!("schema.cedarschema");
/// Its file name in a bundle.
pub const SCHEMA_FILE: &str = "schema.cedarschema";
