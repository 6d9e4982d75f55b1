//! The names that Isthmus writes into other people's objects: annotations, labels, finalizers,
//! field manager. They are an interface: runs of other versions and people's scripts read them.

/// Annotation: the replica count that a workload had before it was stopped or arrived stopped.
pub const MIGRATION_REPLICAS: &str = "isthmus.dev/migration-replicas";
/// Annotation: the `spec.suspend` that a CronJob had before it was suspended by Isthmus.
pub const MIGRATION_SUSPEND: &str = "isthmus.dev/migration-suspend";
/// Annotation on a stopped workload: the uid of the migration that stopped it. Going back starts
/// what carries its own and nothing else.
pub const QUIESCED_BY: &str = "isthmus.dev/quiesced-by";
/// Label on a Namespace: `"true"` where the applications are meant to run, `"false"` where they
/// are not because they run elsewhere.
pub const ACTIVE: &str = "isthmus.dev/active";
/// Annotation on a Namespace that has [`ACTIVE`]: the other side, `<cluster>/<namespace>`.
pub const COUNTERPART: &str = "isthmus.dev/counterpart";
/// Annotation on a Migration: `"true"` ends it and undoes what it did.
pub const CANCEL: &str = "isthmus.dev/cancel";
/// Annotation on a `MigrationPlan`: any value that it had not before has the plan checked now.
pub const CHECK: &str = "isthmus.dev/check";
/// Label: the uid of the migration that brought an object. Whatever carries it is ours to update.
pub const MIGRATED_BY: &str = "isthmus.dev/migrated-by";
/// Label: which namespace of which pair an object was brought from ([`plan_mark`]). A run may
/// delete what carries its own and is gone from the source; nothing else.
pub const PLAN: &str = "isthmus.dev/plan";
/// Label on a Migration: the name of the `MigrationSchedule` whose run it is.
pub const SCHEDULE: &str = "isthmus.dev/schedule";
/// Annotation on a kept volume: the reclaim policy that it had on the source.
pub const RECLAIM_POLICY: &str = "isthmus.dev/reclaim-policy";
/// Annotation on a volume of the source: the uid of the migration that set its reclaim policy to
/// Retain. Going back gives the policy back to what carries its own, and to nothing else.
pub const RETAINED_BY: &str = "isthmus.dev/retained-by";
/// Annotation on any source object: `"true"` leaves it behind.
pub const SKIP: &str = "isthmus.dev/skip";
/// Label on everything that a spoke makes for its own use in an application's namespace.
pub const COMPONENT: &str = "isthmus.dev/component";
/// The value of [`COMPONENT`] on mover Jobs, their Pods, service account and network policy.
pub const COMPONENT_MOVER: &str = "mover";
/// The value of [`COMPONENT`] on VolumeSnapshots that a run took, and on claims made from them.
pub const COMPONENT_SNAPSHOT: &str = "snapshot";
/// The value of [`COMPONENT`] on the Jobs of hooks and their Pods.
pub const COMPONENT_HOOK: &str = "hook";
/// Annotation on a mover Job, and on the Job of a hook: the id of the task that it serves.
pub const TASK: &str = "isthmus.dev/task";
/// Finalizer that the hub puts on records whose traces it has to remove.
pub const FINALIZER: &str = "isthmus.dev/hub";
/// The field manager of every server-side apply.
pub const FIELD_MANAGER: &str = "isthmus";

/// The value of [`PLAN`] for what comes from a namespace of a cluster through a pair.
pub fn plan_mark(pair_uid: &str, source_cluster: &str, namespace: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [pair_uid, source_cluster, namespace] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().as_str()[..32].to_owned()
}
