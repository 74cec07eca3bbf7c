//! A whole deployment in a folder: governors, bundle, machines, authority.

mod resume;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use portcullis_attest::crypto::sha256;
use portcullis_attest::evidence::EvidenceClass;
use portcullis_attest::snp::generation::Generation;
use portcullis_firmware_policy::SCHEMA;
use portcullis_firmware_policy::document::{Document, Limits, Linking, Node, Reference, RoleName, Workload};
use portcullis_wire::hex::hex;

use crate::daemon::{Daemon, free_address};
use crate::machine::{Booted, Description, Vtpm};
use crate::root::LabRoot;
use crate::scene;

/// Image of lab authorities.
pub const AUTHORITY_IMAGE: &str = "authority-1.0";
/// Image of lab nodes.
pub const NODE_IMAGE: &str = "node-1.0";
/// A program that every lab deployment permits: it sleeps.
pub const SLEEP: &str = "/bin/sleep";
/// A program that no lab deployment permits.
pub const UNKNOWN: &str = "/bin/true";

const POLICIES: &str = r#"@id("lab-nodes")
permit(principal, action == Action::"execute", resource)
when { principal.tags.contains("lab") };

@id("no-quarantined")
@reserved("quarantined")
forbid(principal, action, resource)
when { principal.tags.contains("quarantined") };
"#;

/// Parameters of a deployment.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Lease in seconds.
    pub lease_seconds: u64,
    /// Validity of status lists in seconds.
    pub status_seconds: u64,
    /// Seconds until the bundle expires.
    pub bundle_seconds: i64,
    /// `classic` or `pq`.
    pub suite: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self { lease_seconds: 4, status_seconds: 4, bundle_seconds: 86_400, suite: "classic" }
    }
}

/// A deployment.
pub struct Deployment {
    folder: PathBuf,
    lab: PathBuf,
    root: PathBuf,
    options: Options,
    document: Document,
    references: BTreeMap<String, Reference>,
    policies: String,
    machines: BTreeMap<String, Booted>,
    nodes: SocketAddr,
    public: SocketAddr,
}

impl Deployment {
    /// Makes a deployment with one authority and one node, `node-1`, up to the
    /// endorsement. `lab` is the lab's binary; `root` a folder with lab roots,
    /// which may be shared.
    ///
    /// # Errors
    /// swtpm is missing, I/O, or a tool refuses.
    pub fn create(folder: &Path, lab: &Path, root: &Path, options: Options) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let folder = fs::canonicalize(folder)?;
        fs::create_dir_all(root)?;
        let root = fs::canonicalize(root)?;
        LabRoot::open(&root, Generation::Milan)?;
        let mut deployment = Self {
            document: document(options)?,
            references: references(),
            policies: POLICIES.to_owned(),
            folder,
            lab: lab.to_owned(),
            root,
            options,
            machines: BTreeMap::new(),
            nodes: free_address()?,
            public: free_address()?,
        };
        deployment.make_governors()?;
        deployment.boot("authority", AUTHORITY_IMAGE)?;
        deployment.boot("node-1", NODE_IMAGE)?;
        deployment.enrol_by_ak("node-1", &["lab"])?;
        deployment.sign_bundle()?;
        deployment.write_configuration("authority", "lab/authority")?;
        deployment.genesis("authority")?;
        deployment.endorse("authority")?;
        Ok(deployment)
    }

    /// A path in the deployment's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Folder of a machine.
    #[must_use]
    pub fn machine(&self, name: &str) -> PathBuf {
        self.folder.join("machines").join(name)
    }

    /// Folder of the lab root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Address of the authority for nodes.
    #[must_use]
    pub const fn nodes_address(&self) -> SocketAddr {
        self.nodes
    }

    /// Address of the authority for readers.
    #[must_use]
    pub const fn public_address(&self) -> SocketAddr {
        self.public
    }

    /// The document of the next bundle, to be changed before [`Self::sign_bundle`].
    pub const fn document(&mut self) -> &mut Document {
        &mut self.document
    }

    /// The reference values of the next bundle, by file in `reference/`.
    pub const fn references(&mut self) -> &mut BTreeMap<String, Reference> {
        &mut self.references
    }

    /// The Cedar policies of the next bundle.
    pub const fn policies(&mut self) -> &mut String {
        &mut self.policies
    }

    /// Boots a new machine with an image.
    ///
    /// # Errors
    /// swtpm is missing, or I/O.
    pub fn boot(&mut self, name: &str, image: &str) -> Result<()> {
        let folder = self.machine(name);
        Description::sound(&self.root, name, image).write(&folder)?;
        self.machines.insert(name.to_owned(), Booted::boot(&folder)?);
        Ok(())
    }

    /// Boots a new machine whose TPM runs inside the guest.
    ///
    /// # Errors
    /// As [`Self::boot`].
    pub fn boot_with(&mut self, name: &str, image: &str, vtpm: Vtpm) -> Result<()> {
        let folder = self.machine(name);
        Description { vtpm, ..Description::sound(&self.root, name, image) }.write(&folder)?;
        self.machines.insert(name.to_owned(), Booted::boot(&folder)?);
        Ok(())
    }

    /// Enrols a booted machine with a minimum class: those of a service module by
    /// chip, those of Azure, which move from chip to chip, by attestation key.
    ///
    /// # Errors
    /// The machine is not booted.
    pub fn enrol_vtpm(&mut self, name: &str, tags: &[&str]) -> Result<()> {
        let booted = self.booted(name)?;
        let description = Description::read(booted.folder())?;
        let (chip_id, ak_name, class) = match description.vtpm {
            Vtpm::Azure => (None, Some(hex(booted.ak_name())), "snp+azure-vtpm"),
            Vtpm::Svsm => (Some(hex(&description.chip_id())), None, "snp+svsm-vtpm"),
            Vtpm::Host => (Some(hex(&description.chip_id())), Some(hex(booted.ak_name())), "snp+tpm"),
        };
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let node = Node { name: name.to_owned(), chip_id, ak_name, ek: None, minimum_class: class.into(), tags };
        self.document.nodes.push(node);
        self.configure_node(name, name, self.nodes)
    }

    /// Switches a machine off and on again.
    ///
    /// # Errors
    /// As [`Self::boot`].
    pub fn reboot(&mut self, name: &str) -> Result<()> {
        drop(self.machines.remove(name));
        self.machines.insert(name.to_owned(), Booted::boot(&self.machine(name))?);
        Ok(())
    }

    /// Changes a machine while it runs.
    ///
    /// # Errors
    /// I/O errors.
    pub fn describe(&self, name: &str, change: impl FnOnce(&mut Description)) -> Result<()> {
        let mut description = Description::read(&self.machine(name))?;
        change(&mut description);
        description.write(&self.machine(name))
    }

    /// Enrols a booted machine by chip and endorsement key, and writes its
    /// configuration.
    ///
    /// # Errors
    /// The machine is not booted.
    pub fn enrol(&mut self, name: &str, tags: &[&str]) -> Result<()> {
        let ek = hex(self.booted(name)?.ek_digest());
        self.enrol_with(name, tags, None, Some(ek))
    }

    /// As [`Self::enrol`], by chip and attestation key: no activation needed.
    ///
    /// # Errors
    /// The machine is not booted.
    pub fn enrol_by_ak(&mut self, name: &str, tags: &[&str]) -> Result<()> {
        let ak_name = hex(self.booted(name)?.ak_name());
        self.enrol_with(name, tags, Some(ak_name), None)
    }

    fn booted(&self, name: &str) -> Result<&Booted> {
        self.machines.get(name).with_context(|| format!("{name} is not booted"))
    }

    fn enrol_with(&mut self, name: &str, tags: &[&str], ak_name: Option<String>, ek: Option<String>) -> Result<()> {
        let booted = self.booted(name)?;
        let description = Description::read(booted.folder())?;
        self.document.nodes.push(Node {
            name: name.to_owned(),
            chip_id: Some(hex(&description.chip_id())),
            ak_name,
            ek,
            minimum_class: "snp+tpm".into(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        });
        self.configure_node(name, name, self.nodes)
    }

    /// Writes the configuration of a machine that calls itself `node`.
    ///
    /// # Errors
    /// I/O errors.
    pub fn configure_node(&self, machine: &str, node: &str, authority: SocketAddr) -> Result<()> {
        let text = format!(
            "node = \"{node}\"\nauthority = \"{authority}\"\nbundle = \"bundle.pcb\"\ngovernance = \"governance.cbor\"\nstate = \"state-{machine}\"\n"
        );
        Ok(fs::write(self.path(&format!("{machine}.toml")), text)?)
    }

    fn make_governors(&self) -> Result<()> {
        for n in 1..=3 {
            self.policy(&["keygen", "--out", &self.text(&format!("governor-{n}"))])?;
        }
        let keys = [1, 2, 3].map(|n| self.text(&format!("governor-{n}.cose")));
        let out = self.text("governance.cbor");
        self.policy(&["governance", "--threshold", "2", &keys[0], &keys[1], &keys[2], "--out", &out])
    }

    /// Writes, checks and signs the bundle as `bundle.pcb`, with two of three governors.
    ///
    /// # Errors
    /// The bundle does not pass.
    pub fn sign_bundle(&self) -> Result<()> {
        self.sign_bundle_as("bundle.pcb")
    }

    /// As [`Self::sign_bundle`], under another name.
    ///
    /// # Errors
    /// The bundle does not pass.
    pub fn sign_bundle_as(&self, name: &str) -> Result<()> {
        self.write_bundle()?;
        let (out, governance) = (self.text(name), self.text("governance.cbor"));
        self.policy(&["build", &self.text("bundle"), "--out", &out])?;
        let (one, two) = (self.text("one.pcs"), self.text("two.pcs"));
        self.policy(&["sign", &out, "--key", &self.text("governor-1.pem"), "--out", &one])?;
        self.policy(&["sign", &out, "--key", &self.text("governor-2.pem"), "--out", &two])?;
        self.policy(&["assemble", &out, &one, &two, "--governance", &governance, "--out", &out])?;
        fs::remove_file(one)?;
        fs::remove_file(two)?;
        self.policy(&["check", &out, "--governance", &governance])
    }

    /// Writes the folder of the next bundle, `bundle`.
    ///
    /// # Errors
    /// I/O errors.
    pub fn write_bundle(&self) -> Result<()> {
        let folder = self.path("bundle");
        for part in ["roots", "collateral", "reference"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let root = LabRoot::open(&self.root, Generation::Milan)?;
        fs::write(folder.join("roots/lab-ark.der"), root.ark())?;
        fs::write(folder.join("collateral/lab-ask.der"), root.ask())?;
        fs::write(folder.join("collateral/lab-asvk.der"), root.asvk())?;
        let crl = folder.join("collateral/lab-crl.der");
        if !crl.exists() {
            fs::write(crl, root.crl(1, &[], None)?)?;
        }
        fs::write(folder.join("policy.toml"), toml::to_string(&self.document)?)?;
        for (file, reference) in &self.references {
            fs::write(folder.join("reference").join(file), toml::to_string(reference)?)?;
        }
        fs::write(folder.join("lab.cedar"), &self.policies)?;
        Ok(fs::write(folder.join("schema.cedarschema"), SCHEMA)?)
    }

    /// SHA-256 of a signed bundle's document: the predecessor of the next.
    ///
    /// # Errors
    /// I/O errors.
    pub fn bundle_digest(&self, name: &str) -> Result<String> {
        let bytes = fs::read(self.path(name))?;
        let quorum = portcullis_permit::Quorum::decode(&bytes, portcullis_firmware_policy::MAX_LENGTH)?;
        Ok(hex(&quorum.digest()))
    }

    /// Writes the configuration of an authority.
    ///
    /// # Errors
    /// I/O errors.
    pub fn write_configuration(&self, name: &str, origin: &str) -> Result<()> {
        let (nodes, public, suite) = (self.nodes, self.public, self.options.suite);
        let text = format!(
            "origin = \"{origin}\"\nsuite = \"{suite}\"\nstate = \"state-{name}\"\nbundle = \"bundle.pcb\"\n\
             governance = \"governance.cbor\"\nendorsement = \"{name}.pce\"\nlog = \"text\"\n\
             [listen]\nnodes = \"{nodes}\"\npublic = \"{public}\"\n"
        );
        Ok(fs::write(self.path(&format!("{name}.toml")), text)?)
    }

    /// `portcullisd init` on a machine.
    ///
    /// # Errors
    /// It refuses.
    pub fn genesis(&self, name: &str) -> Result<()> {
        let output = self.portcullisd(name, &["init"]).output()?;
        ensure!(output.status.success(), "portcullisd init: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Endorses the result of genesis with two governors.
    ///
    /// # Errors
    /// I/O errors.
    pub fn endorse(&self, name: &str) -> Result<()> {
        let request = self.text(&format!("state-{name}/endorsement.request"));
        let out = self.text(&format!("{name}.pce"));
        let (one, two) = (self.text("governor-1.pem"), self.text("governor-2.pem"));
        self.policy(&["endorse", &request, "--key", &one, "--key", &two, "--out", &out])
    }

    /// Starts the authority and waits until it serves.
    ///
    /// # Errors
    /// It refuses; the error has its log.
    pub fn serve(&self) -> Result<Daemon> {
        self.serve_on("authority", &[])
    }

    /// Starts an authority on a machine, with lab options before `serve`.
    ///
    /// # Errors
    /// It refuses.
    pub fn serve_on(&self, name: &str, options: &[&str]) -> Result<Daemon> {
        let mut command = Command::new(&self.lab);
        command.arg("portcullisd").arg("--machine").arg(self.machine(name)).args(options);
        command.arg("--").arg("--config").arg(self.path(&format!("{name}.toml"))).arg("serve");
        Daemon::start(command, self.public, &self.path(&format!("{name}.log")))
    }

    /// The shell command that starts the authority.
    #[must_use]
    pub fn serve_command(&self) -> String {
        let (lab, machine) = (self.lab.display(), self.machine("authority"));
        let config = self.text("authority.toml");
        format!("{lab} portcullisd --machine {} -- --config {config} serve", machine.display())
    }

    /// `portcullisd` on a machine, with its configuration.
    #[must_use]
    pub fn portcullisd(&self, name: &str, arguments: &[&str]) -> Command {
        self.on_machine("portcullisd", name, arguments)
    }

    /// `portcullis` on a machine, with its configuration.
    #[must_use]
    pub fn portcullis(&self, name: &str, arguments: &[&str]) -> Command {
        self.on_machine("portcullis", name, arguments)
    }

    fn on_machine(&self, program: &str, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.lab);
        command.arg(program).arg("--machine").arg(self.machine(name)).arg("--");
        command.arg("--config").arg(self.path(&format!("{name}.toml"))).args(arguments);
        command
    }

    /// Asks for a permit on a machine, without running anything.
    ///
    /// # Errors
    /// I/O errors.
    pub fn request(&self, machine: &str, program: &str) -> Result<Output> {
        let (key, out) = (self.text(&format!("{machine}-gate.pem")), self.text(&format!("{machine}.permit")));
        Ok(self.portcullis(machine, &["permit", "request", "--key", &key, "--out", &out, "--", program]).output()?)
    }

    /// Signs a revocation with two governors.
    ///
    /// # Errors
    /// I/O errors.
    pub fn revocation(&self, sequence: u64, target: &[&str]) -> Result<Vec<u8>> {
        let out = self.text(&format!("revocation-{sequence}.pcr"));
        let last = self.text(&format!("revocation-{}.pcr", sequence.saturating_sub(1)));
        let (one, two) = (self.text("governor-1.pem"), self.text("governor-2.pem"));
        let mut arguments = vec!["revoke", "--authority", "lab/authority"];
        arguments.extend(if sequence > 1 { vec!["--after", &last] } else { vec!["--first"] });
        arguments.extend(["--expires", "2045-01-01T00:00:00Z", "--reason", "lab", "--key", &one, "--key", &two]);
        arguments.extend(["--out", &out]);
        arguments.extend(target);
        self.policy(&arguments)?;
        Ok(fs::read(&out)?)
    }

    /// Runs `portcullis-policy` as a separate process.
    ///
    /// # Errors
    /// It refuses.
    pub fn policy(&self, arguments: &[&str]) -> Result<()> {
        let output = Command::new(&self.lab).arg("portcullis-policy").args(arguments).output()?;
        ensure!(
            output.status.success(),
            "portcullis-policy {}: {}",
            arguments[0],
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// A path in the deployment's folder, as text.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

/// The bundle of a sound lab deployment, without nodes.
fn document(options: Options) -> Result<Document> {
    let now = jiff::Timestamp::now();
    let sound = scene::document(Generation::Milan);
    Ok(Document {
        authority: "lab/authority".into(),
        not_before: (now - jiff::SignedDuration::from_secs(3600)).to_string(),
        expires: (now + jiff::SignedDuration::from_secs(options.bundle_seconds)).to_string(),
        classes: EvidenceClass::ALL.map(|class| class.name().to_owned()).to_vec(),
        limits: Limits { lease_seconds: options.lease_seconds, status_seconds: options.status_seconds, ..sound.limits },
        workloads: vec![Workload {
            digest: hex(&sha256(&[&fs::read(SLEEP)?])),
            linking: Linking::Dynamic,
            ..scene::workload()
        }],
        ..sound
    })
}

/// The images of a sound lab deployment.
fn references() -> BTreeMap<String, Reference> {
    let image = |name: &str, role| (format!("{name}.toml"), scene::reference(name, role));
    BTreeMap::from([image(AUTHORITY_IMAGE, RoleName::Authority), image(NODE_IMAGE, RoleName::Node)])
}
