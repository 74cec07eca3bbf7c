//! Converts a CoRIM to drafts in a bundle's folder.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use ciborium::Value;
use portcullis_cli::{rfc3339, say, time_or_now};
use portcullis_firmware_policy::document::Reference;
use serde_json::json;

use super::read::{self, Keys, Read};
use super::signed::{self, Trust};
use super::{Account, ImportArguments, snp};
use crate::files::{self, Refused};

/// Certificates of trust anchors: PEM, and DER.
const TAG_PKIX_CERT: u64 = 555;
const TAG_PKIX_ASN1_CERT: u64 = 562;
/// The accepted vendor name for AMD's roots.
const VENDOR: &str = "Advanced Micro Devices";

/// The drafts from a CoRIM: files of a bundle's folder.
struct Drafts {
    images: Vec<(String, Reference)>,
    roots: Vec<(String, Vec<u8>)>,
    account: Account,
    read: Read,
    /// Name of the signer; absent if the CoRIM is not signed.
    signer: Option<String>,
}

pub(super) fn run(arguments: &ImportArguments) -> Result<()> {
    let bytes = files::read(&arguments.file)?;
    let at = time_or_now(arguments.at.as_deref()).map_err(|why| anyhow::anyhow!("--at {why}"))?;
    let trust = match (&arguments.key, &arguments.root) {
        (Some(key), _) => Some(Trust::Key(key)),
        (None, Some(root)) => Some(Trust::Root(root)),
        (None, None) => None,
    };
    let refused = |error: anyhow::Error| match error.is::<Refused>() {
        true => error,
        false => Refused::new(format!("{}: {error:#}", arguments.file.display())).into(),
    };
    let drafts = drafts(&bytes, trust.as_ref(), at).map_err(refused)?;
    if drafts.read.not_after.is_some_and(|end| at > end) {
        let end = drafts.read.not_after.map(rfc3339).unwrap_or_default();
        return Err(Refused::new(format!("the CoRIM was valid until {end}")).into());
    }
    let written = arguments.into.as_ref().map(|folder| write(&drafts, folder)).transpose()?.unwrap_or_default();
    if arguments.json {
        let body = json!({
            "schema": "portcullis/corim-import/1",
            "id": drafts.read.id, "profile": drafts.read.profile, "signer": drafts.signer,
            "not_before": drafts.read.not_before.map(rfc3339), "not_after": drafts.read.not_after.map(rfc3339),
            "values": drafts.account.json(), "files": written,
        });
        say!("{body}");
        return Ok(());
    }
    let profile = drafts.read.profile.as_deref().unwrap_or("no profile");
    let signer = drafts.signer.as_ref().map_or_else(|| "not signed".into(), |name| format!("signed by {name}"));
    say!("CoRIM {}, {profile}, {signer}", drafts.read.id);
    drafts.account.print();
    for file in &written {
        say!("{file}: drafted, not reviewed");
    }
    Ok(())
}

fn drafts(bytes: &[u8], trust: Option<&Trust<'_>>, at: u64) -> Result<Drafts> {
    let bytes = read::without_outer_tags(bytes);
    let signed = signed::is_signed(bytes);
    let mut account = Account::default();
    let (payload, signer) = match (signed, trust) {
        (true, Some(trust)) => {
            let (payload, signer) = signed::open(bytes, trust, at, &mut account)?;
            account.keep("signer", "told here; bundles are signed by governors");
            (payload, Some(signer))
        }
        (true, None) => {
            return Err(Refused::new("a signed CoRIM: --key or --root says who may have signed it").into());
        }
        (false, Some(_)) => return Err(Refused::new("the CoRIM is not signed, but a signer was named").into()),
        (false, None) => (bytes.to_vec(), None),
    };
    let read = read::document(&payload, &mut account)?;
    let (mut images, mut roots) = (Vec::new(), Vec::new());
    for reference in &read.references {
        if !snp::is_snp(&reference.environment) {
            // The keys of another profile have other meanings.
            for measurement in &reference.measurements {
                let why = "its class is not AMD SEV-SNP's";
                measurement.values.iter().for_each(|(label, _)| {
                    account.lose(format!("{}.mval.{}", measurement.place, read::shown(label)), why);
                });
            }
            continue;
        }
        let number = images.len().saturating_add(1);
        let name = if number == 1 { read.id.clone() } else { format!("{} {number}", read.id) };
        if let Some(mut image) = snp::image(reference, &name, &mut account)? {
            image.not_before = read.not_before.map(rfc3339);
            // The end of validity is exclusive in a bundle, and inclusive in a CoRIM.
            image.expires = read.not_after.map(|end| rfc3339(end.saturating_add(1)));
            images.push((format!("reference/{}.toml", file_name(&name)), image));
        }
    }
    for keys in &read.keys {
        take_keys(keys, &mut roots, &mut account).with_context(|| keys.place.clone())?;
    }
    Ok(Drafts { images, roots, account, read, signer })
}

fn take_keys(keys: &Keys, roots: &mut Vec<(String, Vec<u8>)>, account: &mut Account) -> Result<()> {
    let environment = &keys.environment;
    if environment.vendor.as_deref() != Some(VENDOR) {
        if environment.vendor.is_none() && environment.model.as_deref().is_some_and(|m| m.starts_with("ARK-")) {
            bail!("class: vendor is missing, required {VENDOR:?}");
        }
        keys.keys.iter().for_each(|_| account.lose(&keys.place, "a key that is not of AMD"));
        return Ok(());
    }
    for (at, key) in keys.keys.iter().enumerate() {
        let place = format!("{}.keys[{at}]", keys.place);
        let model = environment.model.as_deref().context("class: model is missing")?;
        let bytes = match key {
            Value::Tag(TAG_PKIX_CERT, inner) => inner.as_text().map(|text| text.as_bytes().to_vec()),
            Value::Tag(TAG_PKIX_ASN1_CERT, inner) => inner.as_bytes().cloned(),
            other => {
                account.lose(place, format!("{}: roots are certificates", read::kind(other)));
                continue;
            }
        };
        let bytes = bytes.with_context(|| format!("{place}: a certificate without content"))?;
        let path = format!("roots/{}.pem", file_name(model));
        portcullis_attest::snp::collateral::Collateral::parse(&bytes)
            .and_then(portcullis_attest::snp::collateral::Collateral::strict)
            .map_err(|error| anyhow::anyhow!("{place}: {error}"))?;
        account.keep(place, format!("{path}, for roots = \"given\""));
        roots.push((path, bytes));
    }
    Ok(())
}

fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '-' }).collect()
}

/// Writes all drafts, or no draft at all: existing files are not changed.
fn write(drafts: &Drafts, folder: &Path) -> Result<Vec<String>> {
    if !folder.is_dir() {
        bail!("{}: not a folder; `portcullis-policy new` makes one", folder.display());
    }
    let header = "# Drafted from a CoRIM, which does not say what a measurement covers: set covers\n\
                  # and role, compare every value, and set reviewed = true.\n";
    let mut all: Vec<(String, Vec<u8>)> = drafts.roots.clone();
    for (path, image) in &drafts.images {
        all.push((path.clone(), format!("{header}{}", toml::to_string(image)?).into_bytes()));
    }
    if let Some((path, _)) = all.iter().find(|(path, _)| folder.join(path).exists()) {
        bail!("{}: exists; drafts take the place of nothing", folder.join(path).display());
    }
    for (path, bytes) in &all {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        files::write(&path, bytes)?;
    }
    Ok(all.into_iter().map(|(path, _)| path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes every byte in several ways, and cuts the file at every length. The result is
    /// an error or an account; the account of a whole file never has fewer values than the
    /// file.
    #[test]
    fn no_damage_stops_the_reader() {
        for name in
            ["sevsnp-veraison/corim-sevsnp-valid.cbor", "veraison-comid/comid-5.cbor", "veraison-signed/corim-1.cbor"]
        {
            let Some(folder) = portcullis_vectors::vectors("corim") else { return };
            let sound = fs::read(folder.join(name)).unwrap();
            let all = drafts(&sound, None, 0).unwrap().account.0.len();
            assert!(all > 1, "{name}");
            for at in 0..sound.len() {
                assert!(drafts(&sound[..at], None, 0).is_err(), "{name} cut at {at}");
                for change in [0x01, 0x20, 0x80, 0xff] {
                    let mut damaged = sound.clone();
                    damaged[at] ^= change;
                    drop(drafts(&damaged, None, 0));
                }
            }
        }
    }
}
