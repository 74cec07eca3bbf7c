//! Reports for the log, one after another, by a task of their own. A program does
//! not die for want of one, and nothing waits for one while a program runs.

use std::sync::Arc;
use std::time::Duration;

use portcullis_permit::{Execution, SigningKey};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::http::PATIENCE;
use crate::line::Line;
use crate::refusal::aside;

/// Bounds of the pause before a report is sent again.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long the gate waits for its last report where the authority answers.
const GRACE: Duration = Duration::from_secs(2);
/// Without a sign of life for so long, the authority does not answer: it sends a
/// heartbeat every two seconds. The gate does not wait then.
const SILENCE: Duration = Duration::from_secs(3);
const LITTLE_GRACE: Duration = Duration::from_millis(20);

/// The reports of one execution.
pub(super) struct Reports {
    line: Arc<Line>,
    queue: UnboundedSender<Execution>,
    delivery: JoinHandle<()>,
}

impl Reports {
    pub(super) fn start(line: Arc<Line>, key: Arc<SigningKey>) -> Self {
        let (queue, waiting) = unbounded_channel();
        let delivery = tokio::spawn(deliver(Arc::clone(&line), key, waiting));
        Self { line, queue, delivery }
    }

    pub(super) fn add(&self, execution: Execution) {
        // The task ends only after the queue was dropped.
        drop(self.queue.send(execution));
    }

    /// Waits until all are delivered, for a short time.
    pub(super) async fn finish(self) {
        drop(self.queue);
        let grace = if self.line.silence() > SILENCE { LITTLE_GRACE } else { GRACE };
        let abort = self.delivery.abort_handle();
        if timeout(grace, self.delivery).await.is_err() {
            abort.abort();
            aside("warning: the authority did not take the last report in time; the log lacks it".into());
        }
    }
}

async fn deliver(line: Arc<Line>, key: Arc<SigningKey>, mut waiting: UnboundedReceiver<Execution>) {
    while let Some(execution) = waiting.recv().await {
        let (what, mut pause) = (execution.stage.name(), PAUSE);
        while let Err(error) = line.report(&execution, &key, PATIENCE).await {
            if error.first_check() == Some("execution.permit") {
                aside(format!("warning: the authority does not take the report \"{what}\": {error}"));
                break;
            }
            if pause == PAUSE {
                aside(format!("warning: the report \"{what}\" is not delivered yet: {error}"));
            }
            sleep(pause).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }
}
