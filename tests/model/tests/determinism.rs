//! Same inputs, same decision: the bytes to be signed do not depend on locale,
//! time zone, the order of hash maps, threads, folder, time or host.

use std::fs;
use std::path::Path;
use std::process::Command;

use portcullis_attest::snp::generation::Generation;
use portcullis_model::Stage;
use portcullis_model::record::record;

fn digest(file: &Path, threads: &str, change: impl FnOnce(&mut Command)) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis-model"));
    command.arg("--replay").arg(file).args(["--threads", threads]).env_clear();
    change(&mut command);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_bytes_to_be_signed_depend_on_the_inputs_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("requests.cbor");
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lab-root");
    let mut stage = Stage::new(&root, Generation::Milan).unwrap();
    fs::write(&file, record(&mut stage, 7, 500).unwrap()).unwrap();
    let required = digest(&file, "1", |_| ());
    assert_eq!(required.trim().len(), 64);
    // Every process has hash maps in another order.
    for _ in 0..4 {
        assert_eq!(digest(&file, "1", |_| ()), required);
    }
    for threads in ["2", "3", "16"] {
        assert_eq!(digest(&file, threads, |_| ()), required, "{threads} threads");
    }
    for (name, value) in [
        ("LC_ALL", "tr_TR.UTF-8"),
        ("LANG", "de_DE.UTF-8"),
        ("TZ", "Pacific/Kiritimati"),
        ("TZ", "America/St_Johns"),
        ("HOSTNAME", "elsewhere"),
        ("RUST_BACKTRACE", "full"),
    ] {
        assert_eq!(digest(&file, "2", |command| _ = command.env(name, value)), required, "{name}={value}");
    }
    assert_eq!(digest(&file, "2", |command| _ = command.current_dir("/")), required);
    // Another host name, where this test may make namespaces.
    let isolated = Command::new("unshare")
        .args(["-u", "sh", "-c", "hostname elsewhere && exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_portcullis-model"))
        .arg("--replay")
        .arg(&file)
        .output();
    match isolated {
        Ok(output) if output.status.success() => assert_eq!(String::from_utf8(output.stdout).unwrap(), required),
        _ => eprintln!("SKIPPED: no namespaces; nothing was shown about other hosts"),
    }
    // And it does depend on the inputs: another byte, another digest.
    fs::write(&file, record(&mut stage, 8, 500).unwrap()).unwrap();
    assert_ne!(digest(&file, "1", |_| ()), required);
}
