//! Movers where they are hard to run: with options of their own, in namespaces that let no root in,
//! as the first consumer of a claim, on nodes that are cordoned, in quotas that leave no room.
//!
//! Where the tests run as root, the lab's kubelet gives movers the users, groups and capabilities of
//! their Jobs. Else every mover is the user of the tests, and what is shown of ids is that API servers
//! take them.

use std::os::unix::fs::{MetadataExt, chown};

use isthmus_lab::trees::{CompareOptions, Difference, compare_trees};
use isthmus_shared::resources::MigrationPhase;
use serde_json::{Value, json};

use crate::reading::text;
use crate::world::{World, eventually};

/// A namespace with one claim, and a Deployment that mounts it.
fn application(namespace: &str, labels: &str, class: &str, pod: &str) -> String {
    format!(
        r"
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}, labels: {{{labels}}}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data, namespace: {namespace}}}
spec:
  storageClassName: {class}
  accessModes: [ReadWriteOnce]
  resources: {{requests: {{storage: 1Gi}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: db, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: db}}}}
  template:
    metadata: {{labels: {{app: db}}}}
    spec:
      {pod}
      volumes: [{{name: data, persistentVolumeClaim: {{claimName: data}}}}]
      containers:
      - name: db
        image: example.com/db:1
        securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
        volumeMounts: [{{name: data, mountPath: /data}}]
"
    )
}

impl World {
    /// Fills the claim's volume once it is bound.
    async fn fill(&self, namespace: &str) {
        let folder = self.volume("east", namespace, "data").await;
        std::fs::create_dir(folder.join("tables")).unwrap();
        std::fs::write(folder.join("tables/one"), namespace.repeat(10_000)).unwrap();
    }

    /// Makes what [`World::fill`] wrote the application's, as it would be; not where the tests have no
    /// right to, and no file has another owner.
    async fn give(&self, namespace: &str, user: u32, group: u32) {
        if !is_root() {
            return;
        }
        let folder = self.volume("east", namespace, "data").await;
        for name in ["tables", "tables/one"] {
            chown(folder.join(name), Some(user), Some(group)).unwrap();
        }
    }

    async fn arrived(&self, namespace: &str) {
        let differences = self.differences(namespace).await;
        assert!(differences.is_empty(), "{differences:?}");
    }

    async fn differences(&self, namespace: &str) -> Vec<Difference> {
        let (east, west) =
            (self.volume("east", namespace, "data").await, self.volume("west", namespace, "data").await);
        compare_trees(&east, &west, &CompareOptions::default()).unwrap()
    }

    /// The one mover's Job of a namespace, while a run is under way.
    async fn mover_job(&self, cluster: &str, namespace: &str) -> Value {
        let path = format!("/apis/batch/v1/namespaces/{namespace}/jobs");
        eventually(&format!("a mover's Job in {cluster}"), || async {
            let jobs = self.get(cluster, &path).await;
            jobs["items"].as_array().and_then(|items| items.first()).cloned().ok_or_else(|| "none".to_owned())
        })
        .await
    }

    /// Runs a migration, and shows the Jobs of both sides while it does.
    async fn run_and_see(&self, name: &str, mut spec: Value) -> [Value; 2] {
        spec["clusterPair"] = crate::world::PAIR.into();
        let namespace = spec["namespaces"][0].as_str().unwrap().to_owned();
        self.create_migration(name, spec).await.unwrap();
        let jobs = tokio::join!(self.mover_job("east", &namespace), self.mover_job("west", &namespace));
        let status = self.migration_is(name, "ended", |status| status.status.is_terminal()).await;
        let well = matches!(status.status, MigrationPhase::Succeeded | MigrationPhase::SucceededWithWarnings);
        assert!(well, "{status:#?}");
        jobs.into()
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn pod_of(job: &Value) -> &Value {
    job.pointer("/spec/template/spec").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_run_says_of_its_movers_is_on_the_jobs_of_both_sides() {
    let world = World::shared().await;
    world.apply("east", &application("tuned", "", "lab-local", "terminationGracePeriodSeconds: 1")).await;
    world.fill("tuned").await;
    let mover = json!({
        "resources": {"requests": {"memory": "64Mi"}, "limits": {"cpu": "1"}},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "db", "operator": "Exists"}],
        "priorityClassName": "tuned-movers"
    });
    let spec = json!({"namespaces": ["tuned"], "mover": mover});

    let refused = world.run("tuned-without-class", spec.clone()).await.failed();
    let lacking = refused.failure("PriorityClass tuned-movers");
    assert_eq!(lacking.reason, "PriorityClassNotFound");
    assert!(lacking.message.contains("the source (cluster east)"), "{lacking:?}");

    let class =
        "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: tuned-movers}\nvalue: 7";
    world.apply("east", class).await;
    let refused = world.run("tuned-with-half", spec.clone()).await.failed();
    let lacking = refused.failure("PriorityClass tuned-movers");
    assert!(lacking.message.contains("the destination (cluster west)"), "{lacking:?}");

    world.apply("west", class).await;
    for job in world.run_and_see("tuned", spec).await {
        let pod = pod_of(&job);
        assert_eq!(text(pod, "/priorityClassName"), "tuned-movers");
        assert_eq!(pod["nodeSelector"]["kubernetes.io/os"], "linux");
        assert_eq!(
            pod["containers"][0]["resources"],
            json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}),
            "{pod:#}"
        );
        let tolerations = pod["tolerations"].as_array().unwrap();
        assert!(tolerations.iter().any(|t| t["operator"] == "Exists"), "{tolerations:?}");
    }
    world.arrived("tuned").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_lets_no_root_in_is_moved_with_the_ids_of_the_application() {
    let world = World::shared().await;
    let pod = "securityContext: {runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1001, fsGroup: 2000, \
               seccompProfile: {type: RuntimeDefault}}";
    let labels = "pod-security.kubernetes.io/enforce: restricted";
    world.apply("east", &application("narrow", labels, "lab-local", pod)).await;
    world.fill("narrow").await;
    world.give("narrow", 1000, 1001).await;
    let running = "/api/v1/namespaces/narrow/pods";
    eventually("the application's Pod to be let in", || async {
        let pods = world.get("east", running).await;
        let runs =
            pods["items"].as_array().unwrap().iter().any(|pod| text(pod, "/status/phase") == "Running");
        if runs { Ok(()) } else { Err(pods.to_string()) }
    })
    .await;

    let [send, receive] = world.run_and_see("narrow", json!({"namespaces": ["narrow"]})).await;
    for job in [&send, &receive] {
        let context = &pod_of(job)["securityContext"];
        assert_eq!(
            (&context["runAsUser"], &context["runAsGroup"]),
            (&json!(1000), &json!(1001)),
            "{context:#}"
        );
        assert_eq!(context["runAsNonRoot"], true);
        let container = &pod_of(job)["containers"][0]["securityContext"];
        assert_eq!(container["capabilities"], json!({"drop": ["ALL"]}));
        assert_eq!(job["metadata"]["annotations"]["isthmus.dev/runs-as"], "1000:1001");
    }
    assert_eq!(pod_of(&send)["securityContext"]["supplementalGroups"], json!([2000]));
    assert!(pod_of(&send)["securityContext"].get("fsGroup").is_none(), "the source's groups are left alone");
    assert_eq!(pod_of(&receive)["securityContext"]["fsGroup"], 2000);
    // The root stays its provisioner's, and is given to the application's group.
    let mut differences = world.differences("narrow").await;
    differences.retain(|difference| !difference.path.is_empty());
    assert!(differences.is_empty(), "{differences:?}");
    let warnings = world.migration("narrow").await.warnings;
    let said: Vec<&str> =
        warnings.iter().filter(|w| w.reason == "UnprivilegedMover").map(|w| w.message.as_str()).collect();
    assert_eq!(said.len(), 2, "{warnings:#?}");
    assert!(said.iter().all(|m| m.contains("user 1000") && m.contains("Deployment narrow/db")), "{said:#?}");

    // Of a claim that nobody uses no ids are known.
    world.delete("east", "/apis/apps/v1/namespaces/narrow/deployments/db").await;
    eventually("the application's Pods to be gone", || async {
        let pods = world.get("east", running).await;
        if pods["items"].as_array().unwrap().is_empty() { Ok(()) } else { Err(pods.to_string()) }
    })
    .await;
    let unknown = world.run("narrow-unknown", json!({"namespaces": ["narrow"], "dryRun": true})).await;
    let warnings = unknown.status.warnings;
    assert!(
        warnings.iter().any(|w| w.message.contains("65532") && w.message.contains("nothing says")),
        "{warnings:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_waits_for_its_consumer_is_made_where_the_application_may_run() {
    let world = World::shared().await;
    for node in ["east-node-2", "west-node-2"] {
        let cluster = &node[..4];
        let label = json!({"metadata": {"labels": {"example.com/disk": "fast"}}});
        world.patch(cluster, &format!("/api/v1/nodes/{node}"), label).await;
    }
    let pod = "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [\
               {matchExpressions: [{key: example.com/disk, operator: In, values: [fast]}]}]}}}";
    world.apply("east", &application("waiting", "", "lab-wffc", pod)).await;
    world.fill("waiting").await;
    let [_, receive] = world.run_and_see("waiting", json!({"namespaces": ["waiting"]})).await;
    let required =
        "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0";
    let term = pod_of(&receive).pointer(required).unwrap();
    assert_eq!(term["matchExpressions"][0]["key"], "example.com/disk");
    world.arrived("waiting").await;
    let claim = world.get("west", "/api/v1/namespaces/waiting/persistentvolumeclaims/data").await;
    assert_eq!(claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"], "west-node-2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_on_cordoned_nodes_are_moved_whether_or_not_a_pod_mounts_them() {
    let world = World::start().await;
    world.apply("east", &application("mounted", "", "lab-local", "terminationGracePeriodSeconds: 1")).await;
    world.apply("east", &application("unused", "", "lab-local", "terminationGracePeriodSeconds: 1")).await;
    world
        .patch("east", "/apis/apps/v1/namespaces/unused/deployments/db", json!({"spec": {"replicas": 0}}))
        .await;
    for namespace in ["mounted", "unused"] {
        world.fill(namespace).await;
    }
    eventually("the application to run", || async {
        let pods = world.get("east", "/api/v1/namespaces/mounted/pods").await;
        let runs =
            pods["items"].as_array().unwrap().iter().any(|pod| text(pod, "/status/phase") == "Running");
        if runs { Ok(()) } else { Err(pods.to_string()) }
    })
    .await;
    for node in ["east-node-1", "east-node-2"] {
        let path = format!("/api/v1/nodes/{node}");
        world.patch("east", &path, json!({"spec": {"unschedulable": true}})).await;
    }
    world.run("cordoned", json!({"namespaces": ["mounted", "unused"]})).await.succeeded();
    for namespace in ["mounted", "unused"] {
        world.arrived(namespace).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mover_that_was_placed_before_its_node_was_cordoned_is_placed_anew() {
    let world = World::start().await;
    world.apply("east", &application("late", "", "lab-local", "terminationGracePeriodSeconds: 1")).await;
    world
        .patch("east", "/apis/apps/v1/namespaces/late/deployments/db", json!({"spec": {"replicas": 0}}))
        .await;
    world.fill("late").await;
    // What the spoke learns of its nodes here is good for a while.
    world.run("looks", json!({"namespaces": ["late"], "dryRun": true})).await.succeeded();
    for node in ["east-node-1", "east-node-2"] {
        let path = format!("/api/v1/nodes/{node}");
        world.patch("east", &path, json!({"spec": {"unschedulable": true}})).await;
    }
    world.run("late", json!({"namespaces": ["late"]})).await.succeeded();
    world.arrived("late").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_without_room_for_movers_is_found_before_the_run_begins() {
    let world = World::shared().await;
    world.apply("east", &application("cramped", "", "lab-local", "terminationGracePeriodSeconds: 1")).await;
    world.fill("cramped").await;
    let bounds = r"
apiVersion: v1
kind: ResourceQuota
metadata: {name: small, namespace: cramped}
spec: {hard: {limits.memory: 512Mi}}
---
apiVersion: v1
kind: LimitRange
metadata: {name: narrow, namespace: cramped}
spec: {limits: [{type: Container, max: {cpu: '1'}, default: {cpu: '1', memory: 64Mi}}]}
";
    world.apply("east", bounds).await;
    eventually("the quota to be counted", || async {
        let quota = world.get("east", "/api/v1/namespaces/cramped/resourcequotas/small").await;
        if quota["status"]["hard"]["limits.memory"] == "512Mi" { Ok(()) } else { Err(quota.to_string()) }
    })
    .await;
    let refused = world.run("cramped", json!({"namespaces": ["cramped"]})).await.failed();
    let room = refused.failure("ResourceQuota cramped/small");
    assert_eq!(room.reason, "ExceededQuota");
    assert!(
        room.message.contains("limits.memory") && room.message.contains("spec.mover.resources"),
        "{room:?}"
    );
    let narrow = refused.failure("Namespace cramped");
    assert_eq!(narrow.reason, "LimitRange");
    assert!(narrow.message.contains("at most 1 cpu"), "{narrow:?}");
    // With less it fits.
    let less = json!({"resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}});
    world.run("cramped-less", json!({"namespaces": ["cramped"], "mover": less})).await.succeeded();
    world.arrived("cramped").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_destination_cannot_keep_ends_the_run_or_becomes_a_warning_as_the_policy_says() {
    let world = World::shared().await;
    if !is_root() {
        println!("left out: files of other owners need root");
        return;
    }
    let pod = "securityContext: {runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1001, fsGroup: 2000, \
               seccompProfile: {type: RuntimeDefault}}";
    let labels = "pod-security.kubernetes.io/enforce: restricted";
    world.apply("east", &application("strange", labels, "lab-local", pod)).await;
    world.fill("strange").await;
    world.give("strange", 1000, 1001).await;
    // Readable to the mover, and of somebody else.
    let folder = world.volume("east", "strange", "data").await.join("tables");
    for name in ["theirs", "theirs-too"] {
        std::fs::write(folder.join(name), name).unwrap();
        chown(folder.join(name), Some(4242), Some(4242)).unwrap();
    }

    let refused = world.run("strange-strict", json!({"namespaces": ["strange"]})).await.failed();
    let failure = refused.status.failures.iter().find(|failure| failure.reason == "MetadataRefused").unwrap();
    assert!(
        failure.object.contains("strange/data") && failure.object.contains("tables/theirs"),
        "{failure:?}"
    );
    for said in
        ["owner 4242:4242", "CHOWN", "metadataPolicy", "the mover ran as user 1000", "enforce=baseline"]
    {
        assert!(failure.message.contains(said), "{said}: {failure:?}");
    }

    let lenient = json!({"namespaces": ["strange"], "metadataPolicy": "BestEffort"});
    let run = world.run("strange-lenient", lenient.clone()).await;
    assert_eq!(run.status.status, MigrationPhase::SucceededWithWarnings, "{:#?}", run.status);
    let warnings: Vec<_> = run.status.warnings.iter().filter(|w| w.reason == "MetadataRefused").collect();
    // And the root, which stays its provisioner's under either policy.
    assert_eq!(warnings.len(), 3, "{:#?}", run.status.warnings);
    for name in ["theirs", "theirs-too"] {
        let named = |w: &&&isthmus_shared::resources::Finding| w.object.ends_with(&format!("tables/{name}"));
        let warning = warnings.iter().find(named).unwrap();
        let said = &warning.message;
        assert!(said.contains("4242") && said.contains("baseline") && !said.contains("BestEffort"), "{said}");
    }
    let arrived = world.volume("west", "strange", "data").await.join("tables");
    for name in ["one", "theirs", "theirs-too"] {
        let content = |folder: &std::path::Path| std::fs::read(folder.join(name)).unwrap();
        assert!(content(&arrived) == content(&folder), "{name}");
        assert_eq!(std::fs::metadata(arrived.join(name)).unwrap().uid(), 1000, "{name}");
    }

    // Of very many the first are named and all are counted.
    for number in 0..60 {
        let name = folder.join(format!("more-{number:02}"));
        std::fs::write(&name, "x").unwrap();
        chown(&name, Some(4242), Some(4242)).unwrap();
    }
    let mut full = lenient;
    full["verify"] = "Full".into();
    let run = world.run("strange-many", full).await;
    assert_eq!(run.status.status, MigrationPhase::SucceededWithWarnings, "{:#?}", run.status);
    let refused = 62 + 1;
    assert!(run.status.warnings_total >= refused, "{:#?}", run.status);
    assert!((run.status.warnings.len() as u64) < refused, "{:#?}", run.status);
    // Reading back finds what was forgiven, and no more.
    assert!(run.status.warnings.iter().any(|w| w.reason == "MetadataRefused"), "{:#?}", run.status);
    let told = world.isthmus(&["migration", "describe", "strange-many"]).await.ends_with(0).out;
    assert!(told.contains(&run.status.warnings_total.to_string()), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn privileged_attributes_are_kept_where_namespaces_let_sys_admin_in_and_refused_elsewhere() {
    let world = World::shared().await;
    let level = |level: &str| format!("pod-security.kubernetes.io/enforce: {level}");
    let pod = "terminationGracePeriodSeconds: 1";
    world.apply("east", &application("trusting", &level("baseline"), "lab-local", pod)).await;
    world.fill("trusting").await;
    let folder = world.volume("east", "trusting", "data").await;
    let attribute = "trusted.isthmus";
    let has_trusted = xattr::set(folder.join("tables/one"), attribute, b"kept").is_ok();
    let asked =
        json!({"namespaces": ["trusting"], "mover": {"privilegedAttributes": true}, "verify": "Full"});

    // Without the setting they are not seen, and the run's log says so.
    world.run("trusting-plain", json!({"namespaces": ["trusting"]})).await.succeeded();
    let log = world.isthmus(&["migration", "logs", "trusting-plain"]).await.ends_with(0).out;
    assert!(log.contains("trusted.* attributes, if it has any, were not seen"), "{log}");
    let west = world.volume("west", "trusting", "data").await;
    if is_root() {
        assert_eq!(xattr::get(west.join("tables/one"), attribute).unwrap(), None);
    }

    // The level baseline has no room for it, on either side.
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}});
    for cluster in ["east", "west"] {
        let refused = world.run(&format!("trusting-refused-{cluster}"), asked.clone()).await.failed();
        let failure = refused.failure("Namespace trusting");
        assert_eq!(failure.reason, "PrivilegedAttributesForbidden");
        for said in [cluster, "enforce=privileged", "SYS_ADMIN", "leave privilegedAttributes out"] {
            assert!(failure.message.contains(said), "{said}: {failure:?}");
        }
        world.patch(cluster, "/api/v1/namespaces/trusting", label.clone()).await;
    }
    for job in world.run_and_see("trusting", asked).await {
        let context = &pod_of(&job)["containers"][0]["securityContext"];
        let added = context["capabilities"]["add"].as_array().unwrap();
        assert!(added.contains(&json!("SYS_ADMIN")), "{context:#}");
        assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
    }
    world.arrived("trusting").await;
    if has_trusted {
        let arrived = xattr::get(west.join("tables/one"), attribute).unwrap();
        assert_eq!(arrived.as_deref(), Some(&b"kept"[..]));
    } else {
        println!("left out: trusted attributes need root and a filesystem that has them");
    }
}
