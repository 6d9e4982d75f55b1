//! What needs no cluster: manifests, wrong usage, help.

use crate::{isthmus, printed, refused};

#[test]
fn every_creating_command_prints_complete_manifests_without_a_cluster() {
    let mut all = Vec::new();
    let commands: [&[&str]; 6] = [
        &["cluster", "add", "east", "--api-endpoint", "https://east.example.com:6443"],
        &[
            "store",
            "create",
            "main",
            "--endpoint",
            "https://s3.example.com",
            "--bucket",
            "staging",
            "--region",
            "eu-1",
            "--prefix",
            "team",
        ],
        &[
            "pair",
            "create",
            "prod",
            "--source",
            "east",
            "--destination",
            "west",
            "--store",
            "main",
            "--bidirectional",
            "--allow-namespace",
            "cms,shop-*",
        ],
        &[
            "migrate",
            "cms",
            "shop",
            "--pair",
            "prod",
            "--name",
            "monday",
            "--start-applications",
            "--include-volumes=false",
            "--selector",
            "app=cms",
            "--namespace",
            "team-a",
        ],
        &["plan", "create", "shop", "cms", "shop:shop-green", "--pair", "prod", "--quiesce"],
        &[
            "schedule",
            "create",
            "nightly",
            "--plan",
            "shop",
            "--action",
            "stage",
            "--cron",
            "30 2 * * *",
            "--time-zone",
            "Europe/Berlin",
        ],
    ];
    for command in commands {
        let text = printed(
            isthmus()
                .env("AWS_ACCESS_KEY_ID", "the-id")
                .env("AWS_SECRET_ACCESS_KEY", "the-secret")
                .args(command)
                .args(["--dry-run", "-o", "yaml"]),
        );
        all.push(format!("# isthmus {}\n{text}", command.join(" ")));
    }
    insta::assert_snapshot!(all.concat());
}

#[test]
fn every_option_of_a_migration_is_in_its_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("transforms.yaml");
    let transforms = "- name: fewer\n  match: {kind: Deployment, names: [web-*]}\n  jsonPatch: [{op: replace, path: /spec/replicas, value: 1}]\n";
    std::fs::write(&path, transforms).unwrap();
    let line = "migrate cms shop:shop-green team-* --pair prod --name monday --reverse --include-resources \
                --namespace-selector team=a --selector app=web,tier!=test -l app=db --exclude-selector skip \
                --include-types Deployment,services --exclude-types *.batch --include-optional-types pod,Job \
                --cluster-resources none --existing replace --purge --storage-class fast=premium,slow=standard \
                --access-mode RWX=RWO --image docker.io=mirror.example.com/hub --ingress-class nginx=traefik \
                --preserve-node-ports --rewrite-host-names --parallel-volumes 4 --parallel-files 3 --step-timeout 1h \
                --method snapshot --verify full --metadata-policy best-effort --exclude-path /var/cache \
                --exclude-path *.tmp --bandwidth-limit 50Mi --keep-passes 3 --retain-snapshots \
                --mover-node-selector disk=fast,zone=a --mover-toleration dedicated=staging:NoSchedule \
                --mover-priority-class low --mover-request cpu=200m,memory=256Mi --mover-limit memory=512Mi \
                --quiesce --on-failure hold --reclaim delete --health-timeout 5m --health-duration 30s \
                --mover-privileged-attributes --dry-run -o yaml";
    let args = line.split_whitespace().chain(["--transforms", path.to_str().unwrap()]);
    insta::assert_snapshot!(printed(isthmus().args(args)));
}

#[test]
fn the_help_of_migrate_shows_its_options_in_groups() {
    let help = printed(isthmus().args(["migrate", "-h"]));
    let headings: Vec<&str> =
        help.lines().filter(|line| line.ends_with(':') && !line.starts_with(' ')).collect();
    assert_eq!(
        headings,
        [
            "Arguments:",
            "Options:",
            "Cutover:",
            "Hooks:",
            "Selection:",
            "Rewriting:",
            "Meeting what is there:",
            "Volumes:",
            "Movers:"
        ],
        "{help}"
    );
    let last = help.split("Movers:").nth(1).unwrap();
    assert!(last.contains("--mover-request") && !last.contains("--wait"), "{help}");
}

#[test]
fn options_that_the_hub_would_refuse_end_with_2_and_name_the_field() {
    let said = refused(isthmus().args(["migrate", "a:c", "b:c", "--pair", "p", "--image", "x:1=y/z:2"]), 2);
    assert!(said.contains("spec.namespaces[1]: ") && said.contains("spec.imageMapping[x:1]: "), "{said}");
}

#[test]
fn manifests_are_also_printed_as_json() {
    let text = printed(isthmus().args([
        "store",
        "create",
        "main",
        "--endpoint",
        "https://s3.example.com",
        "--bucket",
        "staging",
        "--access-key-id",
        "id",
        "--secret-access-key",
        "key",
        "--dry-run",
        "-o",
        "json",
    ]));
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    let kinds: Vec<_> = list["items"].as_array().unwrap().iter().map(|item| item["kind"].clone()).collect();
    assert_eq!(kinds, ["Secret", "ObjectStore"]);
}

#[test]
fn a_ca_file_goes_into_the_manifest_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    std::fs::write(&path, pem).unwrap();
    let text =
        printed(isthmus().args(["store", "create", "main", "--endpoint", "https://s3.example.com"]).args([
            "--bucket",
            "staging",
            "--credentials-secret",
            "mine",
            "--dry-run",
            "-o",
            "yaml",
            "--ca-file",
            path.to_str().unwrap(),
        ]));
    let store: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(store["spec"]["caBundle"], pem);
    assert_eq!(store["spec"]["credentialsSecretRef"]["name"], "mine");
}

#[test]
fn a_stores_role_goes_into_the_manifest() {
    let create = ["store", "create", "main", "--endpoint", "https://s3.example.com", "--bucket", "staging"];
    let role = ["--sts-role-arn", "arn:aws:iam::123456789012:role/movers"];
    let more = ["--credentials-secret", "mine", "--dry-run", "-o", "json"];
    let sts = |extra: &[&str]| {
        let text = printed(isthmus().args(create).args(role).args(extra).args(more));
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["spec"]["sts"].clone()
    };
    let plain = serde_json::json!({"roleArn": role[1], "durationSeconds": 3600});
    assert_eq!(sts(&[]), plain);
    let of_its_own = sts(&["--sts-endpoint", "https://sts.example.com", "--sts-duration", "2h"]);
    assert_eq!(of_its_own["endpoint"], "https://sts.example.com");
    assert_eq!(of_its_own["durationSeconds"], 7200);

    for (wrong, said) in [
        (["--sts-role-arn", "movers"], "arn:aws:iam"),
        (["--sts-endpoint", "https://sts.example.com"], "--sts-role-arn"),
    ] {
        let all = refused(isthmus().args(create).args(wrong).args(more), 2);
        assert!(all.contains(said), "{all}");
    }
    let long = refused(isthmus().args(create).args(role).args(["--sts-duration", "13h"]).args(more), 2);
    assert!(long.contains("15m to 12h"), "{long}");
}

#[test]
fn a_generated_name_begins_with_the_first_namespace() {
    let text = printed(isthmus().args(["migrate", "cms", "--pair", "prod", "--dry-run", "-o", "json"]));
    let migration: serde_json::Value = serde_json::from_str(&text).unwrap();
    let name = migration["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("cms-") && name.len() == 9, "{name}");
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_wrong() {
    let cases: [(&[&str], &str); 12] = [
        (&[], "Usage"),
        (&["migrate", "--pair", "prod"], "NAMESPACE"),
        (&["migrate", "CMS", "--pair", "prod"], "not a legal name"),
        (&["migrate", "a-*:b", "--pair", "prod"], "old: new"),
        (&["migrate", "cms"], "--pair"),
        (&["migrate", "cms", "--pair", "prod", "--start-applications=perhaps"], "perhaps"),
        (&["migration", "list", "-o", "xml"], "xml"),
        (&["pair", "create", "p", "--source", "a", "--destination", "a", "--store", "s"], "two clusters"),
        (&["store", "create", "s", "--endpoint", "s3.example.com", "--bucket", "staging"], "https://host"),
        (
            &["store", "create", "s", "--endpoint", "https://s3.example.com", "--bucket", "staging"],
            "AWS_ACCESS_KEY_ID",
        ),
        (&["activate", "cms", "--cluster", "east", "--timeout", "soon"], "90s"),
        (&["cluster", "add", "East"], "not a legal name"),
    ];
    for (args, wanted) in cases {
        let said = refused(isthmus().args(args), 2);
        assert!(said.contains(wanted), "isthmus {args:?} said: {said}");
    }
}

#[test]
fn a_kubeconfig_that_is_not_there_ends_with_1_and_is_named() {
    let said = refused(isthmus().args(["cluster", "list", "--kubeconfig", "/nowhere/else"]), 1);
    assert!(said.contains("/nowhere/else") && said.contains("--kubeconfig"), "{said}");
}

#[test]
fn no_token_is_asked_for_when_its_file_cannot_be_written() {
    let said =
        refused(isthmus().args(["cluster", "token", "east", "--token-file", "/nowhere/east.token"]), 1);
    assert!(said.contains("/nowhere/east.token"), "{said}");
}

#[test]
fn help_version_and_completion_succeed() {
    assert!(printed(isthmus().arg("--help")).contains("migrate"));
    assert!(printed(isthmus().arg("version")).starts_with("isthmus "));
    for shell in ["bash", "zsh", "fish"] {
        assert!(printed(isthmus().args(["completion", shell])).contains("isthmus"));
    }
}
