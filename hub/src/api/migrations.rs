//! What people read of a run through the hub: each object's result, and the log. Both lie sealed
//! in staging; the hub opens them with the pair's key.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body as StreamBody;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use isthmus_shared::protocol::{ObjectPage, ObjectResult};
use isthmus_shared::resources::Migration;
use isthmus_shared::staging::{
    ArchiveError, ArchiveName, ArchiveReader, JournalError, LogLine, MigrationUid, ObjectStore, PairKey,
    PairUid, journal,
};
use kube::ResourceExt as _;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::problem::bearer;
use super::{Front, Office, Problem};
use crate::docket;

/// The most results in one page.
pub(super) const MAX_PAGE: usize = 1000;
/// The results in a page when nobody says how many.
const DEFAULT_PAGE: usize = 500;
/// A page ends early when it holds so many bytes of JSON: diffs may be long.
const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;
/// The archives of a run that hold results, the fullest first: what became of each object; until
/// that is there, what would become of it. Both name what is left behind too, and before them that
/// alone is known.
const RESULTS: [ArchiveName; 3] = [ArchiveName::Results, ArchiveName::Preview, ArchiveName::LeftBehind];
/// How often a log that is followed is looked at.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// Lines of each cluster that are read at a time.
const LOG_LINES: usize = 1000;
/// Pieces of a log that wait for a slow reader.
const LOG_BUFFER: usize = 4;

#[derive(Debug, Deserialize)]
pub(super) struct PageQuery {
    offset: Option<u64>,
    limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
pub(super) struct LogQuery {
    #[serde(default)]
    follow: bool,
}

/// What opens the staging of a run.
struct Opened {
    store: Arc<dyn ObjectStore>,
    key: PairKey,
    pair: PairUid,
    migration: MigrationUid,
    clusters: Vec<String>,
}

/// `GET /v1/namespaces/{namespace}/migrations/{name}/objects`
pub(super) async fn objects(
    State(front): State<Arc<Front>>,
    Path((namespace, name)): Path<(String, String)>,
    query: Result<Query<PageQuery>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Json<ObjectPage>, Problem> {
    let Query(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    let (office, migration) = permitted(&front, &headers, &namespace, &name).await?;
    let Some(opened) = open(&front, &office, &migration)? else { return Ok(Json(ObjectPage::default())) };
    let offset = query.offset.unwrap_or(0);
    let limit = query.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
    Ok(Json(page(&opened, offset, limit).await?))
}

/// `GET /v1/namespaces/{namespace}/migrations/{name}/logs`
pub(super) async fn logs(
    State(front): State<Arc<Front>>,
    Path((namespace, name)): Path<(String, String)>,
    query: Result<Query<LogQuery>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    let (office, migration) = permitted(&front, &headers, &namespace, &name).await?;
    let permit = Arc::clone(&front.logs).try_acquire_owned().map_err(|_| {
        let message =
            "the hub sends as many logs as it does at a time already: end one that is followed, or try again";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
    })?;
    let (sender, receiver) = mpsc::channel(LOG_BUFFER);
    tokio::spawn(send_log(front, office, migration, query.follow, sender, permit));
    let kind = "text/plain; charset=utf-8";
    let body = StreamBody::from_stream(ReceiverStream::new(receiver));
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

/// The migration, if whoever asks may read it. Whether there is one of that name is told only to
/// those who may.
async fn permitted(
    front: &Front,
    headers: &HeaderMap,
    namespace: &str,
    name: &str,
) -> Result<(Arc<Office>, Arc<Migration>), Problem> {
    let office = front.leading()?;
    front.people.may_read(bearer(headers)?, namespace, name).await?;
    let migration = office.records.migrations.get(namespace, name).ok_or_else(|| {
        Problem::not_found(format!(
            "there is no migration {name} in namespace {namespace}; see `isthmus migration list`"
        ))
    })?;
    Ok((office, migration))
}

/// Opens a run's staging; nothing if it has not begun.
fn open(front: &Front, office: &Office, migration: &Migration) -> Result<Option<Opened>, Problem> {
    let Some(status) = migration.status.as_ref() else { return Ok(None) };
    let Some(pair) = status.pair_uid.as_deref() else { return Ok(None) };
    let Some(staging) = docket::staging_of(&office.records, migration) else {
        return Err(Problem::not_found(format!(
            "what migration {} left in staging cannot be read: its pair, the pair's key, the object store or its credentials are gone",
            migration.name_any()
        )));
    };
    let unreadable = |error: &dyn std::fmt::Display| Problem::unavailable(error.to_string());
    let store = front.stores.open(&staging.access).map_err(|error| unreadable(&error))?;
    let key = PairKey::from_base64(&staging.key).map_err(|error| unreadable(&error))?;
    let pair = PairUid::new(pair).map_err(|error| unreadable(&error))?;
    let uid = migration.uid().unwrap_or_default();
    let migration = MigrationUid::new(uid).map_err(|error| unreadable(&error))?;
    let clusters = [&status.source, &status.destination].into_iter().flatten().cloned().collect();
    Ok(Some(Opened { store, key, pair, migration, clusters }))
}

async fn page(opened: &Opened, offset: u64, limit: usize) -> Result<ObjectPage, Problem> {
    let failed = |error: ArchiveError| Problem::unavailable(error.to_string());
    let mut items = Vec::new();
    let Some(mut reader) = results(opened).await.map_err(failed)? else { return Ok(ObjectPage::default()) };
    let (mut number, mut bytes) = (0, 0);
    while let Some(line) = reader.next().await.map_err(failed)? {
        number += 1;
        if number <= offset {
            continue;
        }
        if items.len() == limit || bytes >= MAX_PAGE_BYTES {
            return Ok(ObjectPage { next: Some(offset.saturating_add(items.len() as u64)), items });
        }
        let result: ObjectResult = serde_json::from_value(line).map_err(|error| {
            Problem::unavailable(format!(
                "a result in staging is not one ({error}); update the hub to the spoke's version"
            ))
        })?;
        bytes += length(&result);
        items.push(result);
    }
    Ok(ObjectPage { items, next: None })
}

/// About how long a result is as JSON.
fn length(result: &ObjectResult) -> usize {
    let texts = [&result.reason, &result.message, &result.diff, &result.rewritten];
    texts.into_iter().flatten().map(String::len).sum::<usize>() + result.name.len() + result.kind.len()
}

/// The fullest archive of results that is there; nothing before any step has written one.
async fn results(opened: &Opened) -> Result<Option<ArchiveReader>, ArchiveError> {
    for name in RESULTS {
        let store = Arc::clone(&opened.store);
        match ArchiveReader::open(store, &opened.key, &opened.pair, &opened.migration, name).await {
            Ok(reader) => return Ok(Some(reader)),
            Err(ArchiveError::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Sends the lines of both clusters in the order of time; to the end of the run if it is followed.
async fn send_log(
    front: Arc<Front>,
    office: Arc<Office>,
    migration: Arc<Migration>,
    follow: bool,
    sender: mpsc::Sender<Result<Bytes, std::io::Error>>,
    _permit: OwnedSemaphorePermit,
) {
    let (namespace, name) = (migration.namespace().unwrap_or_default(), migration.name_any());
    let uid = migration.uid();
    let mut reading: Option<(Opened, Vec<Cursor>)> = None;
    loop {
        let newest = office.records.migrations.get(&namespace, &name).filter(|newest| newest.uid() == uid);
        // Looked at before the lines are: what is written until the run ends is not missed.
        let ended = newest.as_ref().is_none_or(|m| m.status.as_ref().is_some_and(|s| s.status.is_terminal()));
        if reading.is_none()
            && let Some(newest) = &newest
        {
            match open(&front, &office, newest) {
                Ok(opened) => {
                    reading = opened.map(|opened| {
                        let cursors = opened.clusters.iter().map(|cluster| Cursor::new(cluster)).collect();
                        (opened, cursors)
                    });
                }
                Err(problem) => return fail(&sender, format!("{problem:?}")).await,
            }
        }
        if let Some((opened, cursors)) = &mut reading {
            loop {
                match next_lines(opened, cursors).await {
                    Ok(lines) if lines.is_empty() => break,
                    Ok(lines) => {
                        if sender.send(Ok(Bytes::from(lines))).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => return fail(&sender, error.to_string()).await,
                }
            }
        }
        if !follow || ended {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(FOLLOW_EVERY) => {}
            () = sender.closed() => return,
            () = office.term.over().cancelled() => return,
            () = front.stop.cancelled() => return,
        }
    }
}

/// An error in the middle of a body can only be told by breaking the body off.
async fn fail(sender: &mpsc::Sender<Result<Bytes, std::io::Error>>, message: String) {
    tracing::warn!(message, "sending a migration's log was broken off");
    let line = format!("the log ends here: {message}\n");
    if sender.send(Ok(Bytes::from(line))).await.is_ok() {
        // Whoever reads may be gone, and then needs no error.
        drop(sender.send(Err(std::io::Error::other(message))).await);
    }
}

/// How far one cluster's log has been read.
struct Cursor {
    cluster: String,
    chunk: u32,
    lines: VecDeque<LogLine>,
}

impl Cursor {
    fn new(cluster: &str) -> Self {
        Self { cluster: cluster.to_owned(), chunk: 0, lines: VecDeque::new() }
    }
}

/// The next lines of all clusters, merged by time: as many as are sure to be in order.
async fn next_lines(opened: &Opened, cursors: &mut [Cursor]) -> Result<String, JournalError> {
    for cursor in cursors.iter_mut().filter(|cursor| cursor.lines.is_empty()) {
        let Opened { store, key, pair, migration, .. } = opened;
        let read = journal::read_from(
            store.as_ref(),
            key,
            pair,
            migration,
            &cursor.cluster,
            cursor.chunk,
            LOG_LINES,
        );
        let (lines, next) = read.await?;
        cursor.lines.extend(lines);
        cursor.chunk = next;
    }
    Ok(merge(cursors))
}

/// Takes lines in the order of time until one of the clusters that had some has no more: what it
/// says next may be earlier than what the others have left.
fn merge(cursors: &mut [Cursor]) -> String {
    let mut text = String::new();
    let mut speaking: Vec<&mut Cursor> =
        cursors.iter_mut().filter(|cursor| !cursor.lines.is_empty()).collect();
    while speaking.iter().all(|cursor| !cursor.lines.is_empty()) {
        let earliest = speaking.iter_mut().min_by_key(|cursor| cursor.lines.front().map(|line| line.at));
        let Some(line) = earliest.and_then(|cursor| cursor.lines.pop_front()) else { break };
        let at = line.at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        text.extend([at.as_str(), " ", &line.cluster, " ", &line.text, "\n"]);
    }
    text
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn cursor(cluster: &str, seconds: &[i64]) -> Cursor {
        let line = |second: &i64| LogLine {
            at: Timestamp::from_second(*second).unwrap(),
            cluster: cluster.to_owned(),
            text: format!("line {second}"),
        };
        Cursor { lines: seconds.iter().map(line).collect(), ..Cursor::new(cluster) }
    }

    #[test]
    fn lines_of_two_clusters_are_merged_as_far_as_their_order_is_sure() {
        let mut cursors = [cursor("east", &[1, 4]), cursor("west", &[2, 3, 9])];
        let text = merge(&mut cursors);
        let order: Vec<&str> = text.lines().filter_map(|line| line.rsplit(' ').next()).collect();
        assert_eq!(order, ["1", "2", "3", "4"]);
        assert_eq!(cursors[1].lines.len(), 1);
        assert!(text.starts_with("1970-01-01T00:00:01.000Z east line 1\n"), "{text}");
        assert_eq!(merge(&mut cursors).lines().count(), 1);
        assert_eq!(merge(&mut cursors), "");
    }
}
