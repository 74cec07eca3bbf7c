//! What policies can say, and what is not loaded.
#![cfg(test)]

use portcullis_authz::{Answer, Authorizer, Blame, Mistake, PolicyFile, Question, SCHEMA};

fn load(text: &str) -> Result<Authorizer, Vec<Mistake>> {
    Authorizer::load(&[PolicyFile { name: "policy.cedar", text }], SCHEMA)
}

fn ask(text: &str) -> Answer {
    load(text).unwrap().ask(&Question::EXAMPLE)
}

const ALL: &str = r#"@id("all") permit(principal, action, resource);"#;

fn blamed(policy: &str, reason: Option<&str>) -> Vec<Blame> {
    vec![Blame { policy: policy.into(), reason: reason.map(str::to_owned) }]
}

#[test]
fn forbid_wins_and_nothing_permits_by_itself() {
    assert_eq!(ask(ALL), Answer::Permitted);
    assert_eq!(ask("permit(principal, action, resource) when { !context.renewal };"), Answer::NotPermitted);
    let both = format!(
        r#"{ALL} @id("no-demo") @reason("demos end in May")
           forbid(principal, action, resource) when {{ resource.name == "workload" }};"#
    );
    assert_eq!(ask(&both), Answer::Forbidden(blamed("no-demo", Some("demos end in May"))));
    let unnamed = format!("{ALL} forbid(principal, action, resource);");
    assert_eq!(ask(&unnamed), Answer::Forbidden(blamed("policy.cedar#policy1", None)));
}

/// Node, chip, generation, class, tags, workload, requester, line of permits.
#[test]
fn everything_that_the_schema_names_can_be_asked_for() {
    for condition in [
        r#"principal == Node::"node""#,
        r#"principal in Chip::"00""#,
        r#"principal in Generation::"Milan""#,
        r#"principal.generation == "Milan" && principal.class == "snp+tpm" && principal.image == "image""#,
        r#"!principal.tags.contains("prod")"#,
        r#"resource == Workload::"00" && resource.name == "workload" && !resource.dynamic"#,
        r#"context.requester == Requester::"00""#,
        r#"context has parent && context.parent in Permit::"01""#,
        "context.renewal && context.time - context.since == 1000000",
    ] {
        let policy = format!("permit(principal, action, resource) when {{ {condition} }};");
        assert_eq!(ask(&policy), Answer::Permitted, "{condition}");
    }
}

/// THREATS row 21: what validation cannot exclude (arithmetic overflow)
/// errs at evaluation, and the error denies, in a `permit` and in a `forbid`.
#[test]
fn threat_21_a_policy_that_errs_denies_by_name() {
    for effect in ["permit", "forbid"] {
        let text = format!(
            r#"{ALL} @id("sum") {effect}(principal, action, resource) when {{ 9223372036854775807 + context.time == 0 }};"#
        );
        let Answer::Erred(blames) = ask(&text) else { panic!("{effect}") };
        assert_eq!(blames.len(), 1);
        assert_eq!(blames[0].policy, "sum");
        assert!(blames[0].reason.as_ref().unwrap().contains("integer overflow"), "{blames:?}");
    }
}

/// THREATS row 21: a missing attribute is found when the policies are loaded.
#[test]
fn threat_21_policies_outside_the_schema_are_not_loaded() {
    for (line, text) in [
        (2, "\npermit(principal, action, resource) when { principal.missing };"),
        (3, "\n\nforbid(principal, action, resource) when { context.parent == Permit::\"00\" };"),
        (1, r#"permit(principal, action == Action::"other", resource);"#),
        (2, "permit(principal,\n action"),
        (1, r#"forbid(principal, action, resource) when { principal.tags == "x" };"#),
        (2, "@id(\"a\") permit(principal, action, resource);\n@id(\"a\") forbid(principal, action, resource);"),
    ] {
        let mistakes = load(text).unwrap_err();
        assert_eq!((mistakes[0].file.as_str(), mistakes[0].line), ("policy.cedar", Some(line)), "{text}: {mistakes:?}");
        assert!(!mistakes[0].hint.is_empty(), "{text}");
    }
    let template = load("permit(principal == ?principal, action, resource);").unwrap_err();
    assert!(template[0].what.starts_with("a template"), "{template:?}");
}

#[test]
fn every_mistake_is_told_not_only_the_first() {
    let files = [
        PolicyFile { name: "a.cedar", text: "permit(principal, action, resource) when { principal.a };" },
        PolicyFile { name: "b.cedar", text: "\npermit(principal, action, resource) when { principal.b };" },
    ];
    let places: Vec<_> = Authorizer::load(&files, SCHEMA).unwrap_err().into_iter().map(|m| (m.file, m.line)).collect();
    assert_eq!(places, [("a.cedar".into(), Some(1)), ("b.cedar".into(), Some(2))]);
}

#[test]
fn a_schema_that_the_question_does_not_fit_is_refused_before_anybody_asks() {
    let file = [PolicyFile { name: "policy.cedar", text: ALL }];
    for (from, to) in [("\"tags\": Set<String>,", ""), ("\"time\": Long,", "\"time\": String,")] {
        let mistakes = Authorizer::load(&file, &SCHEMA.replace(from, to)).unwrap_err();
        assert_eq!(mistakes[0].file, "schema.cedarschema");
        assert!(mistakes[0].what.contains("does not fit"), "{mistakes:?}");
    }
    let wider = format!("{SCHEMA}\nentity Team;");
    assert!(Authorizer::load(&file, &wider).is_ok());
    let broken = Authorizer::load(&file, "\nentity {").unwrap_err();
    assert_eq!(broken[0].line, Some(2));
}
