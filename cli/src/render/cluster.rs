//! `cluster describe`.

use isthmus_shared::resources::Cluster;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::sheet::Sheet;
use super::{figures, word};

/// All that is known of a cluster.
pub fn describe_cluster(cluster: &Cluster, now: Timestamp) -> String {
    let status = cluster.status.clone().unwrap_or_default();
    let mut sheet = Sheet::default();
    super::identity_lines(&mut sheet, cluster);
    sheet.line("API endpoint", cluster.spec.api_endpoint.as_deref().unwrap_or_default());
    super::condition_lines(&mut sheet, &status.conditions);
    sheet.line(
        "Joined",
        if status.public_key.is_some() { "yes" } else { "no: start its spoke with a join token" },
    );
    if let Some(join) = &status.join {
        let state = if join.used {
            "used".to_owned()
        } else if join.expires.0 <= now {
            "expired".to_owned()
        } else {
            format!("good for {}", figures::length(figures::between(&Time(now), join.expires.0)))
        };
        sheet.line("Join token", &state);
    }
    sheet.line("UID", status.uid.as_deref().unwrap_or_default());
    sheet.line("Heartbeat", &figures::ago(status.last_heartbeat.as_ref(), now));
    sheet.line("Version", status.version.as_deref().unwrap_or_default());
    sheet.line("Spoke version", status.spoke_version.as_deref().unwrap_or_default());
    sheet.line("Nodes", &status.nodes.map(|nodes| nodes.to_string()).unwrap_or_default());
    sheet.line("Zones", &status.zones.join(", "));
    sheet.line("Snapshot classes", &status.snapshot_classes.join(", "));
    let classes: Vec<_> = status
        .storage_classes
        .into_iter()
        .map(|class| {
            let yes = |flag: bool| if flag { "yes" } else { "no" }.to_owned();
            vec![class.name, class.provisioner, yes(class.default), yes(class.wait_for_first_consumer)]
        })
        .collect();
    sheet.rows("Storage classes", &["NAME", "PROVISIONER", "DEFAULT", "WAITS-FOR-POD"], &classes);
    let activations: Vec<_> = status
        .activations
        .into_iter()
        .map(|a| {
            let message = a.message.unwrap_or_default();
            vec![a.namespace, word(a.state), word(a.phase), a.workloads.to_string(), message]
        })
        .collect();
    sheet.rows("Activations", &["NAMESPACE", "WANTED", "STATUS", "WORKLOADS", "MESSAGE"], &activations);
    sheet.finish()
}
