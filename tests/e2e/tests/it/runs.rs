//! A run from its spec to what became of every object.

use isthmus_shared::protocol::{ObjectAction, ObjectResult};
use isthmus_shared::resources::{Finding, Migration, MigrationPhase, MigrationStatus};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::world::{NAMESPACE, PAIR, World};

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    pub status: MigrationStatus,
    /// What became of each object, or with a dry run would become of it.
    pub objects: Vec<ObjectResult>,
}

/// The part of `migration describe --output json` that is read here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    objects: Vec<ObjectResult>,
    #[serde(default)]
    objects_missing: Option<String>,
}

impl World {
    /// Runs a migration with these fields of its spec to its end, through [`PAIR`] if they name none.
    pub async fn run(&self, name: &str, mut spec: Value) -> Report {
        if spec.get("clusterPair").is_none() {
            spec["clusterPair"] = PAIR.into();
        }
        self.create_migration(name, spec).await.unwrap();
        let status = self.migration_is(name, "ended", |status| status.status.is_terminal()).await;
        Report { status, objects: self.objects_of(name).await }
    }

    /// Asks the API server for a migration of exactly this spec.
    pub async fn create_migration(&self, name: &str, spec: Value) -> kube::Result<()> {
        let resource = ApiResource::erase::<Migration>(&());
        let migrations = Api::<DynamicObject>::namespaced_with(self.client("hub"), NAMESPACE, &resource);
        let mut migration = DynamicObject::new(name, &resource);
        migration.data = json!({ "spec": spec });
        migrations.create(&PostParams::default(), &migration).await.map(drop)
    }

    /// Every object that a migration has something to say of.
    pub async fn objects_of(&self, migration: &str) -> Vec<ObjectResult> {
        let said = self.isthmus(&["migration", "describe", migration, "-o", "json"]).await.ends_with(0);
        let described: Described = serde_json::from_str(&said.out).unwrap();
        assert_eq!(described.objects_missing, None, "of {migration}");
        described.objects
    }
}

/// An object as findings name it: `Service cms/wordpress`.
pub fn name_of(object: &ObjectResult) -> String {
    match &object.namespace {
        Some(namespace) => format!("{} {namespace}/{}", object.kind, object.name),
        None => format!("{} {}", object.kind, object.name),
    }
}

impl Report {
    /// The report of a run that must have brought everything that it took.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        let well =
            matches!(self.status.status, MigrationPhase::Succeeded | MigrationPhase::SucceededWithWarnings);
        assert!(well, "{:#?}", self.status);
        assert_eq!(self.status.resources.failed, 0, "{:#?}", self.status);
        self
    }

    /// The report of a run that must not have gone well.
    #[track_caller]
    pub fn failed(self) -> Self {
        assert_eq!(self.status.status, MigrationPhase::Failed, "{:#?}", self.status);
        assert!(!self.status.failures.is_empty(), "it failed and names nothing: {:#?}", self.status);
        self
    }

    /// What it says of an object, named as in [`name_of`].
    #[track_caller]
    pub fn of(&self, name: &str) -> &ObjectResult {
        self.find(name).unwrap_or_else(|| {
            let all: Vec<String> =
                self.objects.iter().map(|o| format!("{}: {:?}", name_of(o), o.action)).collect();
            panic!("nothing is said of {name}; it is said of {all:#?}\n{:#?}", self.status)
        })
    }

    /// What it says of an object, if anything.
    pub fn find(&self, name: &str) -> Option<&ObjectResult> {
        self.objects.iter().find(|object| name_of(object) == name)
    }

    /// These objects came to this.
    #[track_caller]
    pub fn came_to(&self, action: ObjectAction, names: &[&str]) {
        for name in names {
            let object = self.of(name);
            assert_eq!(object.action, action, "{object:#?}");
        }
    }

    /// These objects were left behind for this reason, which a person is told in words too.
    #[track_caller]
    pub fn left_behind(&self, reason: &str, names: &[&str]) {
        self.came_to(ObjectAction::LeftBehind, names);
        for name in names {
            let object = self.of(name);
            assert_eq!(object.reason.as_deref(), Some(reason), "{object:#?}");
            assert!(object.message.as_deref().is_some_and(|message| !message.is_empty()), "{object:#?}");
        }
    }

    /// Everything that came to this, named as in [`name_of`].
    pub fn all(&self, action: ObjectAction) -> Vec<String> {
        self.objects.iter().filter(|object| object.action == action).map(name_of).collect()
    }

    /// The failure of an object, named as in [`name_of`].
    #[track_caller]
    pub fn failure(&self, name: &str) -> &Finding {
        self.status
            .failures
            .iter()
            .find(|finding| finding.object == name)
            .unwrap_or_else(|| panic!("no failure of {name} in {:#?}", self.status.failures))
    }
}
