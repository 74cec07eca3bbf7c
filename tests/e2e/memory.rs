#![cfg(test)]
//! THREATS row 25, from the attacker's side: the test reads the memory of a serving
//! authority as a core dump would hold it, and searches it for the keys in its sealed
//! file.

mod common;

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use memchr::memmem;
use portcullis_attest::binding::Role;
use portcullis_attester::{DerivedKeyRequest, OpenMachine, SealedBlob};
use portcullis_firmware_policy::VerifiedBundle;
use portcullis_lab::deployment::SLEEP;
use portcullis_lab::{Deployment, LabPlatform};
use portcullis_permit::Governance;
use portcullis_wire::{Fields, decode};

/// Secrets that must not stay in memory: the halves of the key-encryption key, that
/// key, the permit key's document and scalar.
struct Secrets {
    named: Vec<(&'static str, Vec<u8>)>,
    /// The log's signing keys are these seeds; the library holds each once.
    seeds: Vec<(&'static str, Vec<u8>)>,
}

/// Opens `keys.sealed` by hand, on the machine itself.
fn open_sealed(deployment: &Deployment) -> Secrets {
    let governance = Governance::decode(&fs::read(deployment.path("governance.cbor")).unwrap()).unwrap();
    let bundle = VerifiedBundle::verify(&fs::read(deployment.path("bundle.pcb")).unwrap(), &governance).unwrap();
    let mut machine = LabPlatform { machine: deployment.machine("authority") }.open().unwrap();
    let sealed = fs::read(deployment.path("state-authority/keys.sealed")).unwrap();
    let mut fields = Fields::of(decode(&sealed, 1 << 16).unwrap()).unwrap();
    let request = DerivedKeyRequest {
        guest_svn: u32::try_from(fields.uint(1).unwrap()).unwrap(),
        tcb_version: fields.uint(2).unwrap(),
    };
    let blob = SealedBlob { public: fields.bytes(3).unwrap(), private: fields.bytes(4).unwrap() };
    let nonce: [u8; 12] = fields.array(5).unwrap();
    let mut cipher = fields.bytes(6).unwrap();
    let selection = bundle.policy().selection(Role::Authority);
    let secret = machine.tpm().unwrap().unseal(&blob, selection).unwrap();
    let derived = machine.snp().unwrap().derived_key(&request).unwrap();
    let mut kek = [0; 32];
    let okm = Salt::new(HKDF_SHA256, &[]).extract(&[secret.as_slice(), derived.as_slice()].concat());
    okm.expand(&[b"portcullis/kek/1"], HKDF_SHA256).unwrap().fill(&mut kek).unwrap();
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &kek).unwrap());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let plain = key.open_in_place(nonce, Aad::from(b"portcullis/kek/1"), &mut cipher).unwrap();
    let mut keys = Fields::of(decode(plain, 1 << 16).unwrap()).unwrap();
    let document = keys.bytes(1).unwrap();
    // ECPrivateKey (RFC 5915): version 1, then the scalar as an octet string of 32.
    let marker = [0x02, 0x01, 0x01, 0x04, 0x20];
    let at = document.windows(5).position(|window| window == marker).unwrap() + 5;
    let scalar = document[at..at + 32].to_vec();
    Secrets {
        named: vec![
            ("the TPM's secret", secret.to_vec()),
            ("the processor's derived key", derived.to_vec()),
            ("the key-encryption key", kek.to_vec()),
            ("the permit key's PKCS#8", document),
            ("the permit key's scalar", scalar),
        ],
        seeds: vec![("the checkpoint seed", keys.bytes(2).unwrap()), ("the receipt seed", keys.bytes(3).unwrap())],
    }
}

/// Every readable mapping, as a core dump would hold it.
fn memory_of(pid: u32) -> Option<Vec<Vec<u8>>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let mut memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut regions = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, end) = line.split_whitespace().next()?.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        memory.seek(SeekFrom::Start(start)).ok()?;
        let mut region = vec![0; usize::try_from(end - start).ok()?];
        // Unreadable regions (guard pages, devices) are in no core dump either.
        if memory.read_exact(&mut region).is_ok() {
            regions.push(region);
        }
    }
    Some(regions)
}

fn count(regions: &[Vec<u8>], needle: &[u8]) -> usize {
    regions.iter().map(|region| memmem::find_iter(region, needle).count()).sum()
}

#[test]
fn threat_25_a_serving_authority_holds_no_key_outside_the_signer() {
    let (_folder, deployment, daemon) = common::serving();
    assert!(deployment.request("node-1", SLEEP).unwrap().status.success());
    let Some(regions) = memory_of(daemon.id()) else {
        eprintln!("SKIPPED: this user may not read the daemon's memory; nothing was shown about what it holds");
        return;
    };
    // The search works: it finds the origin, which the configuration holds.
    assert!(count(&regions, b"lab/authority") > 0);
    drop(daemon);
    let secrets = open_sealed(&deployment);
    let found = |secrets: &[(&'static str, Vec<u8>)]| -> Vec<(&str, usize)> {
        secrets.iter().map(|(name, secret)| (*name, count(&regions, secret))).collect()
    };
    let none = secrets.named.iter().map(|(name, _)| (*name, 0)).collect::<Vec<_>>();
    assert_eq!(found(&secrets.named), none);
    let signers = secrets.seeds.iter().map(|(name, _)| (*name, 1)).collect::<Vec<_>>();
    assert_eq!(found(&secrets.seeds), signers, "beside the signer's own copy");
}
