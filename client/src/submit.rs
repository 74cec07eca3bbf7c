//! `portcullis submit`: sends governors' commands to an authority. The sender needs no
//! authorisation, because the command carries the governors' signatures.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use hyper::{Method, StatusCode};
use portcullis_cli::say;
use portcullis_firmware_policy::{MAX_LENGTH, Reader};
use portcullis_permit::{Endorsement, FileKind, Quorum, Revocation};
use serde_json::Value;

use crate::http::{Connection, PATIENCE, describe};
use crate::refusal::ClientError;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Address at which the authority accepts nodes (its `[listen] nodes`).
    #[arg(long, value_name = "HOST:PORT")]
    authority: String,
    /// A signed bundle (`.pcb`), revocation (`.pcr`) or endorsement (`.pce`).
    file: PathBuf,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), ClientError> {
    let bytes = fs::read(&arguments.file).with_context(|| arguments.file.display().to_string())?;
    let path = route(&bytes).map_err(|_| {
        let (name, found) = (arguments.file.display(), FileKind::of(&bytes));
        anyhow!("{name}: {found}; required a bundle, revocation or endorsement with governors' signatures")
    })?;
    let mut connection = Connection::open(&arguments.authority, PATIENCE).await?;
    let answer = connection.ask(Method::POST, path, bytes).await.map_err(unanswered)?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    match answer.status {
        status if status.is_success() => {
            say!("{}", text.trim_end());
            Ok(())
        }
        StatusCode::FORBIDDEN => Err(refusal(&text).unwrap_or_else(|| ClientError::Unreachable(describe(&answer)))),
        _ => Err(ClientError::Unreachable(describe(&answer))),
    }
}

/// A command is not retried automatically: the second answer would hide the first.
fn unanswered(error: ClientError) -> ClientError {
    let what = "the authority may have taken it before the connection broke: submit it again; \
                if it then refuses governance.sequence or bundle.version, it has taken it";
    ClientError::Unreachable(format!("{error}; {what}"))
}

/// Path for a document of this kind. The authority verifies the document, not this
/// program.
fn route(bytes: &[u8]) -> Result<&'static str, portcullis_permit::GovernanceError> {
    let quorum = Quorum::decode(bytes, MAX_LENGTH)?;
    let document = quorum.unverified_document();
    Ok(match (Revocation::decode(document), Endorsement::decode(document)) {
        (Ok(_), _) => "/v1/revocations",
        (_, Ok(_)) => "/v1/instance",
        _ => "/v1/policy",
    })
}

/// The refusing check, from problem details (RFC 9457).
fn refusal(problem: &str) -> Option<ClientError> {
    let problem: Value = serde_json::from_str(problem).ok()?;
    let text = |name: &str| problem.get(name).and_then(Value::as_str);
    let (check, found) = (text("title")?, text("detail")?);
    Some(ClientError::read_by(Reader::Governor, check, found, "a command that the authority takes"))
}
