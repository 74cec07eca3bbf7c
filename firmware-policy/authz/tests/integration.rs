//! Cedar's own integration cases and a sample of its fuzzing corpus, through our
//! adapter: the published decision, but where Cedar skips a policy that errs,
//! here is a denial.
#![cfg(test)]

use std::fs;
use std::io::Read;
use std::path::Path;

use cedar_policy::{Context, Entities, EntityUid, Request};
use portcullis_authz::{Answer, Engine, PolicyFile};
use portcullis_vectors::vectors;
use serde_json::Value;

struct Case {
    name: String,
    test: Value,
    policies: String,
    entities: String,
    schema: String,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    allowed: usize,
    denied: usize,
    erred: usize,
    /// Requests of policy sets that Cedar itself says do not validate.
    unvalidated: usize,
    /// Requests that do not fit their schema.
    unfit: usize,
}

#[expect(clippy::arithmetic_side_effects, reason = "counts of a few hundred")]
fn run(case: &Case, count: &mut Count) {
    let requests = case.test["requests"].as_array().unwrap();
    let file = [PolicyFile { name: "p", text: &case.policies }];
    let engine = match Engine::load(&file, &case.schema) {
        Ok(engine) => engine,
        Err(mistakes) => {
            // Strictness also refuses warnings, which the published flag ignores.
            assert!(!mistakes.is_empty());
            count.unvalidated += requests.len();
            return;
        }
    };
    assert_eq!(case.test["shouldValidate"], true, "{}: loaded what Cedar says does not validate", case.name);
    let entities = Entities::from_json_str(&case.entities, Some(engine.schema())).unwrap();
    for request in requests {
        let uid = |key: &str| EntityUid::from_json(request[key].clone()).unwrap();
        let context = Context::from_json_value(request["context"].clone(), Some((engine.schema(), &uid("action"))));
        let asked = context.ok().and_then(|context| {
            Request::new(uid("principal"), uid("action"), uid("resource"), context, Some(engine.schema())).ok()
        });
        let Some(asked) = asked else {
            assert_eq!(request["validateRequest"], false, "{}: {}", case.name, request["description"]);
            count.unfit += 1;
            continue;
        };
        let (answer, errors) = (engine.decide(&asked, &entities), request["errors"].as_array().unwrap());
        match (&answer, request["decision"].as_str().unwrap()) {
            (Answer::Erred(blames), _) => {
                assert_eq!(blames.len(), errors.len(), "{}", case.name);
                count.erred += 1;
            }
            (Answer::Permitted, "allow") if errors.is_empty() => count.allowed += 1,
            (Answer::NotPermitted, "deny") if errors.is_empty() => {
                assert_eq!(request["reason"].as_array().unwrap().len(), 0, "{}", case.name);
                count.denied += 1;
            }
            (Answer::Forbidden(blames), "deny") if errors.is_empty() => {
                assert_eq!(blames.len(), request["reason"].as_array().unwrap().len(), "{}", case.name);
                count.denied += 1;
            }
            other => panic!("{}: {}: {other:?}", case.name, request["description"]),
        }
    }
}

#[test]
fn the_example_use_cases_decide_as_published() {
    let Some(root) = vectors("cedar/integration") else { return };
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let mut count = Count::default();
    let mut files: Vec<_> =
        fs::read_dir(root.join("tests/example_use_cases")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files.iter().filter(|path| path.extension().is_some_and(|e| e == "json")) {
        let test: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let text = |key: &str| read(test[key].as_str().unwrap());
        let (policies, entities, schema) = (text("policies"), text("entities"), text("schema"));
        run(&Case { name: path.display().to_string(), test, policies, entities, schema }, &mut count);
    }
    assert_eq!(count, Count { allowed: 24, denied: 22, ..Count::default() });
}

#[test]
fn the_corpus_decides_as_published_but_errors_deny() {
    let Some(corpus) = vectors("cedar/corpus") else { return };
    let archive = fs::read(corpus.join("corpus-sample.tar.gz")).unwrap();
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(archive.as_slice()));
    let mut files = std::collections::BTreeMap::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let (path, mut text) = (entry.path().unwrap().display().to_string(), String::new());
        entry.read_to_string(&mut text).unwrap();
        files.insert(path, text);
    }
    let mut count = Count::default();
    let is_test = |path: &&String| path.ends_with(".json") && !path.ends_with(".entities.json");
    for path in files.keys().filter(is_test) {
        let test: Value = serde_json::from_str(&files[path]).unwrap();
        let stem = Path::new(path).with_extension("").display().to_string();
        let part = |extension: &str| files[&format!("{stem}.{extension}")].clone();
        let (policies, entities, schema) = (part("cedar"), part("entities.json"), part("cedarschema"));
        run(&Case { name: path.clone(), test, policies, entities, schema }, &mut count);
    }
    assert_eq!(count.allowed + count.denied + count.erred + count.unvalidated + count.unfit, 400);
    // The three requests that err are of sets that do not validate: not even loaded.
    assert_eq!(count, Count { allowed: 280, denied: 16, unvalidated: 104, ..Count::default() });
}
