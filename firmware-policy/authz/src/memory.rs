//! A cache of answers. A question has one answer for a set of policies, and nodes
//! repeat their questions with every renewal.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::engine::{Answer, Engine};
use crate::question::Question;

/// Most answers in the cache.
const MAX_ANSWERS: usize = 1 << 16;

/// The parts of a question's context that policies read. Other parts cannot change an
/// answer.
#[derive(Debug, PartialEq, Eq)]
enum Reads {
    /// These attributes.
    Only(BTreeSet<String>),
    /// The whole context: any part of it may matter.
    Everything,
}

/// Cached answers.
#[derive(Debug)]
pub(crate) struct Memory {
    reads: Reads,
    answers: Mutex<HashMap<String, Answer>>,
}

impl Memory {
    pub(crate) fn of(engine: &Engine) -> Self {
        Self { reads: reads(engine), answers: Mutex::new(HashMap::new()) }
    }

    /// The cached answer to the same question, or a new one.
    pub(crate) fn recall(&self, question: &Question<'_>, find: impl FnOnce() -> Answer) -> Answer {
        let key = self.key(question);
        let known = self.answers.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        known.unwrap_or_else(|| {
            let answer = find();
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            if answers.len() >= MAX_ANSWERS {
                answers.clear();
            }
            answers.insert(key, answer.clone());
            answer
        })
    }

    /// Every part that can matter, each after its length, so that no two questions share a
    /// key.
    fn key(&self, q: &Question<'_>) -> String {
        let mut key = String::with_capacity(512);
        let mut put = |part: &str| {
            key.push_str(&part.len().to_string());
            key.push(':');
            key.push_str(part);
        };
        [q.node, q.class, q.image, q.workload, q.workload_name, q.requester].into_iter().for_each(&mut put);
        let (generation, chip) = q.chip.unwrap_or_default();
        let flag = |set: bool| if set { "1" } else { "0" };
        [generation, chip, flag(q.chip.is_some()), flag(q.dynamic), flag(q.parent.is_some())]
            .into_iter()
            .for_each(&mut put);
        put(&q.tags.len().to_string());
        q.tags.iter().for_each(|tag| put(tag));
        if self.read("time") {
            put(&q.time.to_string());
        }
        if let Some(parent) = q.parent {
            if self.read("parent") {
                put(parent.id);
                put(parent.origin);
            }
            if self.read("since") {
                put(&parent.since.to_string());
            }
        } else if self.read("since") {
            // Without a parent, the line begins now.
            put(&q.time.to_string());
        }
        key
    }

    fn read(&self, attribute: &str) -> bool {
        match &self.reads {
            Reads::Only(names) => names.contains(attribute),
            Reads::Everything => true,
        }
    }
}

/// The attributes that policies read, from Cedar's JSON form of them; everything if
/// that form is unavailable.
fn reads(engine: &Engine) -> Reads {
    let mut names = BTreeSet::new();
    for policy in engine.policies() {
        match policy.to_json() {
            Ok(json) if walk(&json, &mut names) => {}
            _ => return Reads::Everything,
        }
    }
    Reads::Only(names)
}

/// Records which attributes of the context are read; `false` if the context is used in
/// any other way.
fn walk(json: &Value, names: &mut BTreeSet<String>) -> bool {
    let is_context = |value: &Value| value.get("Var").and_then(Value::as_str) == Some("context");
    match json {
        Value::Object(members) => {
            for (operator, operand) in members {
                let attribute = operand.get("attr").and_then(Value::as_str);
                let reads_context = operand.get("left").is_some_and(is_context);
                match (operator.as_str(), attribute) {
                    ("." | "has", Some(attribute)) if reads_context => drop(names.insert(attribute.to_owned())),
                    ("Var", _) if operand.as_str() == Some("context") => return false,
                    _ if !walk(operand, names) => return false,
                    _ => {}
                }
            }
            true
        }
        Value::Array(items) => items.iter().all(|item| walk(item, names)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authorizer, PolicyFile, SCHEMA};

    fn reads_of(text: &str) -> Reads {
        let authorizer = Authorizer::load(&[PolicyFile { name: "p", text }], SCHEMA).unwrap();
        reads(authorizer.engine())
    }

    #[test]
    fn only_what_is_read_makes_questions_different() {
        let only = |names: &[&str]| Reads::Only(names.iter().map(|name| (*name).to_owned()).collect());
        let rule = |condition: &str| reads_of(&format!("permit(principal, action, resource) when {{ {condition} }};"));
        assert_eq!(reads_of("permit(principal, action, resource);"), only(&[]));
        assert_eq!(rule("context.renewal"), only(&["renewal"]));
        assert_eq!(rule("context[\"time\"] > 3"), only(&["time"]));
        assert_eq!(rule("context has parent && context.parent in Permit::\"00\""), only(&["parent"]));
        assert_eq!(rule("[context.time - context.since].contains(4)"), only(&["since", "time"]));
        assert_eq!(rule("if context.renewal then context.time > 1 else false"), only(&["renewal", "time"]));
        assert_eq!(rule("resource.name == \"context\""), only(&[]));
        assert_eq!(rule("context == context"), Reads::Everything);
        assert_eq!(rule("[context].contains(context)"), Reads::Everything);
    }
}
