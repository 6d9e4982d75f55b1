//! The loop around a controller: wait for a change or the time, look at every object, retry failures.

use std::time::Duration;

use futures::future::select_all;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::cache::Changes;
use super::{Again, Context, Controller, full_name};

/// Without a change or a wish, objects are looked at again after this time.
const RESYNC: Duration = Duration::from_secs(30);
/// Changes come in bursts; one look serves those that come within this time.
const GATHER: Duration = Duration::from_millis(10);
/// The pause after a first failure, doubled with each one up to the limit.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Starts a controller; the cache must be ready.
pub(crate) fn spawn<C: Controller>(controller: C, context: &Context, tasks: &mut JoinSet<()>) {
    let cache = context.cache.clone();
    tasks.spawn(async move {
        let mut changes = cache.changes(C::TOPICS);
        let mut failures = 0_u32;
        loop {
            for change in &mut changes {
                change.mark_unchanged();
            }
            let again = sweep(&controller, &cache, &mut failures).await;
            let wake = Instant::now() + again.unwrap_or(RESYNC).min(RESYNC);
            tokio::select! {
                () = tokio::time::sleep_until(wake) => {}
                () = any(&mut changes) => tokio::time::sleep(GATHER).await,
            }
        }
    });
}

async fn any(changes: &mut [Changes]) {
    let waiting = changes.iter_mut().map(|change| Box::pin(change.changed()));
    if let (Err(_), ..) = select_all(waiting).await {
        // The watches have ended, and so will this task: both belong to the cluster.
        std::future::pending::<()>().await;
    }
}

async fn sweep<C: Controller>(controller: &C, cache: &super::Cache, failures: &mut u32) -> Again {
    let mut soonest: Again = None;
    let mut failed = false;
    for object in controller.objects(cache) {
        match controller.reconcile(&object).await {
            Ok(Some(again)) => soonest = Some(soonest.map_or(again, |soonest| soonest.min(again))),
            Ok(None) => {}
            Err(error) => {
                failed = true;
                tracing::debug!(object = full_name(&*object), %error, "a controller of the lab will try again");
            }
        }
    }
    if !failed {
        *failures = 0;
        return soonest;
    }
    let retry = LAST_RETRY.min(FIRST_RETRY * 2_u32.saturating_pow((*failures).min(10)));
    *failures = failures.saturating_add(1);
    Some(soonest.map_or(retry, |soonest| soonest.min(retry)))
}
