//! The gate keeps a program's surroundings: signals reach the program once, it stays in
//! its cgroup, and a failed execution is reported as failed.

mod common;
#[path = "common/gates.rs"]
mod gates;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use gates::{Gate, wait_until};
use portcullis_lab::deployment::UNKNOWN;
use portcullis_lab::{Daemon, Deployment, Options};
use portcullis_lineage::ArchiveReader;
use portcullis_permit::{Execution, Kind};
use portcullis_sys::signals;
use portcullis_wire::Sign1;
use tempfile::TempDir;

/// Prints each signal that arrives, and ends after some seconds.
const TELLS_SIGNALS: &str = r#"
import os, signal, sys, time
def told(number, frame): os.write(1, b"got %d\n" % number)
for number in range(1, 65):
    try: signal.signal(number, told)
    except (OSError, ValueError): pass
os.write(1, b"ready\n")
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end: time.sleep(0.02)
"#;

/// Runs a command on a new terminal, presses a key when it is ready, and prints the
/// output.
const PRESSES_KEY: &str = r#"
import os, pty, select, sys, time
pid, terminal = pty.fork()
if pid == 0: os.execvp(sys.argv[2], sys.argv[2:])
out, pressed, end = b"", None, time.monotonic() + 60
while time.monotonic() < end:
    if select.select([terminal], [], [], 0.1)[0]:
        try: data = os.read(terminal, 4096)
        except OSError: break
        if not data: break
        out += data
    if pressed is None and b"ready" in out:
        time.sleep(0.3); os.write(terminal, bytes([int(sys.argv[1])])); pressed = True
sys.stdout.buffer.write(out)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

fn real(path: &str) -> String {
    std::fs::canonicalize(path).unwrap().display().to_string()
}

/// A deployment with these programs in its bundle.
fn serving_programs(programs: &[&Path]) -> (TempDir, Deployment, Daemon) {
    let options = Options { lease_seconds: 30, status_seconds: 30, ..Options::default() };
    let (folder, mut deployment) = common::deployment(options);
    for (n, program) in programs.iter().enumerate() {
        let digest = portcullis_wire::hex::hex(&portcullis_wire::sha256(&[&std::fs::read(program).unwrap()]));
        let mut workload = deployment.document().workloads[0].clone();
        (workload.name, workload.digest) = (format!("program-{n}"), digest);
        deployment.document().workloads.push(workload);
    }
    deployment.sign_bundle().unwrap();
    let daemon = deployment.serve().unwrap();
    (folder, deployment, daemon)
}

/// A gate in a separate process group, whose program has reported that it is ready.
fn telling(deployment: &Deployment, python: &str, seconds: &str) -> (Gate, BufReader<std::process::ChildStdout>) {
    let (mut command, result) = Gate::command(deployment, "node-1", &[], &[python, "-I", "-c", TELLS_SIGNALS, seconds]);
    command.process_group(0).stdout(Stdio::piped());
    let mut gate = Gate::spawn(command, result);
    let mut said = BufReader::new(gate.child().stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    (gate, said)
}

fn pid(gate: &Gate) -> i32 {
    i32::try_from(gate.id()).unwrap()
}

fn state_of(process: i32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

fn rest(mut said: BufReader<std::process::ChildStdout>) -> Vec<String> {
    let mut text = String::new();
    said.read_to_string(&mut text).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn each_signal_to_the_gate_reaches_the_program_once() {
    if !common::is_root() {
        return;
    }
    let python = real("/usr/bin/python3");
    let (_folder, deployment, _daemon) = serving_programs(&[Path::new(&python)]);
    let (gate, said) = telling(&deployment, &python, "3");
    let numbers = [1, 2, 3, 6, 10, 12, 14, 15, 18, 23, 27, 28, 29, 30, 34, 35, 50, 64];
    for number in numbers {
        signals::send(pid(&gate), number).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    let (code, result) = gate.wait(Duration::from_secs(20));
    assert_eq!(code, Some(0), "{result}");
    let mut expected: Vec<String> = numbers.iter().map(|number| format!("got {number}")).collect();
    expected.sort();
    assert_eq!(rest(said), expected);
}

#[test]
fn a_signal_to_the_group_reaches_the_program_once() {
    if !common::is_root() {
        return;
    }
    let python = real("/usr/bin/python3");
    let (_folder, deployment, _daemon) = serving_programs(&[Path::new(&python)]);
    let (gate, said) = telling(&deployment, &python, "4");
    for number in [2, 15, 3, 1, 34] {
        signals::send(-pid(&gate), number).unwrap();
        std::thread::sleep(Duration::from_millis(200));
    }
    // Job control: the gate stops with its program, and continues with it.
    signals::send(-pid(&gate), 20).unwrap();
    assert!(wait_until(Duration::from_secs(2), || state_of(pid(&gate)) == 'T').is_some(), "stopped");
    signals::send(-pid(&gate), 18).unwrap();
    assert!(wait_until(Duration::from_secs(2), || state_of(pid(&gate)) != 'T').is_some(), "continued");
    let (code, result) = gate.wait(Duration::from_secs(20));
    assert_eq!(code, Some(0), "{result}");
    assert_eq!(rest(said), ["got 1", "got 15", "got 18", "got 2", "got 20", "got 3", "got 34"]);
}

#[test]
fn keys_of_the_terminal_reach_the_program_once_and_the_gate_lives_on() {
    if !common::is_root() {
        return;
    }
    let python = real("/usr/bin/python3");
    let (_folder, deployment, _daemon) = serving_programs(&[Path::new(&python)]);
    for (key, number) in [("3", 2), ("28", 3)] {
        let wrapper = ["/usr/bin/python3", "-I", "-c", PRESSES_KEY, key];
        let program = [python.as_str(), "-I", "-c", TELLS_SIGNALS, "2"];
        let (mut command, _) = Gate::command(&deployment, "node-1", &wrapper, &program);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!(said.matches(&format!("got {number}")).count(), 1, "{said}");
    }
}

/// Ctrl-C before there is a permit: no program has run, and the gate does not wait for
/// the authority.
#[test]
fn a_signal_before_the_permit_ends_the_gate() {
    if !common::is_root() {
        return;
    }
    let (_folder, deployment, daemon) = serving_programs(&[]);
    common::signal(daemon.id(), rustix::process::Signal::STOP);
    let gate = Gate::start(&deployment, "node-1", &[UNKNOWN]);
    std::thread::sleep(Duration::from_secs(2));
    signals::send(pid(&gate), 2).unwrap();
    let (code, result) = gate.wait(Duration::from_secs(1));
    common::signal(daemon.id(), rustix::process::Signal::CONT);
    assert_eq!((code, &result["stage"]), (Some(130), &"permit".into()), "{result}");
}

/// The folder of a cgroup that a test makes and removes.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make(name: &str) -> Option<Self> {
        let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
        let root = root.into_iter().find(|root| root.join("cgroup.procs").exists())?;
        let folder = root.join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).ok()?;
        Some(Self(folder))
    }

    fn children(&self) -> usize {
        std::fs::read_dir(&self.0).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        std::fs::remove_dir(&self.0).unwrap();
    }
}

#[test]
fn the_program_stays_in_its_cgroup_and_leaves_none_behind() {
    if !common::is_root() {
        return;
    }
    let Some(cgroup) = Cgroup::make("portcullis-test") else {
        eprintln!("SKIPPED: no cgroup v2 that can be written; nothing was shown about cgroups");
        return;
    };
    let cat = real("/bin/cat");
    let (_folder, deployment, _daemon) = serving_programs(&[Path::new(&cat)]);
    let enter = format!("echo $$ >{}/cgroup.procs; exec \"$@\"", cgroup.0.display());
    let wrapper = ["sh", "-c", &enter, "sh"];
    let above = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
    let before = above(cgroup.0.parent().unwrap());
    let (mut command, _) = Gate::command(&deployment, "node-1", &wrapper, &[&cat, "/proc/self/cgroup"]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let name = cgroup.0.file_name().unwrap().to_str().unwrap();
    assert!(said.lines().any(|line| line == format!("0::/{name}")), "{said}");
    assert_eq!(
        Gate::start_under(&deployment, "node-1", &wrapper, &[UNKNOWN]).wait(Duration::from_secs(20)).0,
        Some(77)
    );
    let killed = Gate::start_under(&deployment, "node-1", &wrapper, &[&cat, "/dev/zero"]);
    std::thread::sleep(Duration::from_secs(1));
    drop(killed);
    let empty = || std::fs::read_to_string(cgroup.0.join("cgroup.procs")).unwrap().is_empty();
    assert!(wait_until(Duration::from_secs(5), empty).is_some(), "all of them are gone");
    assert_eq!(cgroup.children(), 0);
    assert_eq!(above(cgroup.0.parent().unwrap()), before);
}

/// A copy of a program with changed bytes.
fn changed(folder: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = std::fs::read("/bin/sleep").unwrap();
    change(&mut bytes);
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Stages of the executions in the log.
fn executions(deployment: &Deployment) -> Vec<(String, Option<u64>)> {
    let mut reader = ArchiveReader::open(common::log_reader(deployment), 0).unwrap();
    let mut executions = Vec::new();
    while let Some(batch) = reader.next_batch().unwrap() {
        for entry in batch.entries {
            let object = Sign1::parse(&entry.statement, 1 << 16).unwrap();
            if Kind::of(&object) == Some(Kind::ExecutionRecord) {
                let (execution, _) = Execution::verify(object.payload().unwrap()).unwrap();
                executions.push((execution.stage.name().to_owned(), execution.code));
            }
        }
    }
    executions
}

#[test]
fn an_execution_that_never_was_is_told_as_such() {
    if !common::is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // A program for another architecture, and one whose interpreter is missing.
    let foreign = changed(folder.path(), "foreign", |bytes| bytes[18] ^= 0xb7);
    let orphan = changed(folder.path(), "orphan", |bytes| {
        let at = memchr::memmem::find(bytes, b"/ld-linux").unwrap();
        bytes[at + 1] = b'x';
    });
    let (_deployment_folder, deployment, _daemon) = serving_programs(&[&foreign, &orphan]);
    for (program, code, reason) in
        [(&foreign, 126, "Exec format error"), (&orphan, 127, "its ELF interpreter is missing")]
    {
        let name = program.to_str().unwrap();
        let (found, result) = Gate::start(&deployment, "node-1", &[name, "0"]).wait(Duration::from_secs(20));
        assert_eq!(found, Some(code), "{result}");
        assert_eq!((&result["stage"], &result["check"]), (&"program".into(), &"program.execution".into()), "{result}");
        let message = result["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("{name}: the kernel did not execute it: ")), "{message}");
        assert!(message.contains(reason), "{message}");
        assert!(result["permit"].is_string(), "{result}");
    }
    assert_eq!(executions(&deployment), [("failed".to_owned(), Some(126)), ("failed".to_owned(), Some(127))]);
}

/// `yes | head` ends.
#[test]
fn a_program_ends_when_nobody_reads_it() {
    if !common::is_root() {
        return;
    }
    let yes = real("/usr/bin/yes");
    let (_folder, deployment, _daemon) = serving_programs(&[Path::new(&yes)]);
    let (mut command, _) = Gate::command(&deployment, "node-1", &[], &[&yes]);
    let mut child: std::process::Child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "y\n");
    assert_eq!(child.wait().unwrap().code(), Some(141), "128 and SIGPIPE");
}
