//! A lab with a hub, two joined spokes, a store and a pair: what every flow starts from.

use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use isthmus_lab::cluster::Flavour;
use isthmus_lab::programs::{Hub, HubOptions, Spoke, SpokeOptions};
use isthmus_lab::s3::KeyPair;
use isthmus_lab::{Lab, LabOptions};
use isthmus_shared::resources::{ClusterPair, LinkState, Migration, MigrationStatus};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::discovery::{Discovery, Scope};
use kube::{Api, Client, ResourceExt};
use tokio::sync::OnceCell;

/// The namespace of hub and spokes.
pub const NAMESPACE: &str = "isthmus";
/// The pair that [`World::start`] makes.
pub const PAIR: &str = "east-to-west";
/// No wait of a test is longer.
pub const DEADLINE: Duration = Duration::from_mins(4);
const POLL: Duration = Duration::from_millis(50);

/// What a command line printed, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// The output of a command that must have ended with this code.
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Everything that it printed.
    pub fn all(&self) -> String {
        format!("{}\n{}", self.out, self.err)
    }
}

/// A lab at work.
pub struct World {
    pub lab: Lab,
    pub hub: Hub,
    pub east: Spoke,
    pub west: Spoke,
}

/// A lab without hub or spokes.
pub async fn bare() -> Lab {
    bare_with(LabOptions::default()).await
}

/// As [`bare`], of one's own making, whose members are `east` and `west`.
pub async fn bare_with(options: LabOptions) -> Lab {
    isthmus_lab::programs::set_executable(PathBuf::from(env!("CARGO_BIN_EXE_isthmus-e2e")));
    let clusters = vec!["east".to_owned(), "west".to_owned()];
    Lab::start(LabOptions { clusters, ..options }).await.unwrap()
}

/// The one that tests share which keep to namespaces and names of their own.
static SHARED: OnceCell<World> = OnceCell::const_new();

impl World {
    /// Everything up, the pair Ready.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The world of tests that keep to namespaces, and to names of cluster scope, of their own: a
    /// lab of their own each would cost them more than what they do. It ends with the process.
    pub async fn shared() -> &'static Self {
        SHARED.get_or_init(Self::start).await
    }

    /// As [`World::start`], with more arguments to `isthmus store create`.
    pub async fn start_with(store: &[&str]) -> Self {
        Self::joined().await.paired(&[], store).await
    }

    /// As [`World::start`], on a lab of one's own making, whose members are `east` and `west`; the
    /// pair goes both ways.
    pub async fn start_on(options: LabOptions) -> Self {
        let world = Self::joined_on(bare_with(options).await).await;
        world.paired(&["--bidirectional"], &[]).await
    }

    /// As [`World::start`], with more arguments for the hub.
    pub async fn start_limited(hub: &[&str]) -> Self {
        let east = SpokeOptions::new("east", NAMESPACE);
        Self::joined_with(bare().await, east, hub).await.paired(&[], &[]).await
    }

    async fn paired(self, options: &[&str], store: &[&str]) -> Self {
        let world = self;
        let keys = world.lab.s3_keys().clone();
        world.create_store_with("stage", &keys, store).await;
        let pair = ["pair", "create", PAIR, "--source", "east", "--destination", "west", "--store", "stage"];
        world.isthmus(&[&pair, options].concat()).await.ends_with(0);
        world
            .pair_is(PAIR, "Ready", |_, scheduler, storage| {
                scheduler == LinkState::Ready && storage == LinkState::Ready
            })
            .await;
        world
    }

    /// Hub and spokes, without store and pair.
    pub async fn joined() -> Self {
        Self::joined_on(bare().await).await
    }

    /// As [`World::start`], on a lab that is there, with this spoke for east.
    pub async fn start_as(lab: Lab, east: SpokeOptions) -> Self {
        Self::joined_by(lab, east).await.paired(&[], &[]).await
    }

    async fn joined_on(lab: Lab) -> Self {
        Self::joined_by(lab, SpokeOptions::new("east", NAMESPACE)).await
    }

    async fn joined_by(lab: Lab, east: SpokeOptions) -> Self {
        Self::joined_with(lab, east, &[]).await
    }

    async fn joined_with(lab: Lab, east: SpokeOptions, hub: &[&str]) -> Self {
        // Under a name of its own, a hub that was killed leads again at once.
        // And no test waits longer than it has to for a source that fell silent.
        let own = ["--replica", "the-hub", "--failover-patience", "40"];
        let args = own.iter().chain(hub).map(|arg| (*arg).to_owned()).collect();
        let hub = lab.start_hub(HubOptions { args, ..HubOptions::new(NAMESPACE) }).await.unwrap();
        let (east, west) = tokio::try_join!(
            lab.start_spoke(&hub, east),
            lab.start_spoke(&hub, SpokeOptions::new("west", NAMESPACE)),
        )
        .unwrap();
        Self { lab, hub, east, west }
    }

    /// Whether a real kube-apiserver serves the clusters. The lab's own keeps admission policies and
    /// webhook configurations, and asks none of them.
    pub fn is_real(&self) -> bool {
        matches!(self.lab.flavour(), Flavour::Real(_))
    }

    /// `isthmus store create`, with these keys.
    pub async fn create_store(&self, name: &str, keys: &KeyPair) {
        self.create_store_with(name, keys, &[]).await;
    }

    async fn create_store_with(&self, name: &str, keys: &KeyPair, more: &[&str]) {
        let create = [
            "store",
            "create",
            name,
            "--endpoint",
            self.lab.s3().endpoint(),
            "--bucket",
            "isthmus",
            "--region",
            "lab-1",
            "--access-key-id",
            &keys.access_key,
            "--secret-access-key",
            &keys.secret_key,
        ];
        self.isthmus(&[&create, more].concat()).await.ends_with(0);
    }

    /// Runs the command line.
    pub async fn isthmus(&self, args: &[&str]) -> Said {
        let output = self.lab.isthmus(args).await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    /// An administrator's client of a cluster.
    pub fn client(&self, cluster: &str) -> Client {
        self.lab.client(cluster).unwrap()
    }

    /// `kubectl apply --server-side` of YAML documents.
    pub async fn apply(&self, cluster: &str, yaml: &str) {
        apply(self.client(cluster), yaml).await;
    }

    /// Waits until a pair's two states are as asked for, and gives it back.
    pub async fn pair_is(
        &self,
        name: &str,
        what: &str,
        check: impl Fn(&ClusterPair, LinkState, LinkState) -> bool,
    ) -> ClusterPair {
        let pairs = Api::<ClusterPair>::namespaced(self.client("hub"), NAMESPACE);
        let (pairs, check) = (&pairs, &check);
        eventually(&format!("pair {name} to be {what}"), || async move {
            let pair = pairs.get(name).await.unwrap();
            let status = pair.status.clone().unwrap_or_default();
            if check(&pair, status.scheduler_status, status.storage_status) {
                Ok(pair)
            } else {
                Err(format!("{status:?}"))
            }
        })
        .await
    }

    /// The status of a migration in the hub's namespace.
    pub async fn migration(&self, name: &str) -> MigrationStatus {
        let migrations = Api::<Migration>::namespaced(self.client("hub"), NAMESPACE);
        migrations.get(name).await.unwrap().status.unwrap_or_default()
    }

    /// Waits until a migration's status passes the check, and gives it back.
    pub async fn migration_is(
        &self,
        name: &str,
        what: &str,
        check: impl Fn(&MigrationStatus) -> bool,
    ) -> MigrationStatus {
        let check = &check;
        eventually(&format!("migration {name} to be {what}"), || async move {
            let status = self.migration(name).await;
            if check(&status) { Ok(status) } else { Err(format!("{status:?}")) }
        })
        .await
    }

    /// Starts a migration of a namespace and does not wait.
    pub async fn begin(&self, namespace: &str, name: &str) {
        self.isthmus(&["migrate", namespace, "--pair", PAIR, "--name", name]).await.ends_with(0);
    }
}

/// `kubectl apply --server-side` of YAML documents.
///
/// Kinds that the documents define themselves are awaited.
pub async fn apply(client: Client, yaml: &str) {
    let mut discovery = Discovery::new(client.clone()).run().await.unwrap();
    for document in yaml.split("\n---") {
        let object: DynamicObject = match serde_saphyr::from_str::<Option<DynamicObject>>(document) {
            Ok(Some(object)) => object,
            Ok(None) => continue,
            Err(error) => panic!("{error} in\n{document}"),
        };
        let types = object.types.clone().unwrap();
        let gvk = kube::core::GroupVersionKind::try_from(&types).unwrap();
        // What a definition above defines is not served at once.
        if discovery.resolve_gvk(&gvk).is_none() {
            discovery = eventually(&format!("the cluster to serve {gvk:?}"), || async {
                let discovery = Discovery::new(client.clone()).run().await.unwrap();
                match discovery.resolve_gvk(&gvk) {
                    Some(_) => Ok(discovery),
                    None => Err("it does not".to_owned()),
                }
            })
            .await;
        }
        let (resource, capabilities) = discovery.resolve_gvk(&gvk).unwrap();
        let api: Api<DynamicObject> = match capabilities.scope {
            Scope::Cluster => Api::all_with(client.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(
                client.clone(),
                &object.namespace().unwrap_or("default".to_owned()),
                &resource,
            ),
        };
        let patch = PatchParams::apply("e2e").force();
        api.patch(&object.name_any(), &patch, &Patch::Apply(&object)).await.unwrap();
    }
}

/// Asks until the answer is there; fails with the last refusal once the deadline has passed.
pub async fn eventually<T, F>(what: &str, ask: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    within(DEADLINE, what, ask).await
}

/// [`eventually`], with a deadline of its own.
pub async fn within<T, F>(deadline: Duration, what: &str, ask: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let start = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(last) if start.elapsed() > deadline => {
                panic!("waited {deadline:?} for {what}; last seen: {last}")
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
