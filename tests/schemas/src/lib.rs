//! Checks what programs print against `docs/schemas`, for tests: every object has
//! a schema, and every member of it is described there.
//!
//! ```should_panic
//! portcullis_schemas::check(&serde_json::json!({ "schema": "portcullis/check/1", "check": "snp.vek" }));
//! ```

use std::path::{Path, PathBuf};

use boon::{Compiler, Draft, Schemas};
use serde_json::Value;

/// The folder with the published schemas.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas")
}

/// Checks an output against the schema that it names. Returns that name.
///
/// # Panics
/// The output names no schema, the schema is not published, the output is not as
/// it says, or a text in it has a time as bare seconds.
#[must_use]
#[track_caller]
#[expect(clippy::panic, reason = "for tests: this is an assertion")]
pub fn check(output: &Value) -> String {
    let Some(name) = output.get("schema").and_then(Value::as_str) else { panic!("no schema is named: {output}") };
    let Some((slug, version)) = name.strip_prefix("portcullis/").and_then(|name| name.split_once('/')) else {
        panic!("not the name of a schema: {name}")
    };
    let file = folder().join(format!("{slug}-{version}.json"));
    let mut compiler = Compiler::new();
    compiler.set_default_draft(Draft::V2020_12);
    compiler.enable_format_assertions();
    let mut schemas = Schemas::new();
    match compiler.compile(&file.display().to_string(), &mut schemas) {
        Err(error) => panic!("{}: {error:#}", file.display()),
        Ok(schema) => {
            if let Err(error) = schemas.validate(output, schema) {
                panic!("{name} is not as {} says: {error}\n{output:#}", file.display());
            }
        }
    }
    if let Some(text) = bare_time(output) {
        panic!("{name}: Unix seconds where a person reads: {text:?}");
    }
    name.to_owned()
}

/// A text with what looks like Unix seconds of this decade or the next, outside of
/// digests.
fn bare_time(value: &Value) -> Option<&str> {
    let is_time = |word: &str| word.len() == 10 && matches!(word.parse(), Ok(1_500_000_000_u64..2_300_000_000));
    // A damaged event log may name any register.
    let words = |text: &str| text.replace("PCR ", "PCR").split(|c: char| !c.is_ascii_alphanumeric()).any(is_time);
    match value {
        Value::String(text) => words(text).then_some(text),
        Value::Array(items) => items.iter().find_map(bare_time),
        Value::Object(members) => members.values().find_map(bare_time),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}
