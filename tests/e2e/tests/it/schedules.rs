//! Schedules: runs by the clock, what is made up for, what stops them, what is kept.
//!
//! No test waits for a clock: it lets the hub know that a run was missed ([`misses`]), as it would after
//! it was down, and the run that is due begins at once.

use std::fs;

use isthmus_shared::resources::{
    Migration, MigrationPhase, MigrationSchedule, MigrationScheduleStatus, MigrationStatus, SCHEDULE,
    run_name,
};
use jiff::{SignedDuration, Timestamp, Unit};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::volume_options::{claim, noise};
use crate::world::{NAMESPACE, PAIR, World, eventually};

fn schedules(world: &World) -> Api<MigrationSchedule> {
    Api::namespaced(world.client("hub"), NAMESPACE)
}

/// The full minute that was so many minutes ago, and the timing that is due then and every hour.
fn minutes_ago(minutes: i64) -> (Timestamp, String) {
    let then = Timestamp::now() - SignedDuration::from_mins(minutes);
    let then = Timestamp::from_second(then.as_second().div_euclid(60) * 60).unwrap();
    assert_eq!(then.round(Unit::Minute).unwrap(), then);
    (then, format!("{} * * * *", then.strftime("%M").to_string().parse::<u32>().unwrap()))
}

async fn patch(world: &World, name: &str, patch: &Value) {
    schedules(world).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

/// Lets the schedule have counted for three hours, as if the hub had been down since.
async fn counts_for_long(world: &World, name: &str, timing: &str) {
    let since = Timestamp::now() - SignedDuration::from_hours(3);
    let status = json!({"status": {"timing": {"schedule": timing, "since": since}}});
    schedules(world).patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
}

/// Lets the schedule miss a run that was due so many minutes ago; gives the name of that run.
pub async fn misses(world: &World, name: &str, minutes: i64) -> String {
    let (due, timing) = minutes_ago(minutes);
    patch(world, name, &json!({"spec": {"schedule": timing}})).await;
    counts_for_long(world, name, &timing).await;
    run_name(name, due)
}

/// Waits until a schedule's status passes the check, and gives it back.
async fn schedule_is(
    world: &World,
    name: &str,
    what: &str,
    check: impl Fn(&MigrationSchedule, &MigrationScheduleStatus) -> bool,
) -> MigrationScheduleStatus {
    let (schedules, check) = (&schedules(world), &check);
    eventually(&format!("schedule {name} to be {what}"), || async move {
        let schedule = schedules.get(name).await.unwrap();
        let status = schedule.status.clone().unwrap_or_default();
        if check(&schedule, &status) { Ok(status) } else { Err(format!("{status:?}")) }
    })
    .await
}

/// Waits until the schedule is in that state, as it is told of its newest generation.
async fn is_in_state(world: &World, name: &str, state: &str) -> MigrationScheduleStatus {
    schedule_is(world, name, state, |schedule, status| {
        status.observed_generation == schedule.metadata.generation
            && status.conditions.iter().any(|condition| condition.reason == state)
    })
    .await
}

/// The names of a schedule's runs.
async fn runs(world: &World, name: &str) -> Vec<String> {
    let labelled = ListParams::default().labels(&format!("{SCHEDULE}={name}"));
    let found = Api::<Migration>::namespaced(world.client("hub"), NAMESPACE).list(&labelled).await.unwrap();
    let mut names: Vec<String> = found.iter().map(ResourceExt::name_any).collect();
    names.sort();
    names
}

/// Waits until a run is there and has succeeded.
async fn succeeds(world: &World, run: &str) -> MigrationStatus {
    let migrations = &Api::<Migration>::namespaced(world.client("hub"), NAMESPACE);
    let ended = eventually(&format!("run {run} to end"), || async move {
        match migrations.get_opt(run).await.unwrap() {
            Some(migration) => match migration.status {
                Some(status) if status.status.is_terminal() => Ok(status),
                status => Err(format!("{status:?}")),
            },
            None => Err("it is not there".to_owned()),
        }
    })
    .await;
    let well = matches!(ended.status, MigrationPhase::Succeeded | MigrationPhase::SucceededWithWarnings);
    assert!(well, "{ended:#?}");
    ended
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_missed_while_the_hub_was_down_is_made_up_for_once_and_brings_the_changes() {
    let mut world = World::start().await;
    world.apply("east", &claim("ledger")).await;
    let east = world.volume("east", "ledger", "data").await;
    for file in 0..4 {
        fs::write(east.join(format!("file-{file}")), noise(file, 1 << 20)).unwrap();
    }
    let (due, timing) = minutes_ago(30);
    let create = ["schedule", "create", "ledger", "ledger", "--pair", PAIR, "--cron", &timing];
    let said =
        world.isthmus(&[&create[..], &["--keep-succeeded", "1", "--starting-deadline", "2h"]].concat()).await;
    assert!(said.ends_with(0).out.contains("first run is due at"));
    let status = is_in_state(&world, "ledger", "Scheduled").await;
    assert!(status.next_at.is_some_and(|next| next.0 > Timestamp::now()));
    assert!(runs(&world, "ledger").await.is_empty(), "nothing was due since it was made");

    // Three runs were missed.
    world.hub.program.kill().await.unwrap();
    counts_for_long(&world, "ledger", &timing).await;
    world.hub.program.restart().await.unwrap();
    let first = run_name("ledger", due);
    let ended = succeeds(&world, &first).await;
    assert!(ended.volumes[0].bytes_uploaded >= 4 << 20, "{ended:#?}");
    assert_eq!(runs(&world, "ledger").await, [first.as_str()]);
    let status = schedule_is(&world, "ledger", "told of it", |_, status| {
        status.last_succeeded.is_some() && status.active.is_empty()
    })
    .await;
    assert_eq!(status.last_succeeded.unwrap().name, first);
    assert_eq!(status.last_scheduled_at.unwrap().0, due);

    // The next one brings what has changed, and the first one goes with what it has staged.
    fs::write(east.join("file-0"), noise(100, 1 << 20)).unwrap();
    let migrations = Api::<Migration>::namespaced(world.client("hub"), NAMESPACE);
    let uid = migrations.get(&first).await.unwrap().uid().unwrap();
    let second = misses(&world, "ledger", 20).await;
    let ended = succeeds(&world, &second).await;
    let sent = ended.volumes[0].bytes_uploaded;
    assert!((1 << 20..2 << 20).contains(&sent), "one file was changed, and {sent} bytes were sent");
    let west = world.volume("west", "ledger", "data").await;
    for file in 0..4 {
        let name = format!("file-{file}");
        assert!(fs::read(east.join(&name)).unwrap() == fs::read(west.join(&name)).unwrap(), "{name}");
    }
    let (world_, second_) = (&world, &second);
    eventually("the first run to be removed", || async move {
        let left = runs(world_, "ledger").await;
        if left == [second_.as_str()] { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    let staged: Vec<String> =
        world.lab.s3().list("isthmus", "").into_iter().filter(|key| key.contains(&uid)).collect();
    assert!(staged.is_empty(), "{staged:?}");

    // A hub that starts anew begins neither of them again.
    world.hub.program.kill().await.unwrap();
    world.hub.program.restart().await.unwrap();
    world.isthmus(&["schedule", "suspend", "ledger"]).await.ends_with(0);
    is_in_state(&world, "ledger", "Suspended").await;
    assert_eq!(runs(&world, "ledger").await, [second.as_str()]);

    // What it owns goes with it.
    world.isthmus(&["schedule", "delete", "ledger"]).await.ends_with(0);
    let world = &world;
    eventually("the run to go with its schedule", || async move {
        let left = runs(world, "ledger").await;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_schedule_begins_nothing_until_it_is_resumed() {
    let world = World::shared().await;
    world.apply("east", &claim("paused")).await;
    let plan = ["plan", "create", "paused", "paused", "--pair", PAIR];
    world.isthmus(&plan).await.ends_with(0);
    let create = ["schedule", "create", "paused", "--plan", "paused", "--cron", "@yearly", "--suspend"];
    world.isthmus(&create).await.ends_with(0);
    let due = misses(world, "paused", 10).await;
    let status = is_in_state(world, "paused", "Suspended").await;
    assert!(status.next_at.is_none() && runs(world, "paused").await.is_empty());
    let said = world.isthmus(&["plan", "delete", "paused"]).await.ends_with(1);
    assert!(said.err.contains("isthmus schedule delete"), "{}", said.err);

    world.isthmus(&["schedule", "resume", "paused"]).await.ends_with(0);
    succeeds(world, &due).await;
    let told = world.isthmus(&["schedule", "describe", "paused"]).await.ends_with(0).out;
    assert!(told.contains(&due) && told.contains("Succeeded") && told.contains("Next run"), "{told}");
    let list = world.isthmus(&["schedule", "list"]).await.ends_with(0).out;
    assert!(list.contains("paused") && list.contains("Scheduled"), "{list}");
    assert_eq!(runs(world, "paused").await, [due]);
    world.isthmus(&["schedule", "delete", "paused"]).await.ends_with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_told_and_begins_nothing_until_it_is_put_right() {
    let world = World::shared().await;
    let bad = ["schedule", "create", "bad", "cms", "--pair", PAIR, "--cron", "0 0 31 2 *"];
    let said = world.isthmus(&bad).await.ends_with(2);
    assert!(said.err.contains("never comes"), "{}", said.err);
    let said = world.isthmus(&["schedule", "create", "bad", "--plan", "no-plan", "--cron", "@daily"]).await;
    assert!(said.ends_with(1).err.contains("isthmus plan list"));
    assert!(schedules(world).get_opt("bad").await.unwrap().is_none());

    // Those that come another way are told by the hub.
    world.apply("east", &claim("mended")).await;
    let manifest = "apiVersion: isthmus.dev/v1alpha1
kind: MigrationSchedule
metadata: {name: mended, namespace: isthmus}
spec:
  schedule: often
  timeZone: Europe/Berlin
  template: {spec: {plan: mended}}
";
    world.apply("hub", manifest).await;
    let status = is_in_state(world, "mended", "BadSchedule").await;
    assert!(status.message.unwrap().starts_with("spec.schedule: "));
    let spec = |change: Value| json!({ "spec": change });
    patch(world, "mended", &spec(json!({"schedule": "@daily", "timeZone": "Mars/Olympus"}))).await;
    is_in_state(world, "mended", "UnknownTimeZone").await;
    patch(world, "mended", &spec(json!({"timeZone": null}))).await;
    is_in_state(world, "mended", "NoSuchPlan").await;
    world.isthmus(&["plan", "create", "mended", "mended", "--pair", PAIR, "--quiesce"]).await.ends_with(0);
    is_in_state(world, "mended", "BadCutover").await;
    let refused = spec(json!({"template": {"spec": {"action": "Rollback"}}}));
    let refused = schedules(world).patch("mended", &PatchParams::default(), &Patch::Merge(&refused)).await;
    assert!(refused.unwrap_err().to_string().contains("Unsupported value"));
    let due = misses(world, "mended", 15).await;
    is_in_state(world, "mended", "BadCutover").await;
    assert!(runs(world, "mended").await.is_empty());
    patch(world, "mended", &spec(json!({"template": {"spec": {"action": "Stage"}}}))).await;
    let ended = succeeds(world, &due).await;
    assert_eq!(ended.resources.done, 0, "a stage moves no objects");
    world.isthmus(&["schedule", "delete", "mended"]).await.ends_with(0);
    world.isthmus(&["plan", "delete", "mended"]).await.ends_with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_stops_while_the_destination_is_active_and_goes_on_afterwards() {
    let world = World::shared().await;
    world.install_cms("visited").await;
    let create = ["schedule", "create", "visited", "visited", "--pair", PAIR, "--cron", "@yearly"];
    world.isthmus(&create).await.ends_with(0);
    let first = misses(world, "visited", 30).await;
    succeeds(world, &first).await;

    world.isthmus(&["activate", "visited", "--cluster", "west"]).await.ends_with(0);
    let missed = misses(world, "visited", 20).await;
    let status = is_in_state(world, "visited", "DestinationActive").await;
    assert!(status.next_at.is_none() && status.held.is_some());
    assert_eq!(runs(world, "visited").await, [first.as_str()]);
    let said = world.isthmus(&["schedule", "resume", "visited"]).await.ends_with(0);
    assert!(said.out.contains("isthmus deactivate visited --cluster west"), "{}", said.out);

    world.isthmus(&["deactivate", "visited", "--cluster", "west"]).await.ends_with(0);
    succeeds(world, &missed).await;
    let status = schedule_is(world, "visited", "free again", |_, status| {
        status.active.is_empty() && status.last_succeeded.as_ref().is_some_and(|run| run.name == missed)
    })
    .await;
    assert_eq!(status.held, None);
    world.isthmus(&["schedule", "delete", "visited", "--keep-runs"]).await.ends_with(0);
    assert_eq!(runs(world, "visited").await, [first, missed]);
}
