//! Finds names in policies that match nothing. Cedar accepts a policy about an image,
//! node or tag that does not exist, and such a policy has no effect.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::Policy;
use serde_json::Value;

use crate::engine::{PolicyFile, parse};
use crate::mistake::Mistake;

/// Annotation that lists, separated by commas, names that will exist later.
const RESERVED: &str = "reserved";
/// Largest number of names in a hint.
const LISTED: usize = 6;

/// Kinds of things that policies name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// `Node::"name"`.
    Node,
    /// `Chip::"id"`, in hex.
    Chip,
    /// `Generation::"Milan"`, and `principal.generation`.
    Generation,
    /// `principal.image`.
    Image,
    /// A member of `principal.tags`.
    Tag,
    /// `principal.class`.
    Class,
    /// `Workload::"SHA-256"`.
    Workload,
    /// `resource.name`.
    WorkloadName,
}

impl Subject {
    fn of_entity(kind: &str) -> Option<Self> {
        match kind {
            "Node" => Some(Self::Node),
            "Chip" => Some(Self::Chip),
            "Generation" => Some(Self::Generation),
            "Workload" => Some(Self::Workload),
            _ => None,
        }
    }

    /// The kind of the names that an attribute of a node or workload holds.
    fn of_attribute(kind: &str, name: &str) -> Option<Self> {
        match (kind, name) {
            ("Node", "image") => Some(Self::Image),
            ("Node", "tags") => Some(Self::Tag),
            ("Node", "class") => Some(Self::Class),
            ("Node", "generation") => Some(Self::Generation),
            ("Workload", "name") => Some(Self::WorkloadName),
            _ => None,
        }
    }

    const fn noun(self) -> &'static str {
        match self {
            Self::Node => "node's name",
            Self::Chip => "node's chip",
            Self::Generation => "chip generation",
            Self::Image => "node's image",
            Self::Tag => "node's tag",
            Self::Class => "class of evidence that the bundle admits",
            Self::Workload => "workload's digest",
            Self::WorkloadName => "workload's name",
        }
    }

    const fn nothing(self) -> &'static str {
        match self {
            Self::Node => "no node is enrolled as",
            Self::Chip => "no node is enrolled with the chip",
            Self::Generation => "there is no chip generation",
            Self::Image => "no node's image is called",
            Self::Tag => "no node has the tag",
            Self::Class => "the bundle admits no evidence of class",
            Self::Workload => "no workload has the digest",
            Self::WorkloadName => "no workload is called",
        }
    }
}

/// The existing names of each kind.
#[derive(Clone, Debug, Default)]
pub struct Names {
    names: BTreeMap<Subject, BTreeSet<String>>,
    /// Digests of workloads, by name.
    pub digests: BTreeMap<String, String>,
}

impl Names {
    /// Adds names of one kind.
    pub fn add(&mut self, subject: Subject, names: impl IntoIterator<Item = String>) {
        self.names.entry(subject).or_default().extend(names);
    }

    fn of(&self, subject: Subject) -> impl Iterator<Item = &String> {
        self.names.get(&subject).into_iter().flatten()
    }
}

/// Every literal in the policies that matches no name, with the nearest existing name.
/// The result is empty if the files do not parse.
#[must_use]
pub fn unknown_literals(files: &[PolicyFile<'_>], names: &Names) -> Vec<Mistake> {
    let Ok(policies) = parse(files) else { return Vec::new() };
    let mut all = Vec::new();
    for policy in policies.set.policies() {
        let Some(file) = policies.origin.get(policy.id()) else { continue };
        let reserved = policy.annotation(RESERVED).unwrap_or_default();
        let reserved: BTreeSet<&str> = reserved.split(',').map(str::trim).collect();
        let mut found = literals(policy);
        found.retain(|literal| !reserved.contains(literal.text().as_str()) && !literal.names_something(names));
        found.dedup();
        all.extend(found.iter().map(|literal| literal.mistake(file, policy, names)));
    }
    all
}

/// A literal, and the kind of thing that it should name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Literal {
    subject: Subject,
    /// One part for a name; for a pattern, the parts between its wildcards.
    parts: Vec<String>,
}

impl Literal {
    fn name(subject: Subject, name: &str) -> Self {
        Self { subject, parts: vec![name.to_owned()] }
    }

    fn text(&self) -> String {
        self.parts.join("*")
    }

    fn names_something(&self, names: &Names) -> bool {
        names.of(self.subject).any(|name| matches(&self.parts, name))
    }

    fn mistake(&self, file: &PolicyFile<'_>, policy: &Policy, names: &Names) -> Mistake {
        let text = self.text();
        let what = match self.parts.as_slice() {
            [_] => format!("@id(\"{}\"): {} \"{text}\"", policy.id(), self.subject.nothing()),
            _ => format!("@id(\"{}\"): the pattern \"{text}\" matches no {}", policy.id(), self.subject.noun()),
        };
        Mistake::ours(file.name, line(file.text, &policy.to_string(), &text), what, &self.hint(names))
    }

    fn hint(&self, names: &Names) -> String {
        let text = self.text();
        if let Some(digest) = names.digests.get(&text).filter(|_| self.subject == Subject::Workload) {
            return format!("that is a name: write Workload::\"{digest}\", or resource.name == \"{text}\"");
        }
        let reserve = format!("write @{RESERVED}(\"{text}\") before the policy if it is for later");
        let distance = |name: &&String| strsim::damerau_levenshtein(&name.to_lowercase(), &text.to_lowercase());
        let near = |name: &&String| distance(name) <= (text.chars().count() / 3).max(1);
        if let Some(nearest) = names.of(self.subject).filter(near).min_by_key(distance) {
            return format!("did you mean \"{nearest}\"? Otherwise {reserve}");
        }
        let all: Vec<String> = names.of(self.subject).map(|name| format!("\"{name}\"")).collect();
        let (listed, more) = (all.len().min(LISTED), all.len().saturating_sub(LISTED));
        let some = all.get(..listed).unwrap_or_default().join(", ");
        match (listed, more) {
            (0, _) => format!("there is none at all; {reserve}"),
            (_, 0) => format!("there is {some}; {reserve}"),
            _ => format!("there is {some}, and {more} more; {reserve}"),
        }
    }
}

/// Whether a name consists of these parts, with any text between them.
fn matches(parts: &[String], name: &str) -> bool {
    let [first, between @ .., last] = parts else { return parts.first().is_some_and(|only| only == name) };
    let Some(mut rest) = name.strip_prefix(first.as_str()) else { return false };
    for part in between {
        match rest.split_once(part.as_str()) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last.as_str())
}

/// The line of a literal in a policy, or the policy's line if the literal is not found.
fn line(file: &str, policy: &str, literal: &str) -> Option<usize> {
    let start = file.find(policy)?;
    let at = without_comments(policy).find(&format!("\"{literal}\"")).unwrap_or(0);
    let before = file.get(..start.checked_add(at)?)?;
    Some(before.matches('\n').count().saturating_add(1))
}

/// The text with its comments replaced by blanks, so that all offsets stay the same.
fn without_comments(text: &str) -> String {
    let (mut out, mut quoted, mut comment) = (String::with_capacity(text.len()), false, false);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\n' => comment = false,
            '\\' if quoted => {
                out.push(c);
                out.extend(characters.next());
                continue;
            }
            '"' if !comment => quoted = !quoted,
            '/' if !quoted && characters.peek() == Some(&'/') => comment = true,
            _ => {}
        }
        if comment { out.extend(std::iter::repeat_n(' ', c.len_utf8())) } else { out.push(c) }
    }
    out
}

/// The literals of a policy, from Cedar's JSON form of it. Literals whose kind is
/// unknown are left out: this search finds slips and proves nothing.
fn literals(policy: &Policy) -> Vec<Literal> {
    let mut found = Vec::new();
    if let Ok(json) = policy.to_json() {
        walk(&json, &mut found);
    }
    found.sort();
    found
}

fn walk(json: &Value, found: &mut Vec<Literal>) {
    match json {
        Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
        Value::Object(members) => {
            entity(json, found);
            for (operator, operand) in members {
                compared(operator, operand, found);
                walk(operand, found);
            }
        }
        _ => {}
    }
}

/// An entity's name, in a scope or in a condition.
fn entity(json: &Value, found: &mut Vec<Literal>) {
    let text = |name: &str| json.get(name).and_then(Value::as_str);
    if let Some((kind, id)) = text("type").zip(text("id")) {
        found.extend(Subject::of_entity(kind).map(|subject| Literal::name(subject, id)));
    }
}

/// The literals that an attribute is compared with.
fn compared(operator: &str, operand: &Value, found: &mut Vec<Literal>) {
    let (left, right) = (operand.get("left"), operand.get("right"));
    match operator {
        "==" | "!=" | "contains" | "containsAll" | "containsAny" => {
            for (one, other) in [(left, right), (right, left)] {
                if let Some((subject, other)) = one.and_then(attribute).zip(other) {
                    strings(other, &mut |name| found.push(Literal::name(subject, name)));
                }
            }
        }
        "like" => {
            let pattern = operand.get("pattern").and_then(Value::as_array);
            if let Some((subject, pattern)) = left.and_then(attribute).zip(pattern) {
                found.push(Literal { subject, parts: parts(pattern) });
            }
        }
        _ => {}
    }
}

/// The kind of the names in an expression such as `principal.image`.
fn attribute(expression: &Value) -> Option<Subject> {
    let access = expression.get(".")?;
    let of = access.get("left")?;
    let kind = match of.get("Var").and_then(Value::as_str) {
        Some("principal") => "Node",
        Some("resource") => "Workload",
        _ => of.pointer("/Value/__entity/type")?.as_str()?,
    };
    Subject::of_attribute(kind, access.get("attr")?.as_str()?)
}

/// Every string that an expression can evaluate to, or can have as a member.
fn strings<'a>(expression: &'a Value, take: &mut impl FnMut(&'a str)) {
    match (expression.get("Value"), expression.get("Set"), expression.get("if-then-else")) {
        (Some(Value::String(text)), ..) => take(text),
        (Some(Value::Array(items)), ..) => items.iter().filter_map(Value::as_str).for_each(take),
        (_, Some(Value::Array(items)), _) => items.iter().for_each(|item| strings(item, take)),
        (.., Some(branches)) => {
            for branch in ["then", "else"] {
                branches.get(branch).into_iter().for_each(|branch| strings(branch, take));
            }
        }
        _ => {}
    }
}

/// The texts between the wildcards of a pattern.
fn parts(pattern: &[Value]) -> Vec<String> {
    let mut parts = vec![String::new()];
    for element in pattern {
        match element.get("Literal").and_then(Value::as_str) {
            Some(text) => parts.iter_mut().last().into_iter().for_each(|part| part.push_str(text)),
            None => parts.push(String::new()),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_what_cedar_would_match() {
        let pattern = |text: &str| text.split('*').map(str::to_owned).collect::<Vec<_>>();
        for (text, name, expected) in [
            ("node 1.*", "node 1.1", true),
            ("node 1.*", "node 2.1", false),
            ("*", "", true),
            ("*1*1", "node 1.1", true),
            ("ab*ba", "aba", false),
            ("abc", "abc", true),
            ("abc", "abcd", false),
        ] {
            assert_eq!(matches(&pattern(text), name), expected, "{text} {name}");
        }
    }

    #[test]
    fn comments_are_no_place_of_a_literal() {
        let text = "a // \"x\"\n\"//\" \"x\" // é\n";
        let stripped = without_comments(text);
        assert_eq!(stripped.len(), text.len());
        assert_eq!(stripped.find("\"x\""), Some(14));
        assert!(stripped.contains("\"//\""));
    }
}
