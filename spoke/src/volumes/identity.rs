//! As whom a mover runs. Pure.
//!
//! Root keeps everything, and is within the Pod Security level `baseline`. Where a namespace lets
//! no root in, the mover runs as the application does: with its ids it reads and writes what the
//! application reads and writes, and makes files that are the application's.

use isthmus_shared::protocol::Direction;
use isthmus_shared::resources::MoverOptions;
use serde_json::{Map, Value, json};

use super::users::{ClaimUser, container_of};
use crate::cluster::{annotation, array, text};

/// The user and group of a mover in a namespace that lets no root in, where nothing is known of
/// the application's: the ids that images for such namespaces commonly have.
const NOBODY_KNOWN: i64 = 65_532;
/// OpenShift's annotations with the ids of a namespace.
const USER_RANGE: &str = "openshift.io/sa.scc.uid-range";
const GROUP_RANGE: &str = "openshift.io/sa.scc.supplemental-groups";
const SE_LINUX_LEVEL: &str = "openshift.io/sa.scc.mcs";

/// The Pod Security levels that refuse anything, the laxest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Keeps from hosts.
    Baseline,
    /// And from root.
    Restricted,
}

/// As whom a mover runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Identity {
    /// Root with what root needs here.
    Root {
        /// The SELinux level of the application. Without it the runtime would label the volume
        /// anew for the mover, and take it from the application.
        level: Option<String>,
        /// With `SYS_ADMIN`, which no level but `privileged` allows: the run asks for `trusted.*`
        /// and all of `security.*`.
        attributes: bool,
    },
    /// An ordinary user.
    User(Ids),
}

/// The ids of an ordinary user.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ids {
    /// The user; never 0.
    pub user: i64,
    /// The group.
    pub group: i64,
    /// The group that the volume is given, where the kubelet does that.
    pub fs_group: Option<i64>,
    /// More groups.
    pub supplemental: Vec<i64>,
    /// The application's `seLinuxOptions`.
    pub se_linux: Option<Value>,
    /// Whose they are, for messages.
    pub whose: String,
}

/// What an application's security contexts say.
#[derive(Clone, Debug, Default, PartialEq)]
struct Said {
    user: Option<i64>,
    group: Option<i64>,
    fs_group: Option<i64>,
    supplemental: Vec<i64>,
    se_linux: Option<Value>,
}

impl Said {
    fn of(user: &ClaimUser) -> Self {
        let mut said = Self::default();
        for spec in user.specs() {
            let container = container_of(spec, &user.claim).and_then(|c| c.get("securityContext"));
            let contexts: Vec<&Value> = container.into_iter().chain(spec.get("securityContext")).collect();
            let id = |field: &str| contexts.iter().find_map(|context| context.get(field)?.as_i64());
            said.user = said.user.or(id("runAsUser"));
            said.group = said.group.or(id("runAsGroup"));
            said.fs_group = said.fs_group.or(id("fsGroup"));
            let options = contexts.iter().find_map(|context| context.get("seLinuxOptions"));
            said.se_linux = said.se_linux.or(options.cloned());
            for group in contexts.iter().flat_map(|context| array(context, "/supplementalGroups")) {
                if let Some(group) = group.as_i64().filter(|group| !said.supplemental.contains(group)) {
                    said.supplemental.push(group);
                }
            }
        }
        said.with_what_runs(user)
    }

    /// The ids that the image chose, as the kubelet reports them.
    fn with_what_runs(mut self, user: &ClaimUser) -> Self {
        let Some(pod) = &user.pod else { return self };
        let container = pod.get("spec").and_then(|spec| container_of(spec, &user.claim));
        let named = container.map(|container| text(container, "/name")).unwrap_or_default();
        let runs =
            array(pod, "/status/containerStatuses").iter().find(|status| text(status, "/name") == named);
        let id = |field: &str| runs?.pointer(&format!("/user/linux/{field}"))?.as_i64();
        self.user = self.user.or(id("uid"));
        self.group = self.group.or(id("gid"));
        self
    }
}

/// As whom a mover may run, the best first; the first that the namespace lets in is taken. A run that
/// asks for privileged attributes gets them or does not begin.
pub fn candidates(
    direction: Direction,
    namespace: &Value,
    user: &ClaimUser,
    options: &MoverOptions,
) -> Vec<Identity> {
    let said = Said::of(user);
    let attributes = options.privileged_attributes;
    let level = said.se_linux.as_ref().map(|options| text(options, "/level").to_owned());
    let mut all = vec![Identity::Root { level: level.filter(|level| !level.is_empty()), attributes }];
    if attributes {
        return all;
    }
    let whose = user.describe().unwrap_or_default();
    if let Some(id) = said.user.filter(|id| *id > 0) {
        all.push(Identity::User(ids(direction, id, &said, whose.clone())));
    }
    if let Some(id) = first_of(namespace, USER_RANGE) {
        let of_namespace = Said {
            fs_group: said.fs_group.or(first_of(namespace, GROUP_RANGE)),
            se_linux: annotation(namespace, SE_LINUX_LEVEL).map(|level| json!({"level": level})),
            // Everything on OpenShift is in the group 0.
            group: Some(0),
            ..said.clone()
        };
        all.push(Identity::User(ids(direction, id, &of_namespace, "the namespace's range".to_owned())));
    }
    if said.user.is_none_or(|id| id == 0) {
        all.push(Identity::User(ids(direction, NOBODY_KNOWN, &said, String::new())));
    }
    all
}

fn ids(direction: Direction, user: i64, said: &Said, whose: String) -> Ids {
    let mut supplemental = said.supplemental.clone();
    let mut add = |group: i64| {
        if !supplemental.contains(&group) {
            supplemental.push(group);
        }
    };
    // A user that the image does not know is in the group 0, one that it knows mostly in a group
    // of its own number: a member of both may give files to either.
    if said.group.is_none() {
        add(0);
    }
    let group = said.group.unwrap_or(user);
    let fs_group = match direction {
        // A new volume is root's; the kubelet gives it to this group.
        Direction::Receive => Some(said.fs_group.unwrap_or(group)),
        // The kubelet would give the source's files to the group. A member reads them as well.
        Direction::Send => {
            said.fs_group.into_iter().for_each(add);
            None
        }
    };
    Ids { user, group, fs_group, supplemental, se_linux: said.se_linux.clone(), whose }
}

/// The first id of `1000620000/10000` or `1-5`, several separated by commas.
fn first_of(namespace: &Value, key: &str) -> Option<i64> {
    let ranges = annotation(namespace, key)?;
    ranges.split(',').next()?.split(['/', '-']).next()?.trim().parse().ok().filter(|id| *id > 0)
}

impl Identity {
    /// Root, where nothing is known of the application.
    pub fn root(options: &MoverOptions) -> Self {
        Self::Root { level: None, attributes: options.privileged_attributes }
    }

    /// The laxest Pod Security level that does not let it in, and so every stricter one; none where
    /// each does.
    pub fn refused_by(&self) -> Option<Level> {
        match self {
            Self::Root { attributes: true, .. } => Some(Level::Baseline),
            Self::Root { .. } => Some(Level::Restricted),
            Self::User(_) => None,
        }
    }

    /// Its user and group, for the record: `1000:1000`.
    pub fn number(&self) -> String {
        match self {
            Self::Root { .. } => "0:0".to_owned(),
            Self::User(ids) => format!("{}:{}", ids.user, ids.group),
        }
    }

    /// Whether it may do everything.
    pub fn is_root(&self) -> bool {
        matches!(self, Self::Root { .. })
    }

    /// The security context of the Pod.
    pub fn of_pod(&self) -> Value {
        let mut context = Map::from_iter([("seccompProfile".to_owned(), json!({"type": "RuntimeDefault"}))]);
        let mut set = |field: &str, value: Value| context.insert(field.to_owned(), value);
        match self {
            Self::Root { level, .. } => {
                set("runAsUser", json!(0));
                set("runAsGroup", json!(0));
                if let Some(level) = level {
                    set("seLinuxOptions", json!({"level": level}));
                }
            }
            Self::User(ids) => {
                set("runAsNonRoot", json!(true));
                set("runAsUser", json!(ids.user));
                set("runAsGroup", json!(ids.group));
                if let Some(group) = ids.fs_group {
                    set("fsGroup", json!(group));
                    set("fsGroupChangePolicy", json!("OnRootMismatch"));
                }
                if !ids.supplemental.is_empty() {
                    set("supplementalGroups", json!(ids.supplemental));
                }
                if let Some(options) = &ids.se_linux {
                    set("seLinuxOptions", options.clone());
                }
            }
        }
        Value::Object(context)
    }

    /// The security context of the container.
    pub fn of_container(&self, direction: Direction) -> Value {
        let mut capabilities = match (self, direction) {
            (Self::User(_), _) => Vec::new(),
            // To read files of every owner and mode.
            (Self::Root { .. }, Direction::Send) => vec!["DAC_OVERRIDE"],
            // And to set owners, modes, device nodes and file capabilities.
            (Self::Root { .. }, Direction::Receive) => {
                vec!["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP"]
            }
        };
        let attributes = matches!(self, Self::Root { attributes: true, .. });
        if attributes {
            capabilities.push("SYS_ADMIN");
        }
        let mut all = json!({"drop": ["ALL"]});
        if !capabilities.is_empty() {
            all["add"] = json!(capabilities);
        }
        let mut context = json!({"readOnlyRootFilesystem": true, "capabilities": all});
        // With SYS_ADMIN it is true whatever is written, and false is an error to some API servers.
        if !attributes {
            context["allowPrivilegeEscalation"] = json!(false);
        }
        context
    }

    /// What a mover of this identity cannot keep; none for root.
    pub fn limits(&self, direction: Direction) -> Option<String> {
        let Self::User(ids) = self else { return None };
        let as_whom = if ids.whose.is_empty() {
            format!("user {}, as nothing says which user the application has", ids.user)
        } else {
            format!("user {} and group {} ({})", ids.user, ids.group, ids.whose)
        };
        let lost = match direction {
            Direction::Send => {
                "files that this user may not read end the run and are named, and trusted.* attributes are not seen"
            }
            Direction::Receive => {
                "owners other than this user, groups that it is not in, device nodes and trusted.* and security.* \
                 attributes cannot be set: each ends the run and is named, with metadataPolicy BestEffort it is a warning"
            }
        };
        Some(format!("the mover runs as {as_whom}: {lost}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(spec: &Value, pod: Option<Value>) -> ClaimUser {
        let workload = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "db", "namespace": "cms"}, "spec": {"template": {"spec": spec}}});
        ClaimUser { claim: "data".to_owned(), workload: Some(workload), pod, ..ClaimUser::default() }
    }

    fn of(direction: Direction, namespace: &Value, user: &ClaimUser) -> Vec<Identity> {
        candidates(direction, namespace, user, &MoverOptions::default())
    }

    fn numbers(all: &[Identity]) -> Vec<String> {
        all.iter().map(Identity::number).collect()
    }

    fn application() -> ClaimUser {
        user(
            &json!({"securityContext": {"runAsUser": 1, "fsGroup": 2000, "supplementalGroups": [7],
                                       "seLinuxOptions": {"level": "s0:c1,c2"}},
                   "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}],
                   "containers": [{"name": "a", "securityContext": {"runAsUser": 5}},
                                  {"name": "b", "securityContext": {"runAsUser": 1000, "runAsGroup": 1001},
                                   "volumeMounts": [{"name": "d"}]}]}),
            None,
        )
    }

    #[test]
    fn the_ids_are_those_of_the_container_that_mounts_the_claim() {
        let all = of(Direction::Receive, &Value::Null, &application());
        assert_eq!(numbers(&all), ["0:0", "1000:1001"]);
        assert_eq!(
            all[1].of_pod(),
            json!({"runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1001, "fsGroup": 2000,
                   "fsGroupChangePolicy": "OnRootMismatch", "supplementalGroups": [7],
                   "seLinuxOptions": {"level": "s0:c1,c2"}, "seccompProfile": {"type": "RuntimeDefault"}})
        );
        assert_eq!(all[1].of_container(Direction::Receive)["capabilities"], json!({"drop": ["ALL"]}));
        assert_eq!(all[0].of_pod()["seLinuxOptions"], json!({"level": "s0:c1,c2"}));
    }

    #[test]
    fn a_sender_changes_no_group_of_the_source() {
        let all = of(Direction::Send, &Value::Null, &application());
        let context = all[1].of_pod();
        assert!(context.get("fsGroup").is_none());
        assert_eq!(context["supplementalGroups"], json!([7, 2000]), "it reads by the group all the same");
    }

    #[test]
    fn ids_that_only_the_running_pod_has_are_found() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
                "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}],
                "containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "d"}]}]},
            "status": {"containerStatuses": [{"name": "b", "user": {"linux": {"uid": 999, "gid": 998}}}]}});
        let all = of(Direction::Send, &Value::Null, &user(&json!({}), Some(pod)));
        assert_eq!(numbers(&all), ["0:0", "999:998"]);
    }

    #[test]
    fn openshifts_range_is_tried_after_the_applications_own_ids() {
        let namespace = json!({"metadata": {"annotations": {
            USER_RANGE: "1000620000/10000", GROUP_RANGE: "1000620001/10000", SE_LINUX_LEVEL: "s0:c25,c10"}}});
        let all = of(Direction::Receive, &namespace, &application());
        assert_eq!(numbers(&all), ["0:0", "1000:1001", "1000620000:0"]);
        let all = of(Direction::Receive, &namespace, &ClaimUser::default());
        assert_eq!(numbers(&all), ["0:0", "1000620000:0", "65532:65532"]);
        assert_eq!(all[1].of_pod()["fsGroup"], 1_000_620_001);
        assert_eq!(all[1].of_pod()["seLinuxOptions"]["level"], "s0:c25,c10");
    }

    #[test]
    fn an_application_of_which_nothing_is_known_gets_a_user_that_is_said() {
        let all = of(Direction::Receive, &Value::Null, &ClaimUser::default());
        assert_eq!(numbers(&all), ["0:0", "65532:65532"]);
        assert_eq!(all[1].of_pod()["fsGroup"], NOBODY_KNOWN);
        let said = all[1].limits(Direction::Receive).unwrap();
        assert!(said.contains("65532") && said.contains("nothing says"), "{said}");
        assert_eq!(all[0].limits(Direction::Receive), None);
        let of_root = user(&json!({"securityContext": {"runAsUser": 0}}), None);
        assert_eq!(numbers(&of(Direction::Send, &Value::Null, &of_root)), ["0:0", "65532:65532"]);
    }

    #[test]
    fn a_user_without_a_group_is_in_the_two_that_it_may_have() {
        let all = of(
            Direction::Receive,
            &Value::Null,
            &user(&json!({"securityContext": {"runAsUser": 999}}), None),
        );
        assert_eq!(all[1].number(), "999:999");
        assert_eq!(all[1].of_pod()["supplementalGroups"], json!([0]));
    }

    #[test]
    fn a_run_that_asks_for_privileged_attributes_gets_sys_admin_on_both_sides_and_nothing_less() {
        let options = MoverOptions { privileged_attributes: true, ..MoverOptions::default() };
        for direction in [Direction::Send, Direction::Receive] {
            let all = candidates(direction, &Value::Null, &application(), &options);
            assert_eq!(numbers(&all), ["0:0"], "there is nobody else whom they could be left to");
            assert_eq!(all[0].refused_by(), Some(Level::Baseline));
            assert_eq!(all[0].of_pod()["seLinuxOptions"], json!({"level": "s0:c1,c2"}));
            let context = all[0].of_container(direction);
            let added = context["capabilities"]["add"].as_array().unwrap();
            assert!(
                added.contains(&json!("SYS_ADMIN")) && added.contains(&json!("DAC_OVERRIDE")),
                "{added:?}"
            );
            assert!(context.get("allowPrivilegeEscalation").is_none(), "{context}");
            let plain = of(direction, &Value::Null, &application());
            assert_eq!(plain[0].refused_by(), Some(Level::Restricted));
            assert!(!plain[0].of_container(direction).to_string().contains("SYS_ADMIN"));
            assert_eq!(plain[0].of_container(direction)["allowPrivilegeEscalation"], false);
        }
    }
}
