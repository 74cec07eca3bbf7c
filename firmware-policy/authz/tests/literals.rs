//! Policies about things that do not exist are valid to Cedar, permit nothing and
//! forbid nothing. Every literal that names nothing is told, with its line.
#![cfg(test)]

use portcullis_authz::{Authorizer, Names, PolicyFile, SCHEMA, Subject, unknown_literals};

fn names() -> Names {
    let mut names = Names::default();
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    names.add(Subject::Node, list(&["node-1", "node-2"]));
    names.add(Subject::Chip, [String::from("12").repeat(64)]);
    names.add(Subject::Generation, list(&["Milan", "Genoa", "Turin", "none"]));
    names.add(Subject::Image, list(&["canary", "node 1.0", "node 1.1"]));
    names.add(Subject::Tag, list(&["production"]));
    names.add(Subject::Class, list(&["snp+tpm", "snp"]));
    names.add(Subject::Workload, [String::from("34").repeat(32)]);
    names.add(Subject::WorkloadName, list(&["example"]));
    names.digests.insert("example".into(), "34".repeat(32));
    names
}

/// `what` of every warning about a policy whose condition stands on line 3. Cedar
/// takes the policy: that is why it must be told.
fn told(scope: &str, condition: &str) -> Vec<(Option<usize>, String, String)> {
    let text = format!("// \"canari\" in a comment\n@id(\"p\") permit({scope})\nwhen {{ {condition} }};\n");
    let files = [PolicyFile { name: "policy.cedar", text: &text }];
    assert!(Authorizer::load(&files, SCHEMA).is_ok(), "{:?}", Authorizer::load(&files, SCHEMA));
    let all = unknown_literals(&files, &names());
    all.into_iter().map(|mistake| (mistake.line, mistake.what, mistake.hint)).collect()
}

const ANY: &str = "principal, action, resource";

#[test]
fn every_literal_that_names_nothing_is_told_with_its_line_and_the_nearest() {
    let digest = "34".repeat(32);
    let off = format!("{}35", "34".repeat(31));
    let cases: Vec<(&str, String, &str, &str)> = vec![
        (ANY, "principal.image == \"canari\"".into(), "no node's image is called \"canari\"", "\"canary\""),
        (ANY, "\"canari\" == principal.image".into(), "no node's image is called \"canari\"", "\"canary\""),
        (ANY, "principal.image != \"Canary\"".into(), "no node's image is called \"Canary\"", "\"canary\""),
        (ANY, "[\"node 1.0\", \"nod 1.1\"].contains(principal.image)".into(), "called \"nod 1.1\"", "\"node 1.1\""),
        (ANY, "principal.tags.contains(\"prodution\")".into(), "no node has the tag \"prodution\"", "\"production\""),
        (
            ANY,
            "principal.tags.containsAny([\"x-ray\"])".into(),
            "no node has the tag \"x-ray\"",
            "there is \"production\"",
        ),
        (
            ANY,
            "principal.tags.containsAll([\"production\", \"prod\"])".into(),
            "the tag \"prod\"",
            "there is \"production\"",
        ),
        (ANY, "principal.class == \"snp+tmp\"".into(), "no evidence of class \"snp+tmp\"", "\"snp+tpm\""),
        (ANY, "principal.generation == \"genoa\"".into(), "no chip generation \"genoa\"", "\"Genoa\""),
        (ANY, "principal in Generation::\"Rome\"".into(), "no chip generation \"Rome\"", "there is \"Genoa\""),
        (ANY, "principal == Node::\"node-3\"".into(), "no node is enrolled as \"node-3\"", "\"node-"),
        (ANY, "[Node::\"node-1\", Node::\"nod-2\"].contains(principal)".into(), "enrolled as \"nod-2\"", "\"node-2\""),
        (ANY, "principal in Chip::\"12\"".into(), "no node is enrolled with the chip \"12\"", "there is \"1212"),
        (ANY, "resource.name == \"exmaple\"".into(), "no workload is called \"exmaple\"", "\"example\""),
        (ANY, format!("resource == Workload::\"{off}\""), "no workload has the digest", &digest),
        (
            ANY,
            "resource == Workload::\"example\"".into(),
            "no workload has the digest \"example\"",
            "that is a name: write",
        ),
        (
            ANY,
            "principal.image like \"nod 1.*\"".into(),
            "the pattern \"nod 1.*\" matches no node's image",
            "\"node 1.0\"",
        ),
        (ANY, "if principal.image == \"canari\" then true else false".into(), "called \"canari\"", "\"canary\""),
        (
            ANY,
            "principal.image == (if context.renewal then \"canari\" else \"canary\")".into(),
            "called \"canari\"",
            "canary",
        ),
        (ANY, "!(context.time > 5 && Node::\"node-9\".image == \"canary\")".into(), "enrolled as \"node-9\"", "node-"),
    ];
    for (scope, condition, what, hint) in cases {
        let told = told(scope, &condition);
        assert_eq!(told.len(), 1, "{condition}: {told:?}");
        let (line, said, help) = &told[0];
        assert_eq!(*line, Some(3), "{condition}");
        assert!(said.starts_with("@id(\"p\"): ") && said.contains(what), "{said}");
        assert!(help.contains(hint) && (help.contains("@reserved(") || help.starts_with("that is a name")), "{help}");
    }
    for scope in [
        "principal == Node::\"node-7\", action, resource",
        "principal in Node::\"node-7\", action, resource",
        "principal is Node in Generation::\"Rom\", action, resource",
        "principal, action, resource == Workload::\"exam\"",
        "principal, action, resource in Workload::\"exam\"",
    ] {
        let told = told(scope, "true");
        assert_eq!(told.len(), 1, "{scope}: {told:?}");
        assert_eq!(told[0].0, Some(2), "{scope}");
    }
}

#[test]
fn what_names_something_or_is_reserved_is_not_told() {
    for condition in [
        "principal.image == \"canary\" && principal.tags.contains(\"production\")",
        "principal.image like \"node *\" || principal.class == \"snp\"",
        "principal in Generation::\"Milan\" || principal == Node::\"node-1\"",
        "resource.name == \"example\" && context.time > 5",
        // Whose key it is, nobody knows before it asks.
        "context.requester == Requester::\"anything\"",
    ] {
        assert_eq!(told(ANY, condition), [], "{condition}");
    }
    let text = "@id(\"p\") @reserved(\"quarantined, drained\") forbid(principal, action, resource)\n\
                when { principal.tags.containsAny([\"quarantined\", \"drained\", \"draned\"]) };";
    let all = unknown_literals(&[PolicyFile { name: "p", text }], &names());
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].what.contains("\"draned\""), "{all:?}");
}
