//! Endpoints and one EndpointSlice for each Service with a selector, from the pods that are ready.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service, ServicePort,
};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointPort as SlicePort, EndpointSlice,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::cache::{Cache, Topic};
use super::{Again, Context, Controller, Error, Settled, deleting, namespace_of, owner, pods};

/// The length of a slice's suffix, as the API server's own.
const SUFFIX_DIGITS: usize = 5;

pub(super) struct Services(pub Context);

impl Controller for Services {
    type Object = Service;
    const TOPICS: &'static [Topic] = &[Topic::Services, Topic::Pods, Topic::Endpoints, Topic::Slices];

    fn objects(&self, cache: &Cache) -> Vec<Arc<Service>> {
        cache.services.state_filter(|service| {
            let spec = service.spec.as_ref();
            let selects =
                spec.is_some_and(|spec| spec.selector.as_ref().is_some_and(|labels| !labels.is_empty()));
            selects
                && !deleting(service)
                && spec.is_some_and(|spec| spec.type_.as_deref() != Some("ExternalName"))
        })
    }

    async fn reconcile(&self, service: &Service) -> Result<Again, Error> {
        let Some(selector) = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else {
            return Ok(None);
        };
        let namespace = namespace_of(service);
        let mut pods = self.0.cache.pods.state_filter(|pod| {
            pod.namespace().as_deref() == Some(&namespace)
                && pods::ready(pod)
                && selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
        });
        pods.sort_by_key(|pod| pod.name_any());
        self.endpoints(service, &namespace, &pods).await?;
        self.slice(service, &namespace, &pods).await?;
        Ok(None)
    }
}

fn address(pod: &Pod) -> Option<String> {
    pod.status.as_ref()?.pod_ip.clone()
}

fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.namespace(),
        name: pod.metadata.name.clone(),
        uid: pod.uid(),
        ..ObjectReference::default()
    }
}

/// The number of a service port's target in this pod.
fn target_port(port: &ServicePort, pod: Option<&Arc<Pod>>) -> i32 {
    match &port.target_port {
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => pod
            .and_then(|pod| {
                let containers = &pod.spec.as_ref()?.containers;
                let mut ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
                ports.find(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port)
            })
            .unwrap_or(port.port),
        None => port.port,
    }
}

impl Services {
    async fn endpoints(&self, service: &Service, namespace: &str, pods: &[Arc<Pod>]) -> Result<(), Error> {
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        let ports: Vec<EndpointPort> = ports
            .map(|port| EndpointPort {
                name: port.name.clone(),
                port: target_port(port, pods.first()),
                protocol: port.protocol.clone().or_else(|| Some("TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
            .collect();
        let addresses: Vec<EndpointAddress> = pods
            .iter()
            .filter_map(|pod| {
                Some(EndpointAddress {
                    ip: address(pod)?,
                    node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
                    target_ref: Some(target(pod)),
                    hostname: None,
                })
            })
            .collect();
        let subsets = (!addresses.is_empty()).then(|| {
            vec![EndpointSubset { addresses: Some(addresses), not_ready_addresses: None, ports: Some(ports) }]
        });
        let name = service.name_any();
        let api = Api::<Endpoints>::namespaced(self.0.client.clone(), namespace);
        match self.0.cache.endpoints.get(&ObjectRef::new(&name).within(namespace)) {
            Some(there) if there.subsets == subsets => Ok(()),
            Some(there) => api
                .patch(&name, &PatchParams::default(), &Patch::Merge(&json!({"subsets": subsets})))
                .await
                .settled("writing", &*there)
                .map(|_| ()),
            None => {
                let mut labels = service.labels().clone();
                labels.insert(
                    "endpoints.kubernetes.io/managed-by".to_owned(),
                    "endpoint-controller".to_owned(),
                );
                // kube-controller-manager removes Endpoints itself; here the garbage collector does.
                let owners = Some(vec![owner::controller_of(service)]);
                let metadata = meta(&name, namespace, labels, owners);
                let new = Endpoints { metadata, subsets };
                api.create(&PostParams::default(), &new).await.settled("creating", &new).map(|_| ())
            }
        }
    }

    async fn slice(&self, service: &Service, namespace: &str, pods: &[Arc<Pod>]) -> Result<(), Error> {
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        let ports: Vec<SlicePort> = ports
            .map(|port| SlicePort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(target_port(port, pods.first())),
                protocol: port.protocol.clone().or_else(|| Some("TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
            .collect();
        let endpoints: Vec<Endpoint> = pods
            .iter()
            .filter_map(|pod| {
                Some(Endpoint {
                    addresses: vec![address(pod)?],
                    conditions: Some(EndpointConditions {
                        ready: Some(true),
                        serving: Some(true),
                        terminating: Some(false),
                    }),
                    node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
                    target_ref: Some(target(pod)),
                    ..Endpoint::default()
                })
            })
            .collect();
        let hash = blake3::hash(service.uid().unwrap_or_default().as_bytes()).to_hex();
        let name = format!("{}-{}", service.name_any(), &hash[..SUFFIX_DIGITS]);
        let api = Api::<EndpointSlice>::namespaced(self.0.client.clone(), namespace);
        match self.0.cache.slices.get(&ObjectRef::new(&name).within(namespace)) {
            Some(there) if there.endpoints == endpoints && there.ports.as_ref() == Some(&ports) => Ok(()),
            Some(there) => api
                .patch(
                    &name,
                    &PatchParams::default(),
                    &Patch::Merge(&json!({"endpoints": endpoints, "ports": ports})),
                )
                .await
                .settled("writing", &*there)
                .map(|_| ()),
            None => {
                let mut labels = service.labels().clone();
                labels.insert("kubernetes.io/service-name".to_owned(), service.name_any());
                labels.insert(
                    "endpointslice.kubernetes.io/managed-by".to_owned(),
                    "endpointslice-controller.k8s.io".to_owned(),
                );
                let new = EndpointSlice {
                    metadata: meta(&name, namespace, labels, Some(vec![owner::controller_of(service)])),
                    address_type: "IPv4".to_owned(),
                    endpoints,
                    ports: Some(ports),
                };
                api.create(&PostParams::default(), &new).await.settled("creating", &new).map(|_| ())
            }
        }
    }
}

fn meta(
    name: &str,
    namespace: &str,
    labels: std::collections::BTreeMap<String, String>,
    owner_references: Option<Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference>>,
) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels),
        owner_references,
        ..ObjectMeta::default()
    }
}
