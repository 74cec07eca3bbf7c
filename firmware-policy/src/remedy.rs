//! Every check id with its cause and remedy: the source of `docs/checks.md`.

/// The readers of a check's result. A remedy names only tools that its reader has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Runs a node: has the machine, `portcullis` and its configuration, and can
    /// ask the governors.
    Node,
    /// Writes and signs bundles and commands, with `portcullis-policy`.
    Governor,
    /// Judges files with `portcullis-audit`, and contacts the owners of the machines.
    Auditor,
    /// Runs an authority: has the machine, `portcullisd` and its configuration,
    /// and can ask the governors.
    Operator,
}

impl Reader {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Node, Self::Governor, Self::Auditor, Self::Operator];

    /// The reader's name in `docs/checks.md`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Governor => "governor",
            Self::Auditor => "auditor",
            Self::Operator => "authority's operator",
        }
    }
}

/// One check, or a family of checks whose id ends in `*`.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Stable dotted id; a trailing `*` stands for a number or name.
    pub id: &'static str,
    /// The meaning of a failure of this check.
    pub cause: &'static str,
    /// The remedy for readers without a separate entry in `remedies`.
    pub remedy: &'static str,
    /// Separate remedies for some readers.
    pub remedies: &'static [(Reader, &'static str)],
}

/// Checks of an authority's own machine, log and witnesses.
const OF_AUTHORITIES: [&str; 5] = ["anchor.", "watch.", "witness.", "log.storage", "log.clock"];

impl Entry {
    /// The remedy for one reader. A node learns of an authority's own checks when it asks
    /// an authority that signs nothing: its remedy is to tell the operator, unless the
    /// entry separates the operator's remedy from that of others.
    #[must_use]
    pub fn remedy(&self, reader: Reader) -> &'static str {
        let own = |wanted| self.remedies.iter().find(|(of, _)| *of == wanted).map(|(_, text)| *text);
        let of_authority = OF_AUTHORITIES.iter().any(|family| self.id.starts_with(family));
        if reader == Reader::Node && of_authority && own(Reader::Operator).is_none() {
            return "Tell the authority's operator: it is the authority that has failed this check, not this node.";
        }
        own(reader).unwrap_or(self.remedy)
    }
}

/// The entry for a check.
#[must_use]
pub fn entry(id: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| match entry.id.strip_suffix('*') {
        Some(prefix) => id.starts_with(prefix),
        None => entry.id == id,
    })
}

/// The remedy of a check for one reader.
#[must_use]
pub fn remedy(id: &str, reader: Reader) -> &'static str {
    entry(id).map_or("See docs/checks.md.", |entry| entry.remedy(reader))
}

macro_rules! catalogue {
    ($($id:literal: $cause:literal => $remedy:literal $(, $reader:ident $text:literal)*;)*) => {
        /// All checks, in the order of their execution.
        pub const CATALOGUE: &[Entry] = &[$(Entry {
            id: $id,
            cause: $cause,
            remedy: $remedy,
            remedies: &[$((Reader::$reader, $text)),*],
        }),*];
    };
}

catalogue! {
    "snp.length": "The report is not 1184 bytes long." => "Pass the raw report, without a header or an envelope.",
        Node "Update Portcullis: the machine's devices gave something else than a report.",
        Auditor "Pass the raw report; for a TSM report or another envelope, use portcullis-audit evidence.";
    "snp.version": "The report version is not 2, 3, 4 or 5." => "Update Portcullis, or ask for a known report version.";
    "snp.reserved": "A field or bit that the ABI reserves is set." => "Treat the report as forged; update Portcullis if AMD has defined the field.";
    "snp.signature_algorithm": "The report names another algorithm than ECDSA P-384 with SHA-384." => "Treat the report as forged.";
    "snp.signature.form": "Bytes beyond r and s are set in the signature." => "Treat the report as altered.";
    "snp.signing_key": "The report is unsigned, or signed by an unknown kind of key." => "Have the host provision a VCEK or VLEK.",
        Auditor "Do not rely on the report; ask the machine's operator for one that a VCEK or VLEK signed.";
    "snp.chip_key": "The host masked the chip key." => "Have the host clear MASK_CHIP_KEY.",
        Auditor "Ask the machine's operator for a report that was made with MASK_CHIP_KEY cleared.";
    "snp.certificates": "The host's certificate table is malformed, or a certificate in it or on the command line is not of AMD's profile." => "Have the host's operator load the certificates of AMD's KDS.",
        Auditor "Verify the report without the table: fetch the certificates with portcullis collateral fetch --report, then portcullis-audit snp-report with --cache.";
    "snp.certificates.known": "The host's certificate table has entries, but none of a known kind." => "Have the host's operator load AMD's certificates under their GUIDs: VCEK or VLEK, ASK and ARK.",
        Auditor "Verify the report without the table: fetch the certificates with portcullis collateral fetch --report, then portcullis-audit snp-report with --cache.";
    "snp.vek": "The certificate of the signing key is missing." => "Fetch it from AMD's KDS, or have the host load it.",
        Auditor "Pass it with --certs; or get it with portcullis collateral fetch --report and pass that folder with --cache.";
    "snp.vek.profile": "The endorsement key's certificate is not of AMD's profile." => "Fetch the certificate from AMD's KDS again.";
    "snp.issuer": "The ASK or ASVK is missing." => "Ask the governors for a bundle with the ASK or ASVK of the product.",
        Governor "Put it into the bundle's folder collateral/; portcullis collateral fetch gets it.",
        Auditor "Pass it with --certs; or get it with portcullis collateral fetch and pass that folder with --cache.";
    "snp.issuer.profile": "The issuer is not the ASK or ASVK of the root's product." => "Supply the right chain for the product.";
    "snp.root": "The chain does not end at a trusted root." => "Treat the evidence as foreign: its root is neither AMD's nor named in the governors' bundle.",
        Governor "Treat the evidence as foreign. For a lab, put its root into roots/ and write roots = \"given\".",
        Auditor "Treat the evidence as foreign. For a lab, pass its root with --root.";
    "snp.root.profile": "The root is not a self-signed CA with RSA-4096." => "Ask the governors for a bundle with a proper root.",
        Governor "Put the right certificate into roots/, or write roots = \"amd\".",
        Auditor "Pass the right certificate with --root, or leave --root out to use AMD's.";
    "snp.chain.issuer": "The root did not sign the ASK or ASVK." => "Treat the chain as forged.";
    "snp.chain.vek": "The ASK or ASVK did not sign the endorsement key." => "Treat the chain as forged.";
    "snp.validity": "A certificate of the chain is not valid at this time." => "Check the clock; fetch a new certificate.",
        Auditor "Name the time at which the evidence was made with --at; if it is right, fetch a new certificate.";
    "snp.crl": "There is no current revocation list." => "Ask the governors for a bundle with a current CRL.",
        Governor "Put a current CRL into the bundle's folder collateral/; portcullis collateral fetch gets it from AMD's KDS.",
        Auditor "Pass a list that was current at that time with --crl; or get it with portcullis collateral fetch and pass that folder with --cache.";
    "snp.revoked": "A certificate of the chain is revoked." => "Update the platform so that it gets a new chain; do not trust this one.",
        Auditor "Do not rely on the report: AMD has revoked a key in its chain.";
    "snp.product": "Certificate, CPUID and root are of different products." => "Treat the evidence as forged.";
    "snp.csp_id": "A VLEK certificate without a provider id." => "Fetch the VLEK certificate again.";
    "snp.chip_id": "The certificate is of another chip." => "Fetch the VCEK of this chip.",
        Auditor "Pass the VCEK of the report's chip with --certs; portcullis collateral fetch --report gets it.";
    "snp.tcb.form": "Reserved bytes of a TCB version are set." => "Treat the report as forged.";
    "snp.tcb.order": "The TCB versions are not in the order that firmware keeps." => "Treat the report as forged.";
    "snp.tcb.certificate": "The certificate is for another TCB than the reported one." => "Fetch the VCEK for the reported TCB.",
        Auditor "Pass the VCEK for the reported TCB with --certs; portcullis collateral fetch --report gets it.";
    "snp.signature": "The signature over the report does not verify." => "Treat the report as forged or altered.";
    "tpm.attest": "The signed structure cannot be read." => "Send the TPMS_ATTEST as the TPM returned it.",
        Auditor "Pass the TPMS_ATTEST as the TPM returned it.";
    "tpm.attest.magic": "The structure was not made by a TPM." => "Treat the quote as forged.";
    "tpm.attest.type": "The structure is no quote." => "Send the result of TPM2_Quote.",
        Auditor "Pass the result of TPM2_Quote.";
    "tpm.attest.form": "The structure is not exactly a quote." => "Send the TPMS_ATTEST as the TPM returned it.",
        Auditor "Pass the TPMS_ATTEST as the TPM returned it.";
    "tpm.ak": "The attestation key cannot be read." => "Send the key's TPM2B_PUBLIC, TPMT_PUBLIC or PEM.",
        Auditor "Pass the key's TPM2B_PUBLIC, TPMT_PUBLIC or PEM.";
    "tpm.ak.attributes": "The key may sign what its TPM did not make, or its attributes are unknown." => "Use a restricted signing key; send its public area.",
        Auditor "Pass the key's public area instead of a bare key; if it is not a restricted signing key, do not rely on the quote.";
    "tpm.signature.form": "The signature cannot be read." => "Send the TPMT_SIGNATURE as the TPM returned it.",
        Auditor "Pass the TPMT_SIGNATURE as the TPM returned it.";
    "tpm.scheme": "The signature scheme is weak or not that of the key." => "Use a key with SHA-256 or SHA-384.",
        Auditor "Do not rely on the quote; ask for one by a key with SHA-256 or SHA-384.";
    "tpm.signature": "The signature over the quote does not verify." => "Treat the quote as forged, or supply the right key.";
    "tpm.nonce": "The quote was made for another challenge." => "Ask for a new quote.",
        Auditor "Compare --nonce with the challenge that was sent; a quote for another challenge proves nothing about this one.";
    "tpm.selection": "The quote does not cover exactly the required PCRs." => "Quote the PCRs that the verifier asks for.",
        Auditor "Ask for a quote that covers the required PCRs.";
    "tpm.bank": "The quote relies on SHA-1." => "Enable the SHA-256 bank and quote it alone.",
        Auditor "Ask for a quote of the SHA-256 bank alone.";
    "tpm.pcrs": "Values of quoted PCRs are missing." => "Send the values with the quote.",
        Auditor "Pass the values that were read with the quote.";
    "tpm.pcr_digest": "The values are not those that were quoted." => "Read the PCRs again and quote at once.",
        Auditor "Pass the values that were read with this quote; otherwise treat them as altered.";
    "tpm.eventlog": "The event log is missing or malformed." => "Send the firmware's event log unaltered.",
        Auditor "Pass the firmware's event log unaltered with --eventlog, or the values that the PCRs must have with --expected-pcrs.";
    "tpm.eventlog.user_space": "The log of what user space measured cannot be read." => "Send /run/log/systemd/tpm2-measure.log of this boot unaltered.",
        Auditor "Pass the machine's tpm2-measure.log of that boot unaltered, with --user-space.";
    "tpm.eventlog.bank": "An event has no digest for the quoted bank." => "Have the firmware log digests of that bank.",
        Auditor "Ask the machine's operator for a log with digests of that bank.";
    "tpm.expected.*": "A PCR does not have the value that was named for it." => "Treat the machine as changed since the values were taken, or name the values of this image.";
    "tpm.pcr.*": "The event logs do not lead to the quoted value, and no reference value admits it." => "Send the logs of this boot, that of user space among them; if they are complete, treat the machine as altered.",
        Governor "Add the value to [pcrs] of the image if it is known to be good; otherwise treat the machine as altered.",
        Auditor "Pass all logs of the same boot, that of user space among them (--user-space); otherwise treat the machine as altered.";
    "tpm.certificate": "The certificate of the TPM's key cannot be read." => "Take it from the NV index of the TPM again, from its first byte.";
    "tpm.certificate.chain": "The certificate does not lead to a trusted root of a TPM vendor, or is not valid at this time." => "Supply the vendor's root and the certificates between; do not use the TPM if they do not exist.";
    "tpm.certificate.purpose": "The certificate was issued for something else, such as an endorsement key or a platform." => "Supply the certificate of this kind of key.";
    "tpm.certificate.usage": "The certificate's key usage is not that of this kind of key: attestation keys sign, endorsement keys decrypt, neither issues certificates." => "Supply the certificate of the attestation key, not that of the endorsement key.";
    "tpm.certificate.key": "The certificate is for a key that cannot be of a TPM here." => "Supply the certificate of an RSA, P-256 or P-384 key.";
    "tpm.certificate.same_key": "The certificate is for another key." => "Supply the certificate of the key that signed.";
    "svsm.vmpl": "The report is not of the service module's level." => "Take the report of VMPL 0 through the service module.",
        Auditor "Ask for the report of VMPL 0, taken through the service module.";
    "svsm.manifest": "The module's manifest is not that of a vTPM." => "Ask the module for the vTPM service, manifest version 0.",
        Auditor "Ask for the manifest of the vTPM service, version 0.";
    "azure.form": "The HCL report cannot be read, or is not about an SEV-SNP guest." => "Read NV index 0x01400001 again; Intel TDX is not supported.",
        Auditor "Pass the content of NV index 0x01400001; Intel TDX is not supported.";
    "azure.runtime_data": "The SNP report does not vouch for the runtime data." => "Treat the evidence as forged or put together from two boots.";
    "azure.keys": "The runtime data name no attestation key that is understood." => "Update the paravisor, or Portcullis.";
    "azure.ak": "The quote is signed by another key than the paravisor vouches for." => "Quote with the key at handle 0x81000003.",
        Auditor "Ask for a quote by the key at handle 0x81000003; otherwise treat it as another machine's.";
    "azure.user_data": "The report was made before, or for another request." => "Write the verifier's data to NV index 0x01400002 and read the report again.",
        Auditor "Compare --user-data with what was asked for; pass --user-data none where nothing was. Otherwise treat the report as made for somebody else.";
    "ima.form": "The measurement list cannot be read." => "Read binary_runtime_measurements again. Where a template or a byte order is not supported, the finding says which.",
        Auditor "Ask for binary_runtime_measurements again. Where a template or a byte order is not supported, the finding says which.";
    "ima.bank": "Only SHA-1 vouches for the list." => "Quote the PCRs of the SHA-256 bank.",
        Auditor "Ask for a quote of PCR 10 in the SHA-256 bank.";
    "ima.template": "An entry does not have the hash that it states." => "Read the list of another bank if the finding says so; otherwise treat the list as edited.";
    "ima.pcr": "The list does not lead to the quoted value of a PCR that it has entries for, or there is no such value." => "Quote every PCR that the list has entries for. Where it was quoted, read list and quote again; if that does not help, treat the list as edited.",
        Auditor "Pass the value of every PCR that the list has entries for. Where it was passed, treat the list as edited, or as one of another boot.";
    "ima.boot_aggregate": "The list does not begin with this boot." => "Read the list from its beginning, and list and PCRs of one boot.",
        Auditor "Ask for the list from its beginning, and for list and PCRs of one boot.";
    "ima.violations": "A file changed while it was measured, so that nothing proves what it was." => "Find out which program writes to files that run.",
        Auditor "Ask the machine's operator which program writes to files that run.";
    "ima.files": "A file was measured that is not allowed." => "Remove the file, or ask the governors to allow its digest; otherwise treat the machine as altered.",
        Governor "Add its digest to the image's list in ima/ if it belongs there; otherwise treat the machine as altered.",
        Auditor "Add its digest to the list of --allow if you know the file; otherwise treat the machine as altered.";
    "evidence.form": "The evidence cannot be read." => "Use a client of the same protocol version.";
    "evidence.batch": "The batch proof does not fit its own numbers." => "Treat the authority as faulty.";
    "evidence.binding": "The report was made for another session, nonce or request." => "Attest again on this connection; if it persists, somebody relays.",
        Auditor "Compare nonce and request with what was asked, --report-data; otherwise treat the evidence as relayed.";
    "bundle.expired": "The policy bundle is not valid any more." => "Ask the governors for a new bundle.",
        Governor "Sign a bundle with a higher version and a later expires, and submit it.",
        Auditor "Name the time of the decision with --at, or pass the bundle that was valid then.";
    "bundle.not_before": "The policy bundle is not valid yet." => "Check the clock; if it is right, ask the governors.",
        Governor "Wait until it begins, or sign one with an earlier not_before.",
        Auditor "Name the time of the decision with --at, or pass the bundle that was valid then.";
    "bundle.unsigned": "Nobody signed the bundle." => "Ask the governors for the bundle with their signatures.",
        Governor "Sign it with portcullis-policy sign and join the signatures with assemble.";
    "bundle.signer": "One governor signed the bundle twice." => "Ask the governors for a bundle with one signature of each.",
        Governor "Assemble the bundle again, with one signature of each governor.";
    "bundle.threshold": "Too few governors signed the bundle." => "Ask the governors for a bundle that enough of them signed.",
        Governor "Collect signatures of more governors with portcullis-policy sign; those of others do not count.";
    "bundle.signature": "A signature on the bundle is malformed or of another type." => "Ask the governors for the bundle as they assembled it.",
        Governor "Sign the bundle again with portcullis-policy sign.";
    "bundle.archive": "The bundle's archive is not the deterministic archive of its files." => "Ask the governors for the bundle as they assembled it.",
        Governor "Make it again with portcullis-policy build.";
    "bundle.document": "A text of the bundle is malformed or contradicts itself." => "Ask the governors for a sound bundle; this one does not pass their own check.",
        Governor "Run portcullis-policy check on the folder and mend what it names.";
    "bundle.cedar": "The Cedar policies do not validate against the schema." => "Ask the governors for a sound bundle; this one does not pass their own check.",
        Governor "Run portcullis-policy check on the folder and mend what it names.";
    "bundle.collateral": "A root, certificate or CRL in the bundle is malformed." => "Ask the governors for a sound bundle; this one does not pass their own check.",
        Governor "Fetch the named file again and make a new bundle.";
    "snp.crl.number": "The new bundle has an older revocation list than the active one." => "Ask the governors for a bundle with the newest CRL of each root.",
        Governor "Put the newest CRL of each root into the bundle's folder collateral/.";
    "bundle.version": "The bundle is not newer than the active one." => "Use the newest bundle; the authority has it.",
        Governor "Sign a bundle with a higher version; versions never go back.",
        Operator "Configure the newest bundle; the governors have it.",
        Auditor "Pass the bundles in the order in which they were active.";
    "bundle.predecessor": "The bundle follows on another one than the active one." => "Configure the bundle that follows on the newest one, or the newest one again; the governors have both.",
        Governor "Name the active bundle's digest as predecessor; portcullis-policy show prints it.",
        Auditor "Pass the bundles in the order in which they were active.";
    "bundle.authority": "The bundle is for another authority." => "Use the bundle whose authority is the origin of this log.",
        Governor "Write the origin of the authority's log as authority in policy.toml, and sign the bundle again.";
    "request.audience": "The request is for another authority." => "Send it to the authority that it names.",
        Auditor "Treat the request as one to another authority.";
    "request.statement": "The authority's statement has changed since the node verified it." => "Attest the authority again.",
        Auditor "Treat the request as made for an earlier statement of the authority.";
    "request.seen": "The log does not extend the checkpoint that the node has seen." => "Keep the node's state as proof of a rewritten log and tell the governors.";
    "request.nonce": "The nonce is not that of this connection, or was used." => "Fetch a new nonce.",
        Auditor "Treat the request as replayed.";
    "request.nonce.age": "The nonce is older than ten seconds." => "Fetch a new nonce and answer at once.",
        Auditor "Treat the request as late; it proves nothing about a later time.";
    "node.enrolled": "The node is not enrolled." => "Send the governors what portcullis identity prints, and ask them to enrol this node; then compare the name with node in portcullis.toml.",
        Governor "Add the [[node]] table that portcullis identity prints on the node to policy.toml.",
        Auditor "Ask the governors whether the node is theirs.";
    "evidence.signature": "The envelope is not signed by the key that was named." => "Find out who signed it; treat what is in it as anybody's.";
    "evidence.class": "The evidence is weaker than the node's minimum." => "Attest with the report and the TPM that the node was enrolled with.",
        Governor "Have the node attest with the report and the TPM that it was enrolled with, or lower its minimum_class.",
        Auditor "Ask the node's operator for evidence of the class that it was enrolled with.";
    "node.chip_id": "The node runs on another chip than it was enrolled with." => "If the node has moved, ask the governors to enrol its new chip; otherwise treat it as cloned.",
        Governor "If the node has moved, write its new chip_id; otherwise treat it as cloned.";
    "node.activation": "The quote's key was not shown to live in the enrolled TPM." => "Run the gate on the machine that holds the enrolled TPM; if the TPM is new, ask the governors to enrol its endorsement key.",
        Governor "If the TPM is new, write its ek, which portcullis identity prints; otherwise treat the node as cloned.";
    "node.ak": "The quote is signed by another key than the node was enrolled with." => "If the attestation key was made anew, ask the governors to enrol it; otherwise treat the TPM as swapped.",
        Governor "If the attestation key was made anew, write its ak_name; otherwise treat the TPM as swapped.";
    "authority.chip_id": "The authority runs on another chip than was endorsed." => "Do not use it; have the governors endorse the instance if it is theirs.";
    "authority.ak": "The authority's quote is signed by another key than was endorsed." => "Do not use it.";
    "evidence.admitted": "The bundle admits no evidence of this class." => "Show evidence of a class that the bundle admits, or ask the governors to admit this one.",
        Governor "Add the class to classes in policy.toml, or have the node show a stronger one.",
        Auditor "Ask the node's operator for evidence of a class that the policy admits.";
    "chip.generation": "The bundle distrusts this chip generation." => "Move the workload to another generation.",
        Governor "Move the workload to another generation, or take this one out of [distrust].",
        Auditor "Do not rely on the evidence: the policy distrusts its chip generation.";
    "chip.vek": "The bundle distrusts this endorsement key." => "Update the chip's firmware so that it gets another key.",
        Governor "Update the chip's firmware so that it gets another key, or take this one out of [distrust].",
        Auditor "Do not rely on the evidence: the policy distrusts its key.";
    "chip.id": "The bundle distrusts this chip." => "Move the workload to another chip.",
        Governor "Move the workload to another chip, or take this one out of [distrust].",
        Auditor "Do not rely on the evidence: the policy distrusts its chip.";
    "snp.tcb.floor": "The bundle has no TCB floor for this generation." => "Move to another generation, or ask the governors for a floor for this one.",
        Governor "Write a [[floor]] for the generation.",
        Auditor "Do not rely on the evidence: the policy has no floor for its generation.";
    "snp.tcb.floor.launch": "The guest was launched under older firmware than the floor." => "Relaunch the guest after the firmware update.",
        Auditor "Ask the machine's operator to launch the guest again after the firmware update.";
    "snp.tcb.floor.committed": "The committed firmware is older than the floor." => "Update and commit the platform firmware.",
        Auditor "Ask the machine's operator to update and commit the platform firmware.";
    "snp.tcb.floor.*": "The platform runs older firmware than the floor." => "Update the platform firmware.",
        Auditor "Ask the machine's operator to update the platform firmware.";
    "snp.platform.*": "The platform lacks a property that the bundle requires." => "Change the platform's settings or firmware.",
        Auditor "Ask the machine's operator to change the platform's settings or firmware.";
    "snp.mitigations": "A mitigation that the bundle requires was not in force." => "Update the platform firmware and relaunch the guest.",
        Auditor "Ask the machine's operator to update the platform firmware and to launch the guest again.";
    "snp.policy.debug": "The host may read the guest's memory." => "Launch the guest without the debug policy.",
        Auditor "Do not rely on the guest; it must be launched without the debug policy.";
    "snp.policy.migration": "A migration agent may move the guest." => "Launch the guest without a migration agent.",
        Auditor "Do not rely on the guest; it must be launched without a migration agent.";
    "snp.measurement": "The image is not admitted in this role." => "Boot an admitted image, or ask the governors to admit this one.",
        Governor "Have the machine boot an admitted image, or add the measurement to a file in reference/.",
        Auditor "Do not rely on the machine: the policy does not admit its image.";
    "tpm.reference": "The PCRs are of no admitted image." => "Boot an admitted image, or ask the governors to admit this one.",
        Governor "Have the machine boot an admitted image, or add its PCRs to a file in reference/.",
        Auditor "Do not rely on the machine: the policy does not admit its image.";
    "tpm.reference.*": "A PCR is not that of the admitted image." => "Boot the admitted image; a changed PCR is a changed boot chain.",
        Governor "Have the machine boot the admitted image, or add the value to [pcrs]; a changed PCR is a changed boot chain.",
        Auditor "Do not rely on the machine: a changed PCR is a changed boot chain.";
    "boot.secure_boot": "Secure Boot is off, or the event log does not prove that it is on." => "Switch Secure Boot on. Where it is on, the finding says what in PCR 7 contradicts it.",
        Auditor "Do not rely on the machine: its policy requires Secure Boot.";
    "boot.started": "Firmware started an image that is not allowed, or PCR 4 has a measurement that is no image." => "Boot the admitted image, or ask the governors to allow this one.",
        Governor "Add its Authenticode digest to started in [boot] if it is yours; otherwise treat the machine as altered.",
        Auditor "Do not rely on the machine: its firmware started something that the policy does not allow.";
    "boot.phases": "The machine is in another phase of its boot than the admitted ones, or something else was measured after them." => "Wait until the boot is complete. A machine that shuts down gets no permit.",
        Governor "Add the path of phases to phases in [boot] if machines of this image run in it.",
        Auditor "Do not rely on the machine: it was not in a phase that the policy admits.";
    "uki.sections": "The kernel image has other sections than the admitted one." => "Boot the admitted kernel image.",
        Auditor "Do not rely on the machine: it did not boot the admitted kernel image.";
    "uki.section.*": "A section of the kernel image is not that of the admitted one." => "Boot the admitted kernel image, or ask the governors to admit this one.",
        Governor "Add the section's digest to [uki.sections] if the image is yours.",
        Auditor "Do not rely on the machine: it did not boot the admitted kernel image.";
    "uki.command_line": "A command line was given beside the image's own." => "Remove it, or ask the governors to allow it.",
        Governor "Add it to command_lines in [uki] if it is yours; otherwise treat the boot as altered.",
        Auditor "Do not rely on the machine: it was booted with a command line that the policy does not allow.";
    "uki.unexplained": "Something was measured into PCR 11 or 12 that nothing explains." => "Find out what measured it; treat the boot as altered.";
    "events.*": "Something was measured into the PCR that the image's list does not have, or no log leads to the PCR." => "Find out what was measured; portcullis-audit evidence lists it. Ask the governors to admit it if it belongs to the image.",
        Governor "Add the text or the digest to [events] if it belongs to the image; otherwise treat the machine as altered.",
        Auditor "Do not rely on the machine: something was measured that its policy does not list.";
    "reference.validity": "The image's reference values are not valid at this time." => "Boot the image that took its place, or ask the governors to extend it.",
        Governor "Have the machine boot the image that took its place, or write a later expires for this one.",
        Auditor "Name the time of the evidence with --at; if it is right, the image had had its time.";
    "reference.vtpm": "Nobody vouches for the TPM that says what came after the firmware." => "Ask the governors to enrol the node's endorsement key, or use the vTPM of a service module or of Azure.",
        Governor "Write the node's ek, or have it use the vTPM of a service module or of Azure.",
        Auditor "Do not rely on what the TPM says: nobody vouches for it.";
    "snp.vmpl": "The report is of another privilege level." => "Attest from the level that is required.",
        Auditor "Ask for a report of the level that the policy names.";
    "snp.guest_svn": "The guest's security version is too low." => "Boot a newer image.",
        Auditor "Do not rely on the guest: the policy demands a newer image.";
    "snp.host_data": "The guest was launched with other host data." => "Launch it with the host data that is required.",
        Auditor "Do not rely on the guest: it was launched for something else.";
    "snp.id_key_digest": "The guest was launched with another ID key." => "Launch it with the ID block that is required.",
        Auditor "Do not rely on the guest: another key stands for it.";
    "snp.author_key_digest": "The guest was launched with another author key." => "Launch it with the ID block that is required.",
        Auditor "Do not rely on the guest: another key stands for it.";
    "node.revoked": "Governors revoked the node." => "Ask the governors.",
        Governor "Read the reason of the revocation in the log before anything else.";
    "workload.revoked": "Governors revoked the workload." => "Ask the governors.",
        Governor "Read the reason of the revocation in the log before anything else.";
    "parent.logged": "The permit to be renewed is not in the log, or has ended." => "Ask for a new permit.",
        Auditor "Treat the renewal as wrong: the permit that it names does not allow it.";
    "parent.same": "The permit to be renewed was granted for something else." => "Ask for a new permit.",
        Auditor "Treat the renewal as wrong: the permit that it names does not allow it.";
    "parent.boot": "The node's TPM was reset or restarted since the permit to be renewed." => "Ask for a new permit: what ran under the old one is gone.",
        Auditor "Treat the renewal as wrong: the permit that it names does not allow it.";
    "parent.age": "The line of renewals is older than the bundle allows." => "Ask for a new permit: the program must start anew.",
        Auditor "Treat the renewal as wrong: the permit that it names does not allow it.";
    "parent.revoked": "Governors revoked the permit." => "Ask the governors.",
        Governor "Read the reason of the revocation in the log before anything else.";
    "workload.known": "The bundle does not list the executable." => "Send the governors what portcullis identity --workload prints, and ask them to list it.",
        Governor "Add the [[workload]] table that portcullis identity --workload prints on the node to policy.toml.",
        Auditor "Ask the governors whether the program is theirs.";
    "workload.arguments": "The workload may not run with these arguments." => "Use the arguments that the bundle binds, or ask the governors to allow these.",
        Governor "Write the digest that the denial shows as arguments of the workload, or \"any\".",
        Auditor "Treat the request as one for something else than the policy allows.";
    "workload.environment": "The workload may not run with this environment." => "Use the environment that the bundle binds, or ask the governors to allow this one.",
        Governor "Write the digest that the denial shows as environment of the workload, or \"any\".",
        Auditor "Treat the request as one for something else than the policy allows.";
    "workload.linking": "The workload loads shared libraries and may not." => "Link it statically, or ask the governors to allow dynamic linking.",
        Governor "Have it linked statically, or write linking = \"dynamic\".",
        Auditor "Treat the request as one for something else than the policy allows.";
    "authz.forbid": "A Cedar policy forbids it." => "Ask the governors, naming the policy.",
        Governor "Change the policy that the message names, if it forbids more than it should.";
    "authz.permit": "No Cedar policy permits it." => "Ask the governors for a policy.",
        Governor "Write a policy that permits it, if it should be permitted.";
    "authz.error": "A Cedar policy erred, which denies." => "Ask the governors to mend the policy that the message names.",
        Governor "Mend the policy that the message names.";
    "denial.more": "More checks failed than a denial has room for." => "Mend what is listed, then ask again.";
    "authority.statement": "The authority's statement cannot be read." => "Use an authority of the same protocol version.";
    "authority.governance_root": "The authority answers to other governors." => "Do not use it.";
    "authority.endorsement": "Too few governors endorsed this instance." => "Do not use it; have the governors endorse it if it is theirs.",
        Operator "Have the governors endorse this instance: portcullis-policy endorse, with the request that portcullisd init wrote.",
        Governor "Collect signatures of more governors with portcullis-policy endorse; those of others do not count.";
    "authority.endorsement.expired": "The endorsement has expired." => "Ask the governors to endorse the instance again.",
        Governor "Endorse the instance again, with a later end.";
    "authority.checkpoint": "The checkpoint is not by the endorsed key." => "Do not use the authority.";
    "authority.checkpoint.consistency": "The log does not extend what this node has seen of it." => "Keep the node's state as proof of a rewritten log and tell the governors.";
    "authority.succession": "The authority follows on another tree than the one that this node has seen." => "Keep the node's state as proof that the old log was cut short or rewritten, and tell the governors.";
    "authority.retired": "The governors have retired this authority." => "Use the one that takes its place; this one signs nothing more.";
    "authority.bundle.version": "The authority uses an older bundle." => "Give the authority the current bundle.",
        Operator "Hand the authority the current bundle with portcullis submit, or configure it.";
    "authority.bundle": "The authority uses another bundle of the same version." => "Tell the governors: two bundles bear one version.";
    "authority.measurement": "The authority's image is not the endorsed one." => "Do not use it; a new image needs a new endorsement.";
    "permit.form": "The permit cannot be read." => "Ask for a new permit.",
        Auditor "Pass the permit as the authority issued it.";
    "permit.typ": "The object is not a permit." => "Pass a permit.";
    "permit.algorithm": "The permit is signed under another algorithm than the endorsed key's." => "Treat it as forged.";
    "permit.key": "The permit is signed by another key than the endorsed one." => "Treat it as forged.";
    "permit.signature": "The permit's signature does not verify." => "Treat it as forged or altered.";
    "permit.receipt": "The permit has no receipt: it was never logged." => "Treat it as made with a stolen key.";
    "permit.receipt.proof": "The receipt does not prove that the permit is in the log." => "Treat it as made with a stolen key.";
    "permit.receipt.consistency": "The log of the receipt does not extend the one seen before." => "Keep the state as proof of a forked log.";
    "permit.issuer": "The permit is of another authority." => "Ask the configured authority.";
    "permit.subject": "The permit is for another node." => "Ask for a permit for this node.";
    "permit.audience": "The permit is for another gate." => "Ask for a permit for this gate.";
    "permit.cnf": "The permit is bound to another key: it was taken from another gate." => "Ask for a permit with this gate's key.";
    "permit.workload": "The permit is for another executable." => "Ask for a permit for this executable.";
    "permit.arguments": "The permit binds other arguments." => "Use the arguments that the bundle binds.",
        Auditor "Treat the permit as one for another call.";
    "permit.environment": "The permit binds another environment." => "Use the environment that the bundle binds.",
        Auditor "Treat the permit as one for another call.";
    "permit.linking": "The permit allows static programs only." => "Link the program statically.",
        Auditor "Treat the permit as one for another program.";
    "permit.not_before": "The permit begins later than this clock shows, by more than limits.clock_skew_seconds." => "Set this machine's clock: it is behind the authority's.",
        Auditor "Name the time at which it was used with --at.";
    "permit.expired": "The permit has ended." => "Ask for a new permit.",
        Auditor "Name the time at which it was used with --at.";
    "permit.request": "The permit answers another request than the one that was sent." => "Ask again; if it persists, treat the permits as replayed and tell the authority's operator.";
    "permit.status.issued": "The status list was issued later than this clock shows, by more than limits.clock_skew_seconds." => "Set this machine's clock: it is behind the authority's.";
    "permit.status.*": "The status list is stale, foreign or too short." => "Read why the last attempt to get another failed; check that the authority is reachable.";
    "permit.revoked": "The permit's status is not valid." => "Ask the governors.",
        Governor "Read the reason of the revocation in the log before anything else.";
    "log.tree": "Checkpoint, tiles and entries of the log do not agree." => "Fetch the files again; if it persists, keep them as proof.";
    "log.statements": "An entry of the log is not a statement by the authority." => "Keep the log as proof and tell the governors.";
    "log.time": "Recorded times of the log contradict each other." => "Keep the log as proof: somebody moved the authority's clock.";
    "log.genesis": "The log does not begin with a genesis." => "Fetch the log from its beginning.";
    "watch.pcr": "A PCR of the authority changed while it ran." => "Treat the machine as altered; reboot it into the admitted image.";
    "watch.clock": "The authority's clocks differ by more than their rates and limits.clock_skew_seconds allow: one was set, or jumped." => "Tell the authority's operator.",
        Operator "Find out who set the clock; let NTP correct it by its rate instead. Then restart the authority.";
    "watch.device": "The authority's TPM or secure processor does not answer, or answers that it cannot." => "Wait: the authority goes on by itself once the device answers.",
        Operator "Find out why the device that the message names does not answer. The authority goes on by itself once it does; after ten minutes it trips and must be restarted.";
    "watch.disk": "The disk of the authority's log is almost full." => "Wait: the authority goes on by itself once there is room.",
        Operator "Make room on the disk that the message names, or make it larger. The authority goes on by itself once there is; after ten minutes it trips and must be restarted.";
    "log.succession": "The log does not follow on the one that the governors endorsed it to follow on." => "Keep the log as proof and tell the governors.";
    "log.predecessor": "The log before this one does not end where this one goes on." => "Fetch its newest copy; if it persists, it was cut short, or went on after it had been succeeded: keep it as proof.";
    "log.storage": "The disk of the log failed, or is full." => "Check the disk; restart the authority, which recovers the log.";
    "log.journal.damaged": "A record of the journal is not what was written." => "Keep the disk as proof, and restore the log from a copy that has every entry.";
    "log.journal.foreign": "The journal has a record that this log did not write." => "Keep the disk as proof: somebody has put entries into the log.";
    "log.journal.gap": "Segments or batches of the journal do not follow on each other." => "Restore what is missing from a copy.";
    "log.checkpoint": "A checkpoint in the journal is not signed by this log." => "Keep the disk as proof, and restore the log from a copy.";
    "log.root": "The entries of the journal do not lead to the root that was signed." => "Keep the disk as proof, and restore the log from a copy.";
    "log.rollback": "The log is older than one that was seen before." => "Restore the newest copy; where there is none, the governors decide on a recovery.";
    "log.entry": "An entry is empty or too long." => "Report it: nothing that Portcullis makes is.";
    "log.tiles": "Hash tiles of the log are missing or were altered." => "Restore them from a copy; the authority writes the newest again at every start.";
    "log.clock": "The clock is behind the newest entry of the log." => "Set the clock; a machine whose host lies about time is not to be used.";
    "permit.witness": "No witness vouches for the log of this permit." => "Tell the authority's operator, and do not trust the permit: your bundle demands witnesses and the authority has none.",
        Auditor "Do not rely on the permit: the governors' bundle demands witnesses.",
        Operator "Ask the governors for a current bundle: the node's demands witnesses.";
    "permit.witness.checkpoint": "The cosigned checkpoint is not one of the log." => "Treat the permit as made with a stolen key.";
    "permit.witness.quorum": "Too few witnesses vouch for the log." => "Tell the authority's operator that too few witnesses answer; a log that only its owner has seen may be another one.",
        Auditor "Ask the witnesses for what they have seen; a log that only its owner has seen may be another one.";
    "permit.witness.age": "The witnesses have not seen the log for too long." => "Tell the authority's operator that its witnesses lag; check this machine's clock.",
        Auditor "Name the time at which the permit was used with --at; if it is right, ask the witnesses for what they have seen.";
    "permit.witness.consistency": "The permit's log does not extend what the witnesses have seen." => "Treat the permit as made with stolen keys, and tell the governors.";
    "witness.quorum": "Too few witnesses accept the log as an extension of what they have seen." => "Look after the witnesses; where they have seen a larger tree, the log was rolled back: restore the newest copy.";
    "witness.lag": "The newest quorum of witnesses is older than the bundle allows, so that gates would refuse what is issued." => "Tell the authority's operator that its witnesses do not answer; permits are issued again once enough of them do.",
        Operator "Start the witnesses that are named, make them reachable or set their clocks right. Permits are issued again by themselves; after ten minutes the authority trips and must be restarted.",
        Governor "Have the operators of the witnesses start them; if some are gone for good, sign a bundle with others.";
    "succession.endorsement": "The endorsement of the old authority does not verify." => "Name the endorsement under which the old authority served.";
    "succession.origin": "The new authority has the name of the old one." => "Give it an origin of its own, and have the governors sign a bundle for it.";
    "succession.head": "The head of the old log is missing, or does not verify." => "Take a copy of the old log as it was last published, or a checkpoint that a node, a witness or an auditor has kept.";
    "succession.witnesses": "Too few witnesses have seen the old log." => "Take the copy that the witnesses have seen; its file witnessed shows their cosignatures.";
    "succession.size": "More is revoked than an entry of the new log holds." => "Leave revoked nodes and workloads out of the bundle, and start from the checkpoint of the old log.";
    "anchor.present": "The TPM holds the anchor of an authority." => "Name that authority with --succeeds; if it is none of yours any more, remove NV indices 0x1805043 and 0x1805044.";
    "anchor.missing": "The TPM holds no anchor of the log." => "If somebody has cleared the TPM, the governors decide on a recovery.";
    "anchor.forged": "The anchor in the TPM is not of this authority." => "Treat the machine as tampered with; the governors decide on a recovery.";
    "anchor.counter": "The anchor does not fit the TPM's counter: indices were made anew." => "Treat the machine as tampered with; the governors decide on a recovery.";
    "anchor.rollback": "The log is older than the head that the TPM holds." => "Restore the newest copy of the log.";
    "anchor.fork": "The log is another one than the head that the TPM holds." => "Restore the newest copy of the log, and keep this one as proof.";
    "anchor.clone": "Another start of this authority has taken over." => "Find out who runs a clone; only one may.";
    "anchor.lease": "The TPM's counter was not read in time, so another start of this authority may have taken over." => "Wait: the authority goes on by itself once its TPM answers.",
        Operator "Find out why the TPM does not answer. The authority goes on by itself once it does; after ten minutes it trips and must be restarted.";
    "anchor.write": "The TPM does not take the anchor." => "Wait: the authority goes on by itself once its TPM answers.",
        Operator "Find out why the TPM takes no writes. The authority goes on by itself once it does; after ten minutes it trips and must be restarted.";
    "log.witnessed": "Too few witnesses have seen this log." => "Ask the witnesses for what they have seen; a log that only its owner has seen may be another one.";
    "log.head": "The head of the log is missing, or does not verify." => "Fetch checkpoint, signed-root and tiles again.";
    "archive.hole": "The archive lacks what an entry refers to, or it was altered." => "Restore it from a copy; its SHA-256 is its name.";
    "archive.orphan": "The archive has a file that no entry refers to." => "A crash can leave one; it may be removed.";
    "log.resume": "What was remembered is not of this log: the file is of another one, or the log was rewritten since." => "Compare its head with what others have seen; to begin anew, remove the file.";
    "trail.permit": "The log has no such permit." => "Look for the id in the whole log: an audit bundle may lack it.";
    "replay.decision": "A decision made again is not what was signed." => "Keep log and archive as proof: the authority decided otherwise than its inputs say.";
    "replay.archive": "The archive lacks what a decision was made of, or has something else." => "Restore it from a copy; the entry names the digests.";
    "replay.pruned": "The evidence of some decisions was removed after its time." => "Use an audit bundle that was exported before.";
    "budget.strangers": "Too many strangers are denied; this one was counted." => "Ask the governors to enrol the node; until then ask again later.",
        Governor "Enrol the node, or find out who floods the authority.";
    "log.fork": "A node has a signed checkpoint that this log does not extend." => "The log was rolled back: recover it, with the node's checkpoint as proof.";
    "governance.sequence": "The command does not follow on the last one." => "Make it again with portcullis-policy revoke --after, naming the newest command that the authority has taken; --first if it has taken none.";
    "governance.lift": "The command lifts a revocation that does not exist." => "Check the name or digest against the commands (.pcr) that were submitted: it is not revoked, or was lifted already.";
    "governance.predecessor": "The command follows on another one than the last." => "Make it again with portcullis-policy revoke --after, naming the newest command that the authority has taken; --first if it has taken none.";
    "governance.authority": "The command is for another authority." => "Name this authority's origin with --authority, and sign again.";
    "governance.expired": "The command has expired." => "Sign it again with a later --expires.";
    "governance.signature": "Too few governors signed the command." => "Collect signatures of more governors; those of others do not count.";
    "execution.permit": "The report names no permit of this log, or another gate's." => "Report executions with the gate's own key and permit.";
    "budget": "Every status index is held by a permit that has not ended." => "Ask again later. The governors can shorten leases, so that indices are free sooner.",
        Governor "Shorten lease_seconds in policy.toml, so that indices are free sooner.";
    "auditor.key": "The key of this connection may not read the log." => "Have the governors enrol it as an auditor in the bundle; portcullis log key prints what they need.",
        Governor "Add the [[auditor]] table that portcullis log key prints to policy.toml.";
    "exchange.order": "A request came before the exchange that it needs." => "Attest the authority on this connection first.";
    "activation.secret": "The TPM's answer is not the secret of the credential that went out." => "Activate again, with the TPM that holds both keys.";
    "exchange.form": "The body is no exchange of this protocol." => "Use a client of the same protocol version.";
    "lease.expired": "The permit was not renewed before its lease ended." => "Read why the last attempt failed; check that the authority is reachable and that it renews.";
    "lease.renewal": "The authority refused to renew." => "Read the denial that came with it.";
    "program.execution": "The kernel did not execute the program." => "Read the kernel's reason in the message; run the program without the gate, as the user that the gate is configured with.";
    "state.bundle": "The file with the newest bundle that this node has verified is damaged." => "Put the newest signed bundle in its place, from the governors or another node. Or remove the file: the node then begins with the configured bundle and takes the later ones from the authority; until it has, an older bundle rules.";
    "state.checkpoint": "The file with the largest checkpoint that this node has seen is damaged, or missing beside the file origin." => "Restore it from a copy. Or compare the authority's checkpoint with that of a witness, an auditor or another node, and then remove the file and the file origin beside it: without them, this node does not notice a log that was rolled back.";
    "state.origin": "The file with the name of the authority that this node has verified last is damaged." => "Write the origin of the authority into it, without a newline; or remove it: this node then does not compare the next authority with the one before.";
}
