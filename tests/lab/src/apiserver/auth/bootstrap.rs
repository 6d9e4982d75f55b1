//! The roles and bindings that every cluster starts with.

use serde_json::{Value, json};

/// Kind and object of each.
pub fn objects() -> Vec<(&'static str, Value)> {
    let role = |name: &str, rules: Value| {
        (
            "ClusterRole",
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
                "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}}, "rules": rules}),
        )
    };
    let binding = |name: &str, role: &str, groups: &[&str]| {
        let subjects: Vec<Value> = groups
            .iter()
            .map(|group| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}))
            .collect();
        (
            "ClusterRoleBinding",
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
                "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": subjects}),
        )
    };
    let read = json!(["get", "list", "watch"]);
    let write = json!(["create", "delete", "deletecollection", "patch", "update", "get", "list", "watch"]);
    let core = json!([
        "configmaps",
        "endpoints",
        "persistentvolumeclaims",
        "pods",
        "pods/log",
        "replicationcontrollers",
        "replicationcontrollers/scale",
        "serviceaccounts",
        "services"
    ]);
    let grouped = |verbs: &Value| {
        json!([
            {"apiGroups": ["apps"], "resources": ["controllerrevisions", "daemonsets", "deployments", "deployments/scale",
                "replicasets", "replicasets/scale", "statefulsets", "statefulsets/scale"], "verbs": verbs},
            {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": verbs},
            {"apiGroups": ["batch"], "resources": ["cronjobs", "jobs"], "verbs": verbs},
            {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses", "networkpolicies"], "verbs": verbs},
            {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": verbs},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": [""], "resources": ["events", "limitranges", "namespaces", "resourcequotas"], "verbs": ["get", "list", "watch"]},
        ])
    };
    let joined = |verbs: &Value, more: Value| {
        let mut rules = vec![json!({"apiGroups": [""], "resources": core, "verbs": verbs})];
        rules.extend(grouped(verbs).as_array().cloned().unwrap_or_default());
        rules.extend(more.as_array().cloned().unwrap_or_default());
        Value::Array(rules)
    };
    let secrets = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": write});
    let tokens = json!({"apiGroups": [""], "resources": ["serviceaccounts/token", "pods/eviction"], "verbs": ["create"]});
    let roles = json!({"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": write});
    let everything = json!([
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ]);
    let discovery = json!([{"nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi",
        "/openapi/*", "/readyz", "/version", "/version/"], "verbs": ["get"]}]);
    let public = json!([{"nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version", "/version/"], "verbs": ["get"]}]);
    let basic = json!([
        {"apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], "verbs": ["create"]},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"]},
    ]);
    let delegator = json!([
        {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
        {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]},
    ]);
    vec![
        role("cluster-admin", everything),
        role("admin", joined(&write, json!([secrets, tokens, roles]))),
        role("edit", joined(&write, json!([secrets, tokens]))),
        role("view", joined(&read, json!([]))),
        role("system:discovery", discovery),
        role("system:public-info-viewer", public),
        role("system:basic-user", basic),
        role("system:auth-delegator", delegator),
        binding("cluster-admin", "cluster-admin", &["system:masters"]),
        binding("system:discovery", "system:discovery", &["system:authenticated"]),
        binding("system:basic-user", "system:basic-user", &["system:authenticated"]),
        binding(
            "system:public-info-viewer",
            "system:public-info-viewer",
            &["system:authenticated", "system:unauthenticated"],
        ),
    ]
}
