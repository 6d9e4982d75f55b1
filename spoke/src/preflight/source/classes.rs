//! Storage and ingress classes that objects name, as the source has them: facts for the
//! destination's preflight. The classes themselves do not go along.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cluster::{Cluster, ClusterError, annotation, name, text};
use crate::collect::ClassFact;
use crate::task::TaskError;

/// Classes that are looked at.
const MAX_CLASSES: usize = 1_000;

/// Storage classes, by how many claims name each.
pub async fn of_storage(
    cluster: &Cluster,
    users: &BTreeMap<String, u64>,
) -> Result<Vec<ClassFact>, TaskError> {
    let path = "/apis/storage.k8s.io/v1/storageclasses";
    let classes = list(cluster, path, users)
        .await
        .map_err(|e| TaskError::cluster("the storage classes", "listing them", &e))?;
    Ok(facts(users, &classes, "/provisioner", "storageclass.kubernetes.io/is-default-class"))
}

/// Ingress classes, by how many Ingresses name each.
pub async fn of_ingress(
    cluster: &Cluster,
    users: &BTreeMap<String, u64>,
) -> Result<Vec<ClassFact>, TaskError> {
    let path = "/apis/networking.k8s.io/v1/ingressclasses";
    let classes = list(cluster, path, users)
        .await
        .map_err(|e| TaskError::cluster("the ingress classes", "listing them", &e))?;
    Ok(facts(users, &classes, "/spec/controller", "ingressclass.kubernetes.io/is-default-class"))
}

async fn list(
    cluster: &Cluster,
    path: &str,
    users: &BTreeMap<String, u64>,
) -> Result<Vec<Value>, ClusterError> {
    if users.is_empty() {
        return Ok(Vec::new());
    }
    match cluster.list(path, "", MAX_CLASSES).await {
        // Not every cluster serves ingress classes.
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        other => other,
    }
}

/// What the objects name; and the default one, where some name none.
fn facts(users: &BTreeMap<String, u64>, classes: &[Value], provider: &str, default: &str) -> Vec<ClassFact> {
    let fact = |class: &str, users: u64| {
        let found = classes.iter().find(|c| name(c) == class);
        ClassFact {
            name: class.to_owned(),
            provider: found.map_or("", |c| text(c, provider)).to_owned(),
            default: found.is_some_and(|c| annotation(c, default) == Some("true")),
            users,
        }
    };
    let mut facts: Vec<ClassFact> = users.iter().map(|(class, users)| fact(class, *users)).collect();
    let own_default = classes.iter().map(|class| fact(name(class), 0)).find(|fact| fact.default);
    if let Some(own_default) = own_default.filter(|d| users.contains_key("") && !users.contains_key(&d.name))
    {
        facts.push(own_default);
    }
    facts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn classes_are_named_as_the_source_has_them_with_the_default_where_it_counts() {
        let classes = [
            json!({"metadata": {"name": "fast"}, "provisioner": "csi.example.com"}),
            json!({"metadata": {"name": "plain", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
                   "provisioner": "local"}),
        ];
        let told = |users: &[(&str, u64)]| -> Vec<String> {
            let users = users.iter().map(|(class, users)| ((*class).to_owned(), *users)).collect();
            facts(&users, &classes, "/provisioner", "storageclass.kubernetes.io/is-default-class")
                .iter()
                .map(|f| format!("{:?} {:?} {} {}", f.name, f.provider, f.default, f.users))
                .collect()
        };
        assert_eq!(
            told(&[("fast", 2), ("gone", 1)]),
            ["\"fast\" \"csi.example.com\" false 2", "\"gone\" \"\" false 1"]
        );
        assert_eq!(told(&[("", 1)]), ["\"\" \"\" false 1", "\"plain\" \"local\" true 0"]);
        assert_eq!(told(&[("", 1), ("plain", 3)]), ["\"\" \"\" false 1", "\"plain\" \"local\" true 3"]);
    }
}
