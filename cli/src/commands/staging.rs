//! `isthmus staging …`: asks through the pair's record, and shows the answer that it gets there.

use std::time::Duration;

use isthmus_shared::resources::{ClusterPair, PrunePhase, PruneRequest, PruneStatus};

use super::print_record;
use crate::args::{Connection, StagingCommand};
use crate::connect::Session;
use crate::ending::Ending;
use crate::error::Error;
use crate::output;
use crate::records::Records;
use crate::render::{self, StagingView};
use crate::watching::{Waited, Watched};

/// What `list` asks to be kept: more than there ever is.
const KEEP_ALL: u32 = 100;

pub async fn run(connection: &Connection, command: StagingCommand) -> Result<Ending, Error> {
    let request =
        |keep, gone, dry_run| PruneRequest { request: uuid::Uuid::new_v4().to_string(), keep, gone, dry_run };
    let (pair, request, view, timeout, output) = match command {
        StagingCommand::List(args) => {
            (args.pair, request(KEEP_ALL, false, true), StagingView::List, args.timeout, args.output)
        }
        StagingCommand::Prune(args) => (
            args.pair,
            request(args.keep, args.gone, args.dry_run),
            StagingView::Prune,
            args.timeout,
            args.output,
        ),
    };
    let session = Session::open(connection).await?;
    let pairs = Records::<ClusterPair>::of(&session, &session.namespace);
    let now = jiff::Timestamp::now();
    pairs
        .change::<Error>(&pair, |known| {
            if let Some(busy) = under_way(known) {
                return Err(Error::Refused(format!(
                    "a collection of the pair's staging is under way ({busy}): wait until `isthmus pair describe {pair}` shows that it has ended"
                )));
            }
            known.spec.prune = Some(request.clone());
            Ok(())
        })
        .await?;
    let answer = answer(pairs, &pair, &request.request, timeout).await?;
    print_record(output.format(), &answer, || render::describe_staging(&answer, view, now))?;
    Ok(match answer.phase {
        PrunePhase::Succeeded if answer.totals.problems > 0 => Ending::Warnings,
        PrunePhase::Succeeded => Ending::Succeeded,
        _ => Ending::Failed,
    })
}

/// What is being done for another request: it is not taken away from whoever asked.
fn under_way(pair: &ClusterPair) -> Option<String> {
    let wanted = pair.spec.prune.as_ref()?;
    let known = pair.status.as_ref().and_then(|status| status.prune.as_ref());
    match known.filter(|known| known.request == wanted.request) {
        Some(known) if known.phase.is_terminal() => None,
        Some(known) => Some(known.message.clone().unwrap_or_else(|| render::word(known.phase))),
        None => Some("it has not begun".to_owned()),
    }
}

async fn answer(
    pairs: Records<ClusterPair>,
    pair: &str,
    request: &str,
    limit: Duration,
) -> Result<PruneStatus, Error> {
    let object = pairs.named(pair);
    let mut said = None;
    let waited = Watched::new(pairs, pair).until(limit, |pair| {
        let Some(pair) = pair else { return Some(None) };
        let known = pair.status.as_ref()?.prune.as_ref().filter(|known| known.request == request)?;
        if known.phase.is_terminal() {
            return Some(Some(known.clone()));
        }
        // What it waits for is worth a line; each volume is not.
        if known.phase == PrunePhase::Pending && known.message != said {
            said.clone_from(&known.message);
            if let Some(message) = &said {
                output::note(&render::clean(message));
            }
        }
        None
    });
    match waited.await? {
        Waited::Reached(Some(answer)) => Ok(answer),
        Waited::Reached(None) => Err(Error::NotReached(format!("{object} was removed meanwhile"))),
        Waited::TimedOut => Err(Error::NotReached(format!(
            "the source's spoke was not done within {}: `isthmus pair describe` shows how far it is; the request stands",
            render::figures::length(limit)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(wanted: Option<&str>, known: Option<(&str, PrunePhase)>) -> ClusterPair {
        let prune = wanted.map(|request| serde_json::json!({"request": request}));
        let status = known.map(|(request, phase)| serde_json::json!({"request": request, "phase": phase}));
        serde_json::from_value(serde_json::json!({
            "apiVersion": "isthmus.dev/v1alpha1", "kind": "ClusterPair", "metadata": {"name": "prod"},
            "spec": {"source": "a", "destination": "b", "objectStore": "s", "prune": prune},
            "status": {"prune": status},
        }))
        .unwrap()
    }

    #[test]
    fn a_request_waits_its_turn_behind_one_that_is_not_answered() {
        assert_eq!(under_way(&pair(None, None)), None);
        assert_eq!(under_way(&pair(None, Some(("1", PrunePhase::InProgress)))), None, "it was taken away");
        assert!(under_way(&pair(Some("2"), Some(("1", PrunePhase::Succeeded)))).is_some());
        assert!(under_way(&pair(Some("1"), Some(("1", PrunePhase::InProgress)))).is_some());
        assert_eq!(under_way(&pair(Some("1"), Some(("1", PrunePhase::Failed)))), None);
    }
}
