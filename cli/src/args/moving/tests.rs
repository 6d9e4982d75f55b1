//! Options as people type them, and the spec that they make.

use clap::Parser;
use serde_json::json;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    moving: MigrationOptions,
}

fn moving(args: &[&str]) -> MigrationOptions {
    Line::try_parse_from([&["x", "--pair", "prod"], args].concat())
        .unwrap_or_else(|error| panic!("{error}"))
        .moving
}

fn refused(args: &[&str]) -> String {
    match Line::try_parse_from([&["x", "--pair", "prod"], args].concat()) {
        Ok(line) => line.moving.spec().err().unwrap_or_else(|| panic!("{args:?} was taken")).to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn options_left_out_are_the_specs_defaults() {
    let spec = moving(&["cms"]).spec().unwrap();
    let plain = MigrationSpec { namespaces: vec!["cms".into()], ..MigrationSpec::through("prod") };
    assert_eq!(spec, plain);
}

#[test]
fn rules_and_hooks_go_into_the_spec() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let hooks = "- {name: freeze, phase: PreHooks, exec: {podSelector: {}, command: [sync]}}";
    std::fs::write(file.path(), hooks).unwrap();
    let path = file.path().to_str().unwrap();
    let args = ["cms", "--pre-exec-rule", "before", "--post-exec-rule", "after", "--hooks", path];
    let spec = moving(&args).spec().unwrap();
    assert_eq!(
        (spec.pre_exec_rule.as_deref(), spec.post_exec_rule.as_deref()),
        (Some("before"), Some("after"))
    );
    assert_eq!(spec.hooks[0].name, "freeze");
    std::fs::write(
        file.path(),
        "- {name: freeze, phase: AfterQuiesce, exec: {podSelector: {}, command: [sync]}}",
    )
    .unwrap();
    assert!(refused(&["cms", "--hooks", path]).contains("spec.hooks[0].phase"));
    std::fs::write(file.path(), "freeze").unwrap();
    assert!(refused(&["cms", "--hooks", path]).contains("is no list of hooks"));
}

#[test]
fn a_comma_within_a_selector_means_and_another_selector_means_or() {
    let spec = moving(&["cms", "-l", "app=web,tier in (a, b)", "-l", "app=db"]).spec().unwrap();
    assert_eq!(serde_json::to_value(&spec.selectors).unwrap(), json!(["app=web,tier in (a, b)", "app=db"]));
}

#[test]
fn a_selector_of_namespaces_does_without_names() {
    let moving = moving(&["--namespace-selector", "team=a,env in (dev)"]);
    let selector = serde_json::to_value(moving.spec().unwrap().namespace_selector).unwrap();
    assert_eq!(selector["matchLabels"], json!({"team": "a"}));
    assert_eq!(selector["matchExpressions"][0]["values"], json!(["dev"]));
    assert_eq!(moving.stem(), "namespaces");
}

#[test]
fn a_name_is_made_of_what_is_moved() {
    for (entry, stem) in [("cms", "cms"), ("cms:cms-green", "cms"), ("team-*", "team"), ("*", "namespaces")] {
        assert_eq!(moving(&[entry]).stem(), stem);
    }
}

#[test]
fn access_modes_may_be_abbreviated() {
    let spec = moving(&["cms", "--access-mode", "RWX=RWO,ReadOnlyMany=ReadWriteOnce"]).spec().unwrap();
    assert_eq!(
        json!(spec.access_mode_mapping),
        json!({"ReadWriteMany": "ReadWriteOnce", "ReadOnlyMany": "ReadWriteOnce"})
    );
}

#[test]
fn what_means_nothing_is_refused_with_what_to_write() {
    for (args, said) in [
        (&["CMS"][..], "not a legal name"),
        (&["a-*:b"], "mapping such as old: new"),
        (&["cms", "-l", "app near (x)"], "in or notin"),
        (&["cms", "--include-types", "a/b"], "spec.includedResourceTypes[0]"),
        (&["["], "no glob"),
        (&["a:c", "b:c"], "would both arrive in c"),
        (&["cms", "cms:shop"], "cms and shop at once"),
        (&["cms", "--image", "nginx=mirror/nginx:1"], "leave out tag and digest"),
        (&["cms", "--include-optional-types", "Service"], "Pod, Job"),
        (&["cms", "--storage-class", "fast"], "from=to"),
        (&["cms", "--storage-class", "a=b,a=c"], "choose one"),
        (&["cms", "--access-mode", "RWX=All"], "ReadWriteOncePod"),
        (&["cms", "--existing", "merge"], "skip, update, replace, fail"),
        (&["cms", "--transforms", "/nowhere/else"], "/nowhere/else"),
        (&["cms", "--method", "clone"], "auto, live, snapshot"),
        (&["cms", "--bandwidth-limit", "1k"], "64Ki or more"),
        (&["cms", "--exclude-path", "!x"], "begins with !"),
        (&["cms", "--keep-passes", "101"], "0..=100"),
        (&["cms", "--mover-toleration", "a:Never"], "NoSchedule, PreferNoSchedule or NoExecute"),
        (&["cms", "--mover-toleration", "*=x"], "every taint"),
        (&["cms", "--mover-limit", "memory=64Mi"], "160Mi or more"),
        (&["cms", "--mover-limit", "cpu=1,cpu=2"], "choose one"),
        (&["cms", "--mover-node-selector", "fast"], "label=value"),
        (&["cms", "--health-timeout", "25h"], "between 1s and 24h"),
        (&["cms", "--health-duration", "soon"], "not a length of time"),
        (&["cms", "--quiesce", "--include-resources=false"], "leave `includeResources` out"),
        (&[], "NAMESPACE"),
    ] {
        let text = refused(args);
        assert!(text.contains(said), "{args:?}: {text}");
    }
}

#[test]
fn taints_are_written_as_kubectl_writes_them() {
    let line = "dedicated=staging:NoSchedule,spot:NoExecute,gpu,size=big,*";
    let spec = moving(&["cms", "--mover-toleration", line]).spec().unwrap();
    assert_eq!(
        json!(spec.mover.tolerations),
        json!([
            {"key": "dedicated", "operator": "Equal", "value": "staging", "effect": "NoSchedule"},
            {"key": "spot", "operator": "Exists", "effect": "NoExecute"},
            {"key": "gpu", "operator": "Exists"},
            {"key": "size", "operator": "Equal", "value": "big"},
            {"operator": "Exists"},
        ])
    );
}

#[test]
fn a_cutover_says_what_is_done_where_it_fails() {
    let line = ["cms", "--quiesce", "--on-failure", "hold", "--reclaim", "delete", "--health-timeout", "90s"];
    let spec = moving(&[&line[..], &["--health-duration", "0s"]].concat()).spec().unwrap();
    assert_eq!(
        json!([spec.quiesce, spec.on_failure, spec.reclaim, spec.health]),
        json!([true, "Hold", "Delete", {"timeoutSeconds": 90, "durationSeconds": 0}])
    );
}

#[test]
fn operators_are_named_with_their_namespace_and_are_deployments_unless_it_is_said_otherwise() {
    let line =
        ["cms", "--quiesce", "--operator", "db-system/operator", "--operator", "mq/broker=statefulset"];
    assert_eq!(
        json!(moving(&line).spec().unwrap().operators),
        json!([
            {"namespace": "db-system", "name": "operator", "kind": "Deployment"},
            {"namespace": "mq", "name": "broker", "kind": "StatefulSet"},
        ])
    );
    for bad in ["operator", "db-system/", "/operator", "a/b/c", "a/b=DaemonSet", "A/b"] {
        assert!(refused(&["cms", "--quiesce", "--operator", bad]).contains("--operator"), "{bad}");
    }
}

#[test]
fn a_path_with_a_comma_is_one_path() {
    let spec = moving(&["cms", "--exclude-path", "/a,b", "--exclude-path", "*.tmp"]).spec().unwrap();
    assert_eq!(spec.exclude_paths, ["/a,b", "*.tmp"]);
}

#[test]
fn transforms_are_read_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("transforms.yaml");
    let text = "- match: {kind: Deployment}\n  mergePatch: {spec: {paused: true}}\n";
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let spec = moving(&["cms", "--transforms", path]).spec().unwrap();
    assert_eq!(spec.transforms[0].matching.kind.as_deref(), Some("Deployment"));
    assert_eq!(spec.transforms[0].merge_patch, Some(json!({"spec": {"paused": true}})));
    std::fs::write(path, "kind: Deployment\n").unwrap();
    assert!(refused(&["cms", "--transforms", path]).contains("no list of transforms"));
    std::fs::write(path, "- {jsonPatch: [{op: add, path: spec, value: 1}]}\n- {}\n").unwrap();
    let told = refused(&["cms", "--transforms", path]);
    assert!(told.contains("spec.transforms[0].jsonPatch[0].path") && told.contains("spec.transforms[1]"));
}

#[test]
fn a_volume_is_copied_skipped_or_kept_as_one_option_says() {
    let chosen = [
        "--volume",
        "cms/data=copy,class=fast,size=20Gi,mode=RWX,name=content,verify=Full",
        "--volume",
        "cms/tmp=skip",
    ];
    let spec = moving(&[&["cms"], &chosen[..]].concat()).spec().unwrap();
    assert_eq!(
        serde_json::to_value(&spec.volumes).unwrap(),
        json!([
            {"namespace": "cms", "claim": "data", "action": "Copy", "storageClass": "fast", "size": "20Gi",
             "accessModes": ["ReadWriteMany"], "name": "content", "verify": "Full"},
            {"namespace": "cms", "claim": "tmp", "action": "Skip"}
        ])
    );
    for (choice, told) in [
        ("data=copy", "NAMESPACE/CLAIM"),
        ("cms/data", "NAMESPACE/CLAIM"),
        ("cms/data=burn", "NAMESPACE/CLAIM"),
        ("cms/data=copy,colour=red", "colour"),
        ("cms/data=copy,class=", "says nothing"),
        ("cms/data=copy,size=much", "spec.volumes[0].size"),
        ("cms/data=keep", "spec.volumes[0].action"),
    ] {
        let said = refused(&["cms", "--volume", choice]);
        assert!(said.contains(told), "{choice}: {said}");
    }
}
