//! Reports for the log, sent one after another by a separate task. A missing report
//! does not end the program, and nothing waits for a report while a program runs.

use std::sync::Arc;
use std::time::Duration;

use portcullis_permit::{Execution, SigningKey};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::http::PATIENCE;
use crate::line::Line;
use crate::refusal::aside;

/// Pause before a report is sent again.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long the gate waits for its last report if the authority answers.
const GRACE: Duration = Duration::from_secs(2);
/// After this time without a sign of life, the authority counts as unreachable, because
/// it sends a heartbeat every two seconds. The gate then does not wait.
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

    /// Waits a short time until all reports are delivered.
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
