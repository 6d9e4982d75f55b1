//! Events on records: for people to read, published beside everything else.
//!
//! Nobody waits for them, and ordinary ones are published [`ORDINARY_EVERY`] so often at the most: with
//! thousands of migrations under way they would else be most of what the API server has to write. A
//! burst waits its turn; what does not find a place to wait is left out, and how many is logged.
//! Warnings have a queue of their own. What matters stands in the records.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use crate::itinerary::Note;

/// The most events of either queue that wait to be published.
const MAX_WAITING: usize = 1024;
/// How often an ordinary event is published at the most.
const ORDINARY_EVERY: Duration = Duration::from_millis(40);
/// The most warnings that are published at a time.
const WARNINGS_AT_A_TIME: usize = 2;
/// How long one may take to be taken in.
const LIMIT: Duration = Duration::from_secs(5);
/// The name under which the hub reports.
const REPORTER: &str = "isthmus-hub";

/// The way to have events published.
#[derive(Clone)]
pub(crate) struct Events {
    ordinary: mpsc::Sender<Event>,
    warnings: mpsc::Sender<Event>,
    left_out: Arc<AtomicU64>,
    /// Makes names differ.
    made: Arc<AtomicU64>,
}

impl Events {
    /// Begins to publish; it ends when the set of tasks is dropped.
    pub(crate) fn start(client: Client, tasks: &mut JoinSet<()>) -> Self {
        let (events, ordinary, warnings) = Self::queues(MAX_WAITING);
        let (left_out, calmly) = (Arc::clone(&events.left_out), client.clone());
        tasks.spawn(async move {
            let mut ordinary = ordinary;
            while let Some(event) = ordinary.recv().await {
                tokio::join!(publish(&calmly, &event), tokio::time::sleep(ORDINARY_EVERY));
                let missed = left_out.swap(0, Ordering::Relaxed);
                if missed > 0 {
                    tracing::warn!(missed, "events were left out: more happens than is published");
                }
            }
        });
        tasks.spawn(ReceiverStream::new(warnings).for_each_concurrent(WARNINGS_AT_A_TIME, move |event| {
            let client = client.clone();
            async move { publish(&client, &event).await }
        }));
        events
    }

    fn queues(places: usize) -> (Self, mpsc::Receiver<Event>, mpsc::Receiver<Event>) {
        let (ordinary, waiting) = mpsc::channel(places);
        let (warnings, urgent) = mpsc::channel(places);
        (Self { ordinary, warnings, left_out: Arc::default(), made: Arc::default() }, waiting, urgent)
    }

    /// Has these published on an object, unless too many wait.
    pub(crate) fn tell(&self, object: &ObjectReference, notes: Vec<Note>) {
        for note in notes {
            let queue = if note.warning { &self.warnings } else { &self.ordinary };
            let number = self.made.fetch_add(1, Ordering::Relaxed);
            if queue.try_send(event(object, note, number, Timestamp::now())).is_err() {
                self.left_out.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn event(object: &ObjectReference, note: Note, number: u64, now: Timestamp) -> Event {
    let name = object.name.as_deref().unwrap_or(REPORTER);
    // The API server takes names of 253 bytes; objects' own are of ASCII.
    let name: String = name.chars().take(200).collect();
    Event {
        action: Some(note.subject),
        reason: Some(note.reason),
        event_time: Some(MicroTime(now)),
        regarding: Some(object.clone()),
        note: Some(note.message),
        metadata: ObjectMeta {
            namespace: object.namespace.clone(),
            name: Some(format!("{name}.{:x}{number:x}", now.as_microsecond())),
            ..ObjectMeta::default()
        },
        reporting_controller: Some(REPORTER.to_owned()),
        reporting_instance: Some(REPORTER.to_owned()),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}

/// Publishes one. What fails here is logged and no more.
async fn publish(client: &Client, event: &Event) {
    let namespace = event.metadata.namespace.as_deref().unwrap_or("default");
    let object = event.regarding.as_ref().and_then(|object| object.name.as_deref()).unwrap_or_default();
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    match tokio::time::timeout(LIMIT, api.create(&PostParams::default(), event)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::warn!(object, %error, "publishing an event failed; the hub needs create on events");
        }
        Err(_) => tracing::warn!(object, "publishing an event took longer than {} s", LIMIT.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(warning: bool) -> Note {
        Note { warning, reason: "Happened".into(), subject: "Step".into(), message: "so".into() }
    }

    #[test]
    fn an_event_names_its_object_and_no_two_have_the_same_name() {
        let object = ObjectReference {
            name: Some("m".into()),
            namespace: Some("team".into()),
            ..ObjectReference::default()
        };
        let now = Timestamp::UNIX_EPOCH;
        let [one, two] = [1, 2].map(|number| event(&object, note(true), number, now));
        assert_ne!(one.metadata.name, two.metadata.name);
        assert_eq!(
            (one.metadata.namespace.as_deref(), one.type_.as_deref()),
            (Some("team"), Some("Warning"))
        );
        assert_eq!((one.reason.as_deref(), one.note.as_deref()), (Some("Happened"), Some("so")));
    }

    #[test]
    fn what_finds_no_place_to_wait_is_left_out_and_takes_no_warnings_place() {
        let (events, mut ordinary, mut warnings) = Events::queues(1);
        let object = ObjectReference::default();
        events.tell(&object, vec![note(false), note(false), note(true)]);
        assert_eq!(events.left_out.load(Ordering::Relaxed), 1);
        assert_eq!(ordinary.try_recv().unwrap().type_.as_deref(), Some("Normal"));
        assert_eq!(warnings.try_recv().unwrap().type_.as_deref(), Some("Warning"));
    }
}
