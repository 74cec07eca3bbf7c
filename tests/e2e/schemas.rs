#![cfg(test)]
//! Every JSON output of every program has a published schema (`docs/schemas`) that
//! describes all of it. Beside these runs, the tests of the auditor and of
//! `portcullis-policy` check each object that they read.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use portcullis_lab::Deployment;
use portcullis_lab::deployment::{SLEEP, UNKNOWN};
use portcullis_vectors::vectors;
use serde_json::Value;

const PROGRAMS: [&str; 5] =
    ["portcullis", "portcullis-audit", "portcullis-policy", "portcullis-witness", "portcullisd"];

/// Runs a program of the lab's binary, and checks the one object that it prints.
/// Programs print objects for refusals too.
fn schema_of(program: &str, machine: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(common::lab());
    command.arg(program);
    if ["portcullis", "portcullisd"].contains(&program) {
        command.arg("--machine").arg(machine).arg("--");
    }
    let output = command.args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let body: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said}"));
    portcullis_schemas::check(&body)
}

/// Names of the manual pages, such as `portcullis-permit-show`, of commands that
/// print JSON.
fn commands_with_json() -> BTreeSet<String> {
    let folder = tempfile::tempdir().unwrap();
    for program in PROGRAMS {
        let mut command = Command::new(common::lab());
        command.arg(program);
        if ["portcullis", "portcullisd"].contains(&program) {
            command.args(["--machine", "/nonexistent", "--"]);
        }
        let output = command.args(["man", "--out"]).arg(folder.path()).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let pages = std::fs::read_dir(folder.path()).unwrap().map(|page| page.unwrap().path());
    let with_json = pages.filter(|page| std::fs::read_to_string(page).unwrap().contains(r"\fB\-\-json\fR"));
    with_json.map(|page| page.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Runs, by the name of the command's page.
struct Runs<'a> {
    deployment: &'a Deployment,
    seen: BTreeSet<String>,
}

impl Runs<'_> {
    /// Runs a command: its words first, then its arguments.
    #[track_caller]
    fn check(&mut self, required: &str, program: &str, words: &[&str], arguments: &[&str]) {
        let configuration = self.deployment.text("node-1.toml");
        let first = if program == "portcullis" { vec!["--config", &configuration] } else { Vec::new() };
        let all = [&first[..], words, &["--json"], arguments].concat();
        let found = schema_of(program, &self.deployment.machine("node-1"), &all);
        assert_eq!(found, format!("portcullis/{required}"), "{program} {words:?}");
        self.seen.insert([&[program], words].concat().join("-"));
    }
}

#[test]
fn every_json_output_has_a_schema_that_describes_it() {
    let (Some(snp), Some(quotes), Some(azure), Some(logs), Some(ima), Some(measure)) = (
        vectors("snp"),
        vectors("tpm-quote"),
        vectors("azure-vtpm"),
        vectors("eventlog"),
        vectors("ima"),
        vectors("measure"),
    ) else {
        return;
    };
    let (_folder, deployment, daemon) = common::serving();
    assert!(deployment.request("node-1", SLEEP).unwrap().status.success());
    assert_eq!(deployment.request("node-1", UNKNOWN).unwrap().status.code(), Some(1));
    for (path, required) in [("/readyz", "portcullis/ready/1"), ("/keys", "portcullis/keys/1")] {
        let body: Value = serde_json::from_str(&daemon.get(path).unwrap().1).unwrap();
        assert_eq!(portcullis_schemas::check(&body), required);
    }
    let text = |folder: &Path, name: &str| folder.join(name).display().to_string();
    let own = |name: &str| deployment.text(name);
    let mut runs = Runs { deployment: &deployment, seen: BTreeSet::new() };

    runs.check("authority/1", "portcullis", &["attest"], &[]);
    let evidence = own("evidence.bin");
    runs.check("identity/1", "portcullis", &["identity"], &["--evidence", &evidence]);
    runs.check("permit/1", "portcullis", &["permit", "show"], &[&own("node-1.permit")]);
    let of = ["identity", "--workload", SLEEP, "--json"];
    let printed = deployment.portcullis("node-1", &of).output().unwrap();
    assert_eq!(portcullis_schemas::check(&serde_json::from_slice(&printed.stdout).unwrap()), "portcullis/workload/1");
    let cache = own("cache");
    let folder = own("bundle/collateral/lab-ask.der");
    let import =
        deployment.portcullis("node-1", &["collateral", "import", &folder, "--cache", &cache]).output().unwrap();
    assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
    runs.check("collateral/1", "portcullis", &["collateral", "status"], &["--cache", &cache]);

    let governors = ["--endorsement", &own("authority.pce"), "--governance-root", &own("governance.cbor")];
    let log = own("state-authority/log");
    let logged = [&[log.as_str()], &governors[..]].concat();
    let program = "portcullis-audit";
    runs.check("snp-report/1", program, &["snp-report"], &[&text(&snp, "milan-v3-ms-aci/report.bin")]);
    let quote = |name: &str| text(&quotes, &format!("gce-cos-85-nonce9009/{name}"));
    let (attest, signature, ak) = (quote("quote.sha256.msg"), quote("quote.sha256.sig"), quote("ak.tpmt_public"));
    let parts = ["--attest", &attest, "--signature", &signature, "--ak", &ak, "--eventlog", &quote("eventlog.bin")];
    runs.check("tpm-quote/1", program, &["tpm-quote"], &[&parts[..], &["--pcrs", &quote("pcrs.json")]].concat());
    runs.check("azure/1", program, &["azure"], &[&text(&azure, "trustee-raw/hcl-report.bin")]);
    runs.check("eventlog/1", program, &["eventlog"], &[&text(&logs, "go-tpm-tools/ubuntu-2404-amd-sevsnp.bin")]);
    let list = [text(&ima, "h12ssl/binary_runtime_measurements"), text(&ima, "h12ssl/pcrs.json")];
    runs.check("ima/1", program, &["ima"], &[&list[0], "--pcrs", &list[1]]);
    runs.check("evidence/1", program, &["evidence"], &[&evidence]);
    runs.check("checks/1", program, &["explain-check"], &["snp.tcb"]);
    runs.check("permit-audit/1", program, &["permit"], &[&[own("node-1.permit").as_str()], &governors[..]].concat());
    runs.check("log-audit/1", program, &["log", "verify"], &logged);
    runs.check("replay/1", program, &["replay"], &logged);
    runs.check("fsck/1", program, &["fsck"], &logged);
    let shown = deployment.portcullis("node-1", &["permit", "show", &own("node-1.permit"), "--json"]).output().unwrap();
    let permit: Value = serde_json::from_slice(&shown.stdout).unwrap();
    runs.check("trail/1", program, &["trail"], &[&[permit["id"].as_str().unwrap()], &logged[..]].concat());

    let program = "portcullis-policy";
    let (bundle, out) = (own("bundle"), own("out"));
    runs.check("bundle-check/1", program, &["check"], &[&bundle]);
    let unsound = text(&snp, "milan-v3-ms-aci");
    let body = schema_of(program, Path::new("/"), &["check", "--json", &unsound]);
    assert_eq!(body, "portcullis/bundle-check/1");
    let governance = own("governance.cbor");
    runs.check("bundle/1", program, &["show"], &[&own("bundle.pcb"), "--governance", &governance]);
    assert_eq!(schema_of(program, Path::new("/"), &["show", &governance, "--json"]), "portcullis/governance/1");
    runs.check("bundle-diff/1", program, &["diff"], &[&bundle, &bundle]);
    runs.check("check/1", program, &["explain"], &["snp.tcb.order"]);
    assert_eq!(
        schema_of(program, Path::new("/"), &["explain", &own("state-node-1/denial.cose"), "--json"]),
        "portcullis/denial/1"
    );
    runs.check("rehearsal/1", program, &["rehearse"], &["--archive", &log, "--bundle", &bundle]);
    runs.check("corim-export/1", program, &["corim", "export"], &[&bundle, "--out", &out]);
    runs.check("corim-import/1", program, &["corim", "import"], &[&out]);
    let linux = format!("linux={SLEEP}");
    runs.check("measure-uki/1", program, &["measure", "uki"], &["--section", &linux]);
    let ovmf = text(&measure, "sev-snp-measure/ovmf_OvmfX64_suffix.bin");
    let guest = ["--ovmf", &ovmf, "--ovmf-hash", &"00".repeat(48), "--vcpus", "1", "--vcpu-type", "EPYC-Milan"];
    runs.check("measure-snp/1", program, &["measure", "snp"], &guest);

    let end = own("result.json");
    let run = deployment.portcullis("node-1", &["run", "--result", &end, "--", UNKNOWN]).output().unwrap();
    assert_eq!(run.status.code(), Some(77), "{}", String::from_utf8_lossy(&run.stderr));
    let result: Value = serde_json::from_slice(&std::fs::read(&end).unwrap()).unwrap();
    assert_eq!(portcullis_schemas::check(&result), "portcullis/run-result/1");

    let untested: Vec<String> = commands_with_json().difference(&runs.seen).cloned().collect();
    assert!(untested.is_empty(), "their output is checked by nobody: {untested:?}");
}

/// An output names each schema file; no file is unused.
#[test]
fn every_schema_is_a_schema_and_has_its_name() {
    let files = std::fs::read_dir(portcullis_schemas::folder()).unwrap().map(|file| file.unwrap().path());
    let mut count = 0;
    for path in files.filter(|path| path.extension().is_some_and(|end| end == "json")) {
        let schema: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(schema["$id"], name);
        if name != "common.json" {
            let (slug, version) = name.trim_end_matches(".json").rsplit_once('-').unwrap();
            assert_eq!(schema["properties"]["schema"]["const"], format!("portcullis/{slug}/{version}"));
            assert_eq!(schema["additionalProperties"], false, "{name}");
            count += 1;
        }
    }
    assert!(count >= 28, "{count}");
}
