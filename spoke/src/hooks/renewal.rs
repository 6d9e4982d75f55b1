//! Says at intervals that commands in the background are still wanted, for as long as the record says
//! that they are held.
//!
//! A spoke that starts anew takes it up again by the records that it finds ([`resume`]), so that what is
//! held stays held while a spoke is updated.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use tokio_util::task::AbortOnDropHandle;

use super::background::renew;
use super::pods::{MAX_PODS, Target};
use super::record::Record;
use super::script::State;
use crate::task::Spoke;

/// How often a command is renewed: several times within [`super::script::LEASE`].
const RENEW_EVERY: Duration = Duration::from_mins(1);
/// Containers that are asked at a time.
const AT_A_TIME: usize = MAX_PODS;
/// The longest that a command is held, whatever becomes of its run.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// The runs whose commands are being renewed.
#[derive(Default)]
pub struct Renewals(Mutex<HashMap<String, AbortOnDropHandle<()>>>);

/// Renews what a run holds, from now on.
pub fn keep(spoke: &Arc<Spoke>, migration: &str) {
    let mut kept = spoke.renewals.0.lock().unwrap_or_else(PoisonError::into_inner);
    kept.retain(|_, task| !task.is_finished());
    kept.entry(migration.to_owned()).or_insert_with(|| {
        let task = tokio::spawn(renew_all(Arc::clone(spoke), migration.to_owned()));
        AbortOnDropHandle::new(task)
    });
}

/// Stops renewing what a run held.
pub fn cease(spoke: &Spoke, migration: &str) {
    spoke.renewals.0.lock().unwrap_or_else(PoisonError::into_inner).remove(migration);
}

/// Takes up again what a spoke before this one renewed.
pub async fn resume(spoke: &Arc<Spoke>) {
    match Record::migrations(&spoke.cluster, &spoke.namespace).await {
        Ok(migrations) => migrations.iter().for_each(|migration| keep(spoke, migration)),
        Err(error) => tracing::warn!(
            %error,
            "reading which hooks hold something failed: what is held ends by itself within {} s",
            super::script::LEASE
        ),
    }
}

async fn renew_one(spoke: &Spoke, migration: &str, hook: &str, target: &Target) {
    let state = renew(&spoke.cluster, migration, hook, target).await;
    if !matches!(state, Some(State::Running | State::Ready)) {
        tracing::warn!(migration, hook, pod = target.name(), ?state, "a command is held no more");
    }
}

async fn renew_all(spoke: Arc<Spoke>, migration: String) {
    loop {
        match Record::read(&spoke.cluster, &spoke.namespace, &migration).await {
            Ok(record) => {
                let now = Timestamp::now();
                let wanted =
                    |since: Option<Timestamp>| since.is_none_or(|since| now.duration_since(since) < LONGEST);
                let held = record.held();
                if !held.iter().any(|held| wanted(held.since)) {
                    return;
                }
                let wanted = held.into_iter().filter(|held| wanted(held.since));
                let all = wanted.flat_map(|held| {
                    let hook = held.hook;
                    held.targets.into_iter().map(move |target| (hook.clone(), target))
                });
                let all: Vec<(String, Target)> = all.collect();
                // One node that does not answer is not to cost the others their lease.
                let renewing = |(hook, target): (String, Target)| {
                    let (spoke, migration) = (Arc::clone(&spoke), migration.clone());
                    async move { renew_one(&spoke, &migration, &hook, &target).await }
                };
                futures::stream::iter(all).for_each_concurrent(AT_A_TIME, renewing).await;
            }
            Err(error) => {
                tracing::warn!(migration, %error, "reading what hooks hold failed; trying again");
            }
        }
        tokio::time::sleep(RENEW_EVERY).await;
    }
}
