//! The exporter value of RFC 9266, as OpenSSL computes it at the other end of a
//! session.
#![cfg(test)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::Arc;

use portcullis_channel::{Identity, facts};
use portcullis_wire::hex::hex;
use rustls::{ServerConnection, Stream};

/// `s_client` prints the exporter of a label without context, which in TLS 1.3 is
/// that of an empty one (RFC 9846, §7.5).
#[test]
fn openssl_exports_the_same_channel_binding() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("SKIPPED: openssl is not installed; nothing was compared with it");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            "/CN=client",
        ])
        .args(["-keyout", &at("key.pem"), "-out", &at("certificate.pem")])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let identity = Identity::generate().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mut client = Command::new("openssl")
        .args(["s_client", "-connect", &listener.local_addr().unwrap().to_string(), "-tls1_3"])
        .args(["-cert", &at("certificate.pem"), "-key", &at("key.pem")])
        .args(["-keymatexport", "EXPORTER-Channel-Binding", "-keymatexportlen", "32"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    let mut server = ServerConnection::new(Arc::new(identity.server_config().unwrap())).unwrap();
    while server.is_handshaking() {
        server.complete_io(&mut socket).unwrap();
    }
    let export =
        |out: [u8; 32], label: &[u8], context: Option<&[u8]>| server.export_keying_material(out, label, context);
    let ours = facts(&server, export, identity.spki()).unwrap();
    let other = server.export_keying_material([0; 32], b"EXPORTER-Other", Some(&[])).unwrap();
    let context = server.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[0])).unwrap();
    // Something to read, so that the client has finished its handshake; then the end.
    Stream::new(&mut server, &mut socket).write_all(b"hello\n").unwrap();
    server.send_close_notify();
    server.complete_io(&mut socket).unwrap();
    drop(client.stdin.take());
    let mut said = String::new();
    client.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    client.wait().unwrap();
    let line = said.lines().find_map(|line| line.trim().strip_prefix("Keying material: ")).map(str::to_lowercase);
    assert_eq!(line.as_deref(), Some(hex(&ours.exporter).as_str()), "{said}");
    assert!(line != Some(hex(&other)) && line != Some(hex(&context)));

    // And the key of the other side is the one in its certificate.
    let spki = Command::new("openssl")
        .args(["pkey", "-in", &at("key.pem"), "-pubout", "-outform", "DER", "-out", &at("spki.der")])
        .output()
        .unwrap();
    assert!(spki.status.success());
    assert_eq!(ours.peer_key, portcullis_wire::sha256(&[&fs::read(at("spki.der")).unwrap()]));
    assert_eq!(ours.own_key, *identity.spki());
}
