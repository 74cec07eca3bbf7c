//! `portcullis-audit snp-report`: is this report authentic, and, with a policy,
//! does it show a machine worth trusting?

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use portcullis_attest::binding::Role;
use portcullis_attest::check::Checks;
use portcullis_attest::snp::collateral::{Collateral, RefusedObject};
use portcullis_attest::snp::generation::Generation;
use portcullis_attest::snp::report::{FirmwareVersion, Report};
use portcullis_attest::snp::roots::Roots;
use portcullis_attest::snp::tcb::RawTcb;
use portcullis_attest::snp::verify::{Presented, SnpVerifier};
use portcullis_cli::rfc3339;
use portcullis_firmware_policy::{VerifiedBundle, appraise_report};
use portcullis_permit::Governance;
use portcullis_wire::hex::{hex, hex_u64};
use serde_json::{Value, json};

use crate::inputs::{Inputs, time};
use crate::outcome::{exit_code, json_report, print_checks, print_verdict};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The report, 1184 bytes.
    report: PathBuf,
    /// Certificates: PEM or DER, one or many, in any order.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    certs: Vec<PathBuf>,
    /// Revocation lists: PEM or DER.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    crl: Vec<PathBuf>,
    /// Roots instead of AMD's pinned ARKs.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    root: Vec<PathBuf>,
    /// Time of the verification, RFC 3339; now if absent.
    #[arg(long, value_name = "RFC3339")]
    at: Option<String>,
    /// Appraise against this bundle's reference values for nodes too.
    #[arg(long, requires = "governance_root")]
    policy: Option<PathBuf>,
    /// The governors' keys and threshold, which must have signed the bundle.
    #[arg(long, requires = "policy")]
    governance_root: Option<PathBuf>,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let mut inputs = Inputs::default();
    let at = time(arguments.at.as_deref())?;
    let report = inputs.read(&arguments.report, "report")?;
    let certificates = collateral(&arguments.certs, "certs", &mut inputs)?;
    let lists = collateral(&arguments.crl, "crl", &mut inputs)?;
    let roots = roots(&arguments.root, &mut inputs)?;
    let bundle = bundle(arguments, &mut inputs)?;

    let source = roots.source();
    let presented = certificates.certificates.clone();
    let mut supplied = certificates;
    supplied.extend(lists);
    let refused = supplied.refused;
    let lists = Collateral { crls: supplied.crls, ..Collateral::default() };
    let verifier = SnpVerifier::new(roots, lists);
    let mut checks = Checks::all();
    let verified = verifier.verify(&report, Presented::Certificates(&presented), at, &mut checks);
    check_refused(&refused, &mut checks);
    // Without authenticity there is nothing to appraise.
    let appraised = match (&bundle, &verified) {
        (Some(bundle), Some(verified)) => {
            checks.step("bundle.expired", bundle.check_time(at), "a bundle that is valid", "validity of the bundle");
            appraise_report(verified, Role::Node, bundle.policy(), &mut checks);
            true
        }
        _ => false,
    };
    let fields = Report::parse(&report, &mut Checks::refusals());
    if arguments.json {
        let mut body = json_report("portcullis/snp-report/1", &checks);
        body.insert("at".into(), rfc3339(at).into());
        body.insert("appraised".into(), appraised.into());
        body.insert("roots".into(), source.as_str().into());
        body.insert("inputs".into(), inputs.json());
        body.insert("report".into(), fields.as_ref().map_or(Value::Null, report_json));
        println!("{}", Value::Object(body));
    } else {
        println!("{} at {}, roots: {}\n", arguments.report.display(), rfc3339(at), source.as_str());
        print_checks(&checks);
        if let Some(fields) = &fields {
            print_summary(fields);
        }
        let note = match (appraised, bundle.is_some()) {
            (true, _) => "appraised against the policy",
            (false, true) => "NOT appraised: the report is not authentic",
            (false, false) => "authenticity only: nothing was appraised against a policy",
        };
        print_verdict(checks.verdict(), note);
    }
    Ok(exit_code(checks.verdict()))
}

/// Reads files that must hold certificates or CRLs.
fn collateral(paths: &[PathBuf], role: &str, inputs: &mut Inputs) -> Result<Collateral> {
    let mut all = Collateral::default();
    for path in paths {
        let bytes = inputs.read(path, role)?;
        all.extend(Collateral::parse(&bytes).with_context(|| path.display().to_string())?);
    }
    Ok(all)
}

/// A certificate that claims a place in AMD's chains and is not of AMD's profile
/// is a failure, not a missing input.
fn check_refused(refused: &[RefusedObject], checks: &mut Checks) {
    if let Some(object) = refused.iter().find(|object| object.claims_a_place()) {
        checks.require(
            "snp.certificates",
            false,
            || format!("{}: {}", object.common_name, object.error),
            || "certificates of AMD's profile".into(),
            "form of the certificates",
        );
    }
}

fn roots(paths: &[PathBuf], inputs: &mut Inputs) -> Result<Roots> {
    if paths.is_empty() {
        return Ok(Roots::amd()?);
    }
    let given = collateral(paths, "root", inputs)?.strict()?;
    if given.certificates.is_empty() {
        bail!("--root: no certificate in the given files");
    }
    Ok(Roots::given(given.certificates))
}

fn bundle(arguments: &Arguments, inputs: &mut Inputs) -> Result<Option<VerifiedBundle>> {
    let (Some(policy), Some(governance)) = (&arguments.policy, &arguments.governance_root) else { return Ok(None) };
    let describe = |path: &Path| path.display().to_string();
    let governors =
        Governance::decode(&inputs.read(governance, "governance-root")?).with_context(|| describe(governance))?;
    let bundle = VerifiedBundle::verify(&inputs.read(policy, "policy")?, &governors);
    Ok(Some(bundle.with_context(|| describe(policy))?))
}

/// Every field of a report: bytes as hex, 64-bit numbers as hex strings.
fn report_json(r: &Report) -> Value {
    let firmware = |v: FirmwareVersion| format!("{}.{}.{}", v.major, v.minor, v.build);
    let generation = r.cpuid_generation();
    json!({
        "version": r.version,
        "guest_svn": r.guest_svn,
        "policy": {
            "raw": hex_u64(r.policy.0),
            "abi_major": r.policy.abi_major(),
            "abi_minor": r.policy.abi_minor(),
            "smt_allowed": r.policy.smt_allowed(),
            "migration_agent_allowed": r.policy.migration_agent_allowed(),
            "debug_allowed": r.policy.debug_allowed(),
        },
        "family_id": hex(&r.family_id),
        "image_id": hex(&r.image_id),
        "vmpl": r.vmpl,
        "signature_algorithm": r.signature_algorithm,
        "current_tcb": tcb_json(r.current_tcb, generation),
        "platform_info": {
            "raw": hex_u64(r.platform_info.0),
            "smt_enabled": r.platform_info.smt_enabled(),
            "tsme_enabled": r.platform_info.tsme_enabled(),
            "ecc_enabled": r.platform_info.ecc_enabled(),
            "rapl_disabled": r.platform_info.rapl_disabled(),
            "ciphertext_hiding": r.platform_info.ciphertext_hiding(),
            "alias_check_complete": r.platform_info.alias_check_complete(),
            "tio_enabled": r.platform_info.tio_enabled(),
        },
        "key_info": {
            "raw": r.key_info.0,
            "author_key_present": r.key_info.author_key_present(),
            "chip_key_masked": r.key_info.chip_key_masked(),
            "signing_key": r.key_info.signing_key().describe(),
        },
        "report_data": hex(&r.report_data),
        "measurement": hex(&r.measurement),
        "host_data": hex(&r.host_data),
        "id_key_digest": hex(&r.id_key_digest),
        "author_key_digest": hex(&r.author_key_digest),
        "report_id": hex(&r.report_id),
        "report_id_ma": hex(&r.report_id_ma),
        "reported_tcb": tcb_json(r.reported_tcb, generation),
        "cpuid": r.cpuid.map(|c| json!({ "family": c.family, "model": c.model, "stepping": c.stepping })),
        "generation": generation.map(Generation::name),
        "chip_id": r.chip_id_hex(),
        "committed_tcb": tcb_json(r.committed_tcb, generation),
        "current_firmware": firmware(r.current_firmware),
        "committed_firmware": firmware(r.committed_firmware),
        "launch_tcb": tcb_json(r.launch_tcb, generation),
        "launch_mitigations": r.mitigations.map(|m| hex_u64(m.launch)),
        "current_mitigations": r.mitigations.map(|m| hex_u64(m.current)),
    })
}

/// The raw bytes always; the patch levels where CPUID says how to read them.
fn tcb_json(raw: RawTcb, generation: Option<Generation>) -> Value {
    let levels = generation.map(|generation| {
        let tcb = raw.decode(generation);
        json!({
            "fmc": tcb.fmc, "boot_loader": tcb.boot_loader, "tee": tcb.tee, "snp": tcb.snp, "microcode": tcb.microcode,
        })
    });
    json!({ "raw": hex(&raw.0), "levels": levels })
}

fn print_summary(r: &Report) {
    println!("\n  version      {}", r.version);
    println!("  chip id      {}", r.chip_id_hex());
    println!("  measurement  {}", hex(&r.measurement));
    println!("  report data  {}", hex(&r.report_data));
    println!("  policy       {}{}", hex_u64(r.policy.0), if r.policy.debug_allowed() { " DEBUG ALLOWED" } else { "" });
}
