//! Gives each namespace its `default` ServiceAccount and the cluster's CA in `kube-root-ca.crt`.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::cache::{Cache, Topic};
use super::{Again, Context, Controller, Error, Settled, deleting};

const ACCOUNT: &str = "default";
const CA_MAP: &str = "kube-root-ca.crt";
const CA_KEY: &str = "ca.crt";

pub(super) struct ServiceAccounts(pub Context);

impl Controller for ServiceAccounts {
    type Object = Namespace;
    const TOPICS: &'static [Topic] = &[Topic::Namespaces, Topic::ServiceAccounts, Topic::ConfigMaps];

    fn objects(&self, cache: &Cache) -> Vec<Arc<Namespace>> {
        cache.namespaces.state_filter(|namespace| !deleting(namespace))
    }

    async fn reconcile(&self, namespace: &Namespace) -> Result<Again, Error> {
        let name = namespace.name_any();
        let named = |object: &str| ObjectMeta {
            name: Some(object.to_owned()),
            namespace: Some(name.clone()),
            ..ObjectMeta::default()
        };
        let cache = &self.0.cache;
        if cache.service_accounts.get(&ObjectRef::new(ACCOUNT).within(&name)).is_none() {
            let account = ServiceAccount { metadata: named(ACCOUNT), ..ServiceAccount::default() };
            Api::namespaced(self.0.client.clone(), &name)
                .create(&PostParams::default(), &account)
                .await
                .settled("creating", &account)?;
        }
        let data = [(CA_KEY.to_owned(), self.0.ca_pem.clone())].into();
        match cache.config_maps.get(&ObjectRef::new(CA_MAP).within(&name)) {
            None => {
                let map = ConfigMap { metadata: named(CA_MAP), data: Some(data), ..ConfigMap::default() };
                Api::namespaced(self.0.client.clone(), &name)
                    .create(&PostParams::default(), &map)
                    .await
                    .settled("creating", &map)?;
            }
            Some(map) if map.data.as_ref() != Some(&data) => {
                Api::<ConfigMap>::namespaced(self.0.client.clone(), &name)
                    .patch(CA_MAP, &PatchParams::default(), &Patch::Merge(&json!({"data": data})))
                    .await
                    .settled("writing", &*map)?;
            }
            Some(_) => {}
        }
        Ok(None)
    }
}
