#![cfg(test)]
//! Launch measurements as others compute them, and PCR 11 of images.

use std::path::Path;
use std::process::{Command, Output};

use portcullis_vectors::vectors;
use serde_json::Value;

fn measure(arguments: &[String]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis-policy")).arg("measure").args(arguments).output().unwrap()
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The command line for a vector; `None` where its firmware is not at hand.
fn command(root: &Path, vector: &Value) -> Option<Vec<String>> {
    let arguments = &vector["args"];
    let name = Path::new(arguments["ovmf_file"].as_str()?).file_name()?.to_str()?;
    let ovmf = root.join(name);
    if vector["mode"] != "SEV_SNP" || !ovmf.exists() {
        return None;
    }
    let mut line = vec!["snp".into(), "--json".into(), "--ovmf".into(), ovmf.display().to_string()];
    let mut push = |flag: &str, value: Option<String>| {
        if let Some(value) = value {
            line.extend([flag.to_owned(), value]);
        }
    };
    push("--ovmf-hash", text(&arguments["snp_ovmf_hash_str"]));
    push("--vcpus", text(&arguments["vcpus"]));
    push("--vcpu-signature", text(&arguments["vcpu_sig"]));
    push("--guest-features", text(&arguments["guest_features"]));
    push("--hypervisor", text(&arguments["vmm_type"]).map(|name| name.to_lowercase()));
    push("--kernel", text(&arguments["kernel"]));
    if arguments["kernel"] != Value::Null {
        push("--initrd", text(&arguments["initrd"]));
        push("--append", text(&arguments["append"]));
    }
    Some(line)
}

#[test]
fn launch_measurements_are_those_of_other_tools() {
    let Some(root) = vectors("measure/sev-snp-measure") else { return };
    let json: Value = serde_json::from_slice(&std::fs::read(root.join("vectors.json")).unwrap()).unwrap();
    let (mut done, mut left) = (0, Vec::new());
    for vector in json.as_array().unwrap() {
        let name = vector["name"].as_str().unwrap();
        let Some(line) = command(&root, vector) else {
            left.push(name.to_owned());
            continue;
        };
        let output = measure(&line);
        if vector["expect_error"] == true {
            assert_eq!(output.status.code(), Some(2), "{name}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("no place for kernel hashes"), "{name}: {said}");
        } else {
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            let found: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(found["measurement"], vector["expected"], "{name}");
        }
        done += 1;
    }
    // The manifest says that the firmware of these is not in the folder.
    assert_eq!(left, ["test_snp_svsm_2_vcpus", "test_snp_svsm_4_vcpus"].map(str::to_owned)[..left.len()]);
    assert!(done >= 9, "only {done} vectors");
}

#[test]
fn firmware_that_is_known_by_its_metadata_alone() {
    let Some(root) = vectors("measure/ec2-metadata") else { return };
    let line = ["snp", "--metadata", &root.join("ovmf_img_1.json").display().to_string(), "--vcpus", "2"]
        .into_iter()
        .chain(["--hypervisor", "ec2-zero-rdx", "--guest-features", "0x1"])
        .map(str::to_owned)
        .collect::<Vec<_>>();
    let output = measure(&line);
    let expected = "4c6e33087d08fa770259484dddbef367086a15c3e2cf10038dc97229d39c942671c2e22b300178f8de594a3f2fa59303";
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected);
}

/// An independent calculator, where it supports the hypervisor.
#[test]
fn the_sev_crate_agrees() {
    use sev::measurement::snp::{SnpMeasurementArgs, snp_calc_launch_digest};
    use sev::measurement::vcpu_types::CpuType;
    use sev::measurement::vmsa::{GuestFeatures, VMMType};
    let Some(root) = vectors("measure/sev-snp-measure") else { return };
    let ovmf = root.join("ovmf_AmdSev_suffix.bin");
    let kernel = root.join("vectors.json");
    for (model, cpu, vcpus, hypervisor, vmm) in [
        ("EPYC-v4", CpuType::EpycV4, 1, "qemu", VMMType::QEMU),
        ("EPYC-Milan-v2", CpuType::EpycMilanV2, 3, "qemu", VMMType::QEMU),
        ("EPYC-Genoa", CpuType::EpycGenoa, 8, "qemu", VMMType::QEMU),
        ("EPYC-Turin", CpuType::EpycTurin, 2, "qemu", VMMType::QEMU),
        ("EPYC-Rome", CpuType::EpycRome, 2, "ec2-zero-rdx", VMMType::EC2),
    ] {
        let theirs = snp_calc_launch_digest(SnpMeasurementArgs {
            vcpus,
            vcpu_type: cpu,
            ovmf_file: ovmf.clone(),
            guest_features: GuestFeatures(0x21),
            kernel_file: Some(kernel.clone()),
            initrd_file: Some(kernel.clone()),
            append: Some("console=ttyS0"),
            ovmf_hash_str: None,
            vmm_type: Some(vmm),
        })
        .unwrap();
        let (ovmf, kernel) = (ovmf.display().to_string(), kernel.display().to_string());
        let vcpus = vcpus.to_string();
        let line = ["snp", "--ovmf", &ovmf, "--kernel", &kernel, "--initrd", &kernel, "--append", "console=ttyS0"]
            .into_iter()
            .chain(["--vcpus", &vcpus, "--vcpu-type", model, "--hypervisor", hypervisor, "--guest-features", "0x21"])
            .map(str::to_owned)
            .collect::<Vec<_>>();
        let output = measure(&line);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), theirs.get_hex_ld(), "{model} on {hypervisor}");
    }
}

#[test]
fn what_is_no_firmware_is_refused() {
    let Some(root) = vectors("measure/sev-snp-measure") else { return };
    let folder = tempfile::tempdir().unwrap();
    let image = std::fs::read(root.join("ovmf_AmdSev_suffix.bin")).unwrap();
    let path = folder.path().join("ovmf");
    let run = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let line = ["snp", "--ovmf", &path.display().to_string(), "--vcpus", "1", "--vcpu-type", "EPYC"];
        measure(&line.map(str::to_owned)).status.code()
    };
    assert_eq!(run(&image), Some(0));
    for bytes in [&image[..0], &image[..20], &image[..2048], &[0xff; 4096]] {
        assert_eq!(run(bytes), Some(2));
    }
    // Every length and count in the table, damaged: refused or measured, never a crash.
    for at in (image.len() - 400..image.len() - 32).step_by(7) {
        let mut changed = image.clone();
        changed[at] ^= 0xff;
        assert!(matches!(run(&changed), Some(0 | 2)), "byte {at}");
    }
}

/// A PE32+ image with these sections (PE/COFF specification, §2 to §4): size in
/// memory as given, content padded with junk to 512 bytes in the file.
#[expect(clippy::arithmetic_side_effects, reason = "sizes of a few hundred bytes, in a test")]
fn image(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let le32 = |value: usize| u32::try_from(value).unwrap().to_le_bytes();
    let mut headers = vec![0; 0x40];
    headers[..2].copy_from_slice(b"MZ");
    headers[0x3c] = 0x40;
    headers.extend(b"PE\0\0");
    headers.extend([0x64, 0x86]); // AMD64
    headers.extend(u16::try_from(sections.len()).unwrap().to_le_bytes());
    headers.extend([0; 12]);
    headers.extend(240_u16.to_le_bytes());
    headers.extend([0x22, 0]);
    let mut optional = vec![0; 240];
    optional[..2].copy_from_slice(&[0x0b, 0x02]); // PE32+
    optional[108] = 16; // data directories
    headers.extend(optional);
    let start = (headers.len() + 40 * sections.len()).next_multiple_of(512);
    let mut data = Vec::new();
    for (number, (name, content)) in sections.iter().enumerate() {
        let mut short = [0; 8];
        short[..name.len()].copy_from_slice(name.as_bytes());
        let padded = content.len().next_multiple_of(512);
        headers.extend(short);
        headers.extend(le32(content.len()));
        headers.extend(le32(0x1000 * (number + 1)));
        headers.extend(le32(padded));
        headers.extend(le32(start + data.len()));
        headers.extend([0; 12]);
        headers.extend([0x40, 0, 0, 0x40]);
        data.extend_from_slice(content);
        data.resize(data.len().next_multiple_of(512), 0xcc);
    }
    headers.resize(start, 0);
    [headers, data].concat()
}

#[test]
fn pcr_11_of_an_image_is_that_of_its_sections() {
    use portcullis_attest::tpm::pcr::Bank;
    use portcullis_attest::uki::pcr11;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("uki.efi");
    const MAGIC: &[u8] = b"#### LoaderInfo: systemd-stub 257.13-1 ####\0";
    let sections: [(&str, &[u8]); 5] =
        [(".sdmagic", MAGIC), (".osrel", b"ID=x"), (".cmdline", b"quiet"), (".linux", b"kernel"), (".pcrsig", b"{}")];
    std::fs::write(&path, image(&sections)).unwrap();
    let run = |phase: &str| {
        let line = ["uki", &path.display().to_string(), "--phase", phase, "--json"].map(str::to_owned);
        measure(&line)
    };
    let output = run("enter-initrd");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let measured: Vec<(&str, &[u8])> = sections[1..4].to_vec();
    let required = portcullis_wire::hex::hex(&pcr11(Bank::Sha256, &measured, &["enter-initrd"]));
    assert_eq!(found["value"], required);
    assert_eq!(found["sections"], serde_json::json!([".linux", ".osrel", ".cmdline"]));
    // Without a kernel, without a stub or a PE header it is no such image.
    for bad in [image(&sections[..3]), image(&sections[1..]), b"MZ".to_vec()] {
        std::fs::write(&path, bad).unwrap();
        assert_eq!(run("none").status.code(), Some(2));
    }
}

/// An old stub leaves out what it does not know; of one that nobody has looked at
/// nothing is said. Witnesses: the lists in the stubs of Debian (252, 254, 257, 262),
/// and "Added in version" in systemd-stub(7) for 253, 255, 256 and 258.
#[test]
fn pcr_11_is_of_the_sections_that_the_stub_knows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("uki.efi");
    let run = |version: &str| {
        let magic = format!("#### LoaderInfo: systemd-stub {version} ####\0");
        let sections: [(&str, &[u8]); 8] = [
            (".sdmagic", magic.as_bytes()),
            (".sbat", b"sbat,1"),
            (".uname", b"6.1"),
            (".ucode", b"cpio"),
            (".linux", b"kernel"),
            (".hwids", b"ids"),
            (".efifw", b"firmware"),
            (".dtbauto", b"tree"),
        ];
        std::fs::write(&path, image(&sections)).unwrap();
        measure(&["uki", &path.display().to_string(), "--phase", "none", "--json"].map(str::to_owned))
    };
    for (version, names) in [
        ("252.39-1~deb12u2", vec![".linux"]),
        ("253.5-1.fc38", vec![".linux"]),
        ("254.26-1~bpo12+1", vec![".linux", ".uname", ".sbat"]),
        ("255.4-1ubuntu8.10", vec![".linux", ".uname", ".sbat"]),
        ("256.7-1.fc41", vec![".linux", ".ucode", ".uname", ".sbat"]),
        ("257.13-1~deb13u1", vec![".linux", ".ucode", ".uname", ".sbat", ".hwids"]),
        ("258.1", vec![".linux", ".ucode", ".uname", ".sbat", ".hwids"]),
        ("262.1-1", vec![".linux", ".ucode", ".uname", ".sbat", ".hwids"]),
    ] {
        let found: Value = serde_json::from_slice(&run(version).stdout).unwrap();
        assert_eq!(found["sections"], serde_json::json!(names), "{version}");
    }
    let left_out = |version| serde_json::from_slice::<Value>(&run(version).stdout).unwrap()["notes"].to_string();
    assert!(left_out("257.13").contains(".dtbauto is left out") && !left_out("257.13").contains(".efifw"));
    assert!(left_out("258.1").contains(".efifw is left out") && left_out("256.7") == "[]");
    for (version, hint) in [
        ("249.11", "measures no sections into PCR 11: use a stub of 252 or later"),
        ("263~rc1", "newer than 262, the newest version known here: update Portcullis, or name what is measured"),
        ("x", "no systemd-stub in it: name what is measured with --section"),
    ] {
        let output = run(version);
        assert_eq!(output.status.code(), Some(2), "{version}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(hint), "{version}: {said}");
    }
}

/// `find_sections` of systemd's src/boot/stub.c: the sections before the first
/// `.profile`, overridden by those of the profile; the first of one name counts.
#[test]
fn pcr_11_is_of_the_profile_that_boots() {
    use portcullis_attest::tpm::pcr::Bank;
    use portcullis_attest::uki::pcr11;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("uki.efi");
    let write = |version: &str, sections: &[(&str, &[u8])]| {
        let magic = format!("#### LoaderInfo: systemd-stub {version} ####\0");
        std::fs::write(&path, image(&[&[(".sdmagic", magic.as_bytes())], sections].concat())).unwrap();
    };
    let run = |arguments: &[&str]| {
        let line = [&["uki", path.to_str().unwrap(), "--phase", "none"], arguments].concat();
        measure(&line.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let value = |output: &Output| String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let required = |sections: &[(&str, &[u8])]| portcullis_wire::hex::hex(&pcr11(Bank::Sha256, sections, &[]));
    let (main, debug): (&[u8], &[u8]) = (b"ID=main\nTITLE=Main\n", b"TITLE=Debug\nID=\"debug\"\n");
    let sections: [(&str, &[u8]); 7] = [
        (".linux", b"kernel"),
        (".initrd", b"initrd"),
        (".cmdline", b"base"),
        (".profile", main),
        (".profile", debug),
        (".cmdline", b"debug"),
        (".initrd", b"other"),
    ];
    write("257.3", &sections);
    let first = required(&[(".linux", b"kernel"), (".initrd", b"initrd"), (".cmdline", b"base"), (".profile", main)]);
    let second = required(&[(".linux", b"kernel"), (".initrd", b"other"), (".cmdline", b"debug"), (".profile", debug)]);
    for (arguments, required) in [
        (&["--profile", "0"][..], &first),
        (&["--profile", "main"], &first),
        (&["--profile", "1"], &second),
        (&["--profile", "debug"], &second),
    ] {
        assert_eq!(value(&run(arguments)), *required, "{arguments:?}");
    }
    let unsaid = run(&[]);
    assert_eq!(value(&unsaid), first);
    let said = String::from_utf8_lossy(&unsaid.stderr).into_owned();
    assert_eq!(said, "note: profile 0 of the profiles 0 (main), 1 (debug); --profile measures another\n");
    let unknown = run(&["--profile", "2"]);
    assert_eq!(unknown.status.code(), Some(2));
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("the image has the profiles 0 (main), 1 (debug)"), "{said}");
    // An older stub knows no profiles; with one of 257, the first of two sections counts.
    write("256.7", &sections);
    assert_eq!(run(&[]).status.code(), Some(2));
    write("256.7", &[sections[0], sections[2], sections[2]]);
    assert_eq!(run(&[]).status.code(), Some(2), "two sections");
    write("257.3", &[sections[0], sections[2], sections[5]]);
    assert_eq!(value(&run(&[])), required(&[sections[0], sections[2]]));
    assert_eq!(run(&["--profile", "1"]).status.code(), Some(2));
}

/// The list that a stub has of its sections counts, whatever its version: a newer
/// stub is read, and what a distribution has changed as well.
#[test]
fn the_list_in_the_stub_says_what_it_measures() {
    use portcullis_attest::tpm::pcr::Bank;
    use portcullis_attest::uki::pcr11_in_order;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("uki.efi");
    // The second section of the image stands at address 0x2000, the base is 0.
    let names = [".linux", ".later", ".osrel", ".pcrsig"];
    let list = |names: &[&str]| {
        let texts = 8 * (names.len() + 1);
        let address = |at: usize| (0x2000 + texts + 16 * at) as u64;
        let pointers = (0..names.len()).flat_map(|at| address(at).to_le_bytes());
        let mut data: Vec<u8> = pointers.chain([0; 8]).collect();
        for name in names {
            data.extend(name.bytes().chain(std::iter::repeat_n(0, 16 - name.len())));
        }
        data
    };
    let run = |list: &[u8]| {
        let sections: [(&str, &[u8]); 6] = [
            (".sdmagic", b"#### LoaderInfo: systemd-stub 300.1 ####\0"),
            (".rodata", list),
            (".osrel", b"ID=x"),
            (".linux", b"kernel"),
            (".later", b"new"),
            (".pcrsig", b"{}"),
        ];
        std::fs::write(&path, image(&sections)).unwrap();
        measure(&["uki", &path.display().to_string(), "--phase", "none"].map(str::to_owned))
    };
    let in_order: [(&str, &[u8]); 3] = [(".linux", b"kernel"), (".later", b"new"), (".osrel", b"ID=x")];
    let required = portcullis_wire::hex::hex(&pcr11_in_order(Bank::Sha256, &in_order, &[]));
    assert_eq!(String::from_utf8_lossy(&run(&list(&names)).stdout).trim(), required);
    // A list that is cut, or in doubt, says nothing, and 300 is not known otherwise.
    let whole = list(&names);
    for bad in [&whole[..8 * 4], &[0; 64], &[whole.as_slice(), &whole].concat()[..8], &list(&[".linux", ".linux"])] {
        assert_eq!(run(bad).status.code(), Some(2));
    }
}

/// The stub that Debian ships, and systemd's own calculator, where they are
/// installed (packages systemd-boot-efi and systemd).
#[test]
fn systemd_measure_agrees() {
    let tool = ["/usr/lib/systemd/systemd-measure", "/lib/systemd/systemd-measure"];
    let Some(tool) = tool.into_iter().find(|tool| Path::new(tool).exists()) else {
        eprintln!("SKIPPED: no systemd-measure; nothing was compared with it");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut theirs = Command::new(tool);
    let mut line = vec!["uki".to_owned()];
    for (name, content) in [("linux", "kernel"), ("osrel", "ID=x"), ("cmdline", "quiet"), ("initrd", "initrd")] {
        let file = folder.path().join(name);
        std::fs::write(&file, content).unwrap();
        theirs.arg(format!("--{name}={}", file.display()));
        line.extend(["--section".into(), format!("{name}={}", file.display())]);
    }
    for phase in ["enter-initrd", "enter-initrd:leave-initrd:sysinit:ready"] {
        let output = theirs_with(&theirs, phase);
        let required = output.lines().find_map(|line| line.strip_prefix("11:sha256=")).unwrap_or_default();
        let ours = measure(&[line.clone(), vec!["--phase".into(), phase.into()]].concat());
        assert_eq!(String::from_utf8_lossy(&ours.stdout).trim(), required, "{phase}: {output}");
    }
}

/// `systemd-measure calculate` with these sections.
fn theirs_with(command: &Command, phase: &str) -> String {
    let mut theirs = Command::new(command.get_program());
    theirs.args(command.get_args()).args(["--bank=sha256", &format!("--phase={phase}"), "calculate"]);
    let output = theirs.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn pcr_11_of_sections_and_phases() {
    let Some(root) = vectors("uki-pcr11/systemd-measure") else { return };
    let folder = tempfile::tempdir().unwrap();
    let json: Value = serde_json::from_slice(&std::fs::read(root.join("vector-no-phase.json")).unwrap()).unwrap();
    let mut line = vec!["uki".to_owned(), "--phase".into(), "none".into()];
    for section in json["sections"].as_array().unwrap() {
        let name = section["name"].as_str().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, portcullis_wire::hex::unhex(section["data_hex"].as_str().unwrap()).unwrap()).unwrap();
        line.extend(["--section".into(), format!("{name}={}", path.display())]);
    }
    for bank in ["sha256", "sha384", "sha512"] {
        let output = measure(&[line.clone(), vec!["--bank".into(), bank.into()]].concat());
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), json["pcr11"][bank].as_str().unwrap());
    }
    line[2] = "enter-initrd:ready:nonsense".into();
    assert_eq!(measure(&line).status.code(), Some(2));
}
