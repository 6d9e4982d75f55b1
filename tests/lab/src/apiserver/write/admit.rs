//! What refuses a write without changing it: Pod Security, limits, quotas, privileges given away.

use hyper::Method;
use serde_json::Value;

use super::NAMESPACES;
use super::Writing;
use crate::apiserver::admission::{limits, pod_security, quota};
use crate::apiserver::auth::{Identity, rbac};
use crate::apiserver::error::{ApiError, ApiResult};
use crate::apiserver::json::{at, list, name, namespace, text};
use crate::apiserver::registry::Resource;
use crate::apiserver::request::{body, yaml};
use crate::apiserver::store::Transaction;

impl Writing<'_> {
    /// What refuses without changing: privileges that would be given away, Pod Security, quotas.
    pub(super) fn admit(
        &mut self,
        t: &Transaction<'_>,
        resource: &Resource,
        object: &Value,
        old: Option<&Value>,
    ) -> ApiResult<()> {
        let place = namespace(object);
        if resource.namespaced {
            let home = t.get(NAMESPACES, &(String::new(), place.to_owned()));
            if let Some(home) = home {
                self.pod_security(&home, resource, object, old)?;
            }
            if old.is_none() {
                limits::check(t, &resource.plural, object)?;
            }
            quota::check(t, resource, place, object, old)?;
        }
        Ok(())
    }

    fn pod_security(
        &mut self,
        home: &Value,
        resource: &Resource,
        object: &Value,
        old: Option<&Value>,
    ) -> ApiResult<()> {
        let spec = match (resource.group.as_str(), resource.kind.as_str()) {
            ("", "Pod") => {
                if old.is_some_and(|o| o["spec"] == object["spec"]) {
                    return Ok(());
                }
                if let Some((level, found)) = pod_security::violations(home, "enforce", &object["spec"]) {
                    let why = format!("violates PodSecurity {level:?}: {found}");
                    return Err(ApiError::forbidden("", "pods", name(object), &why));
                }
                if let Some((level, found)) = pod_security::violations(home, "warn", &object["spec"]) {
                    self.warnings.push(format!("would violate PodSecurity {level:?}: {found}"));
                }
                return Ok(());
            }
            ("batch", "CronJob") => at(object, &["spec", "jobTemplate", "spec", "template", "spec"]),
            ("apps", _) | ("batch", "Job") | ("", "ReplicationController") => {
                at(object, &["spec", "template", "spec"])
            }
            _ => return Ok(()),
        };
        // Workloads are let through: their pods will not be.
        let mode = if at(home, &["metadata", "labels", "pod-security.kubernetes.io/warn"]).is_string() {
            "warn"
        } else {
            "enforce"
        };
        if spec.is_object()
            && let Some((level, found)) = pod_security::violations(home, mode, spec)
        {
            self.warnings.push(format!("would violate PodSecurity {level:?}: {found}"));
        }
        Ok(())
    }

    /// Nobody may give away what they do not have.
    pub fn check_escalation(&self) -> ApiResult<()> {
        let resource = self.resource;
        if resource.group != "rbac.authorization.k8s.io"
            || resource.is_custom()
            || self.call.method == Method::DELETE
        {
            return Ok(());
        }
        let content_type = self.call.content_type.as_str();
        let read = if content_type == crate::apiserver::protobuf::MEDIA {
            body(content_type, &self.call.body).ok()
        } else {
            yaml(&self.call.body).ok()
        };
        // A patch that is no object is refused, or computed, where patches are.
        let Some(object) = read.filter(Value::is_object) else { return Ok(()) };
        let identity: &Identity = &self.call.identity;
        let (wanted, verb) = if resource.kind.ends_with("Binding") {
            let reference = &object["roleRef"];
            (
                rbac::rules_of(
                    &self.server.store,
                    text(reference, &["kind"]),
                    text(reference, &["name"]),
                    &self.target.namespace,
                ),
                "bind",
            )
        } else {
            (list(&object, &["rules"]).to_vec(), "escalate")
        };
        let asked = crate::apiserver::auth::Attributes {
            verb: verb.to_owned(),
            group: resource.group.clone(),
            resource: resource.plural.clone(),
            namespace: self.target.namespace.clone(),
            name: name(&object).to_owned(),
            ..Default::default()
        };
        if rbac::allows(&self.server.store, identity, &asked).is_some() {
            return Ok(());
        }
        match rbac::missing(&self.server.store, identity, &self.target.namespace, &wanted) {
            None => Ok(()),
            Some(rule) => Err(ApiError::forbidden(
                &resource.group,
                &resource.plural,
                name(&object),
                &format!(
                    "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{rule}",
                    identity.user, identity.groups
                ),
            )),
        }
    }
}
