//! Why an object could not be applied: what the API server said, and what a person does about it.

use crate::cluster::ClusterError;
use crate::transform::TransformError;

/// Why an object could not be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// One word in CamelCase.
    pub reason: String,
    /// What was the matter and what to do.
    pub message: String,
    /// Whether another object of the run may resolve it.
    pub may_resolve: bool,
    /// Whether the API server is to be asked again rather than a person.
    pub transient: bool,
}

impl Problem {
    /// One that a person has to resolve.
    pub fn lasting(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into(), may_resolve: false, transient: false }
    }

    /// One that goes away once another object is there, or gone.
    pub fn waiting(reason: &str, message: impl Into<String>) -> Self {
        Self { may_resolve: true, ..Self::lasting(reason, message) }
    }
}

impl From<TransformError> for Problem {
    fn from(error: TransformError) -> Self {
        Self::lasting("TransformFailed", error.to_string())
    }
}

/// There is an object of this kind and name that is not ours.
pub fn taken_by(kind: &str) -> Problem {
    Problem::lasting(
        "AlreadyExists",
        format!(
            "the destination has a {kind} of this name that no migration brought: remove or rename it there, choose \
             an existingResourcePolicy of Skip, Update or Replace, leave the source's behind with the annotation \
             isthmus.dev/skip, or hand it over by labelling it isthmus.dev/migrated-by=adopted"
        ),
    )
}

/// A refusal: the word for it, what stands in the server's text, and what to do. The first that
/// matches counts.
struct Refusal {
    reason: &'static str,
    code: Option<u16>,
    says: &'static [&'static str],
    advice: &'static str,
    /// A namespace, a service account or a webhook's service may be on its way.
    may_resolve: bool,
}

const REFUSALS: &[Refusal] = &[
    Refusal {
        reason: "ObjectTooLarge",
        code: None,
        says: &[
            "request is too large",
            "Request entity too large",
            "limit is 3145728",
            "message larger than max",
            "may not be more than 1048576 bytes",
        ],
        advice: "the destination's etcd holds objects of 1.5 MiB at the most by default: split the object on the \
                 source, raise --max-request-bytes of the destination's etcd, or leave it behind with isthmus.dev/skip",
        may_resolve: false,
    },
    Refusal {
        reason: "EscalationRefused",
        code: Some(403),
        says: &["attempting to grant RBAC permissions not currently held", "user can not bind"],
        advice: "the spoke may hand out only rights that it has: give its service account the verbs escalate and \
                 bind on roles and clusterroles, as its ClusterRole in deploy/ does, or make this role yourself",
        may_resolve: false,
    },
    Refusal {
        reason: "ExceededQuota",
        code: Some(403),
        says: &["exceeded quota"],
        advice: "raise the quota of the namespace on the destination",
        may_resolve: false,
    },
    Refusal {
        reason: "QuotaNeedsValues",
        code: Some(403),
        says: &["failed quota"],
        advice: "the namespace's quota asks for requests or limits that the object lacks: add a LimitRange with \
                 defaults there, or set them on the source",
        may_resolve: true,
    },
    Refusal {
        reason: "LimitRange",
        code: Some(403),
        says: &[" usage per ", "limit to request ratio per"],
        advice: "change the LimitRange of the namespace on the destination, or the object by a transform",
        may_resolve: false,
    },
    Refusal {
        reason: "NamespaceTerminating",
        code: Some(403),
        says: &["because it is being terminated"],
        advice: "the namespace is being deleted: wait until it is gone, and look at its finalizers if it stays",
        may_resolve: false,
    },
    Refusal {
        reason: "PodSecurityRefused",
        code: Some(403),
        says: &["violates PodSecurity"],
        advice: "lower the namespace's pod-security.kubernetes.io/enforce level, or correct the pod's security context",
        may_resolve: false,
    },
    Refusal {
        reason: "RbacRefused",
        code: Some(403),
        says: &[
            "is forbidden: User",
            "cannot create resource",
            "cannot patch resource",
            "cannot update resource",
        ],
        advice: "grant the spoke's service account what its ClusterRole in deploy/ lists",
        may_resolve: false,
    },
    Refusal {
        reason: "WebhookUnreachable",
        code: None,
        says: &["failed calling webhook"],
        advice: "the admission webhook that it names does not answer: start what serves it, or exempt the namespace",
        may_resolve: true,
    },
    Refusal {
        reason: "WebhookRefused",
        code: None,
        says: &["admission webhook", "denied the request", "ValidatingAdmissionPolicy"],
        advice: "the destination's admission rule that it names refuses the object: change the object by a \
                 transform, or exempt the namespace",
        may_resolve: false,
    },
    Refusal {
        reason: "ConversionFailed",
        code: None,
        says: &["conversion webhook"],
        advice: "the kind's conversion webhook does not answer: start the operator that serves it",
        may_resolve: true,
    },
    Refusal {
        reason: "PortTaken",
        // A health check port that is taken is refused with 500.
        code: None,
        says: &["provided port is already allocated", "provided IP is already allocated"],
        advice: "another Service of the destination has it: free it there, or let the destination choose one",
        may_resolve: false,
    },
    Refusal {
        reason: "ImmutableField",
        code: Some(422),
        says: &[
            "field is immutable",
            "immutable after creation",
            "is immutable",
            "may not be changed",
            "may not change",
            "cannot change",
            "Forbidden: updates to",
        ],
        advice: "the field cannot be changed on the object that is there: delete that one on the destination, or \
                 choose existingResourcePolicy: Replace, or Skip",
        may_resolve: false,
    },
    Refusal {
        reason: "UnknownField",
        code: None,
        says: &["unknown field", "field not declared in schema", "strict decoding error"],
        advice: "the destination's version of this kind lacks the field: upgrade what serves the kind there, or \
                 remove the field by a transform",
        may_resolve: false,
    },
];

/// What the API server's refusal comes to.
pub fn refused(error: &ClusterError) -> Problem {
    let message = error.message();
    let code = error.code();
    let known = REFUSALS.iter().find(|refusal| {
        refusal.code.is_none_or(|wanted| code == Some(wanted))
            && refusal.says.iter().any(|says| message.contains(says))
    });
    let too_large = (code == Some(413)).then(|| &REFUSALS[0]);
    let known = known.or(too_large);
    // A namespace or an account that is on its way.
    let may_resolve = known.is_some_and(|refusal| refusal.may_resolve)
        || code == Some(404)
        || (known.is_none() && message.contains("not found"))
        || error.is_conflict();
    let advice = known.map_or(match code {
        Some(403) => "look at the destination's admission rules",
        Some(422) => "correct the field on the source or by a transform, or leave the object behind with isthmus.dev/skip",
        _ => "look at the API server's answer and correct what it names",
    }, |refusal| refusal.advice);
    Problem {
        reason: known.map_or(error.reason(), |refusal| refusal.reason).to_owned(),
        message: format!(
            "the destination's API server does not take it: {message}; {advice}, then run again"
        ),
        may_resolve,
        // A server that says 500 to what it will never take is not asked again.
        transient: error.is_transient() && known.is_none_or(|refusal| refusal.may_resolve),
    }
}

/// Whether a refusal is one of a field that cannot be changed on the object that is there.
pub fn is_immutable(error: &ClusterError) -> bool {
    refused(error).reason == "ImmutableField"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(code: u16, reason: &str, message: &str) -> Problem {
        let body = json!({"reason": reason, "message": message}).to_string();
        refused(&ClusterError::refused("PATCH /x".to_owned(), code, None, body.as_bytes()))
    }

    #[test]
    fn a_refusal_that_another_object_may_resolve_is_told_from_one_that_a_person_must() {
        assert!(refusal(404, "NotFound", "namespaces \"x\" not found").may_resolve);
        assert!(refusal(500, "InternalError", "failed calling webhook \"a\"").may_resolve);
        let invalid = refusal(422, "Invalid", "spec.ports: Required value");
        assert!(!invalid.may_resolve && invalid.message.contains("spec.ports"));
    }

    #[test]
    fn each_known_refusal_has_its_word() {
        let cases = [
            (403, "pods \"x\" is forbidden: exceeded quota: q, requested: pods=1", "ExceededQuota"),
            (
                403,
                "persistentvolumeclaims \"x\" is forbidden: maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi",
                "LimitRange",
            ),
            (
                403,
                "roles \"r\" is forbidden: user \"u\" is attempting to grant RBAC permissions not currently held: ...",
                "EscalationRefused",
            ),
            (
                403,
                "configmaps \"x\" is forbidden: User \"u\" cannot create resource \"configmaps\"",
                "RbacRefused",
            ),
            (
                403,
                "configmaps \"x\" is forbidden: unable to create new content in namespace a because it is being terminated",
                "NamespaceTerminating",
            ),
            (400, "admission webhook \"p\" denied the request: no", "WebhookRefused"),
            (500, "conversion webhook for a/v1, Kind=B failed: x", "ConversionFailed"),
            (413, "Request entity too large: limit is 3145728", "ObjectTooLarge"),
            (500, "etcdserver: request is too large", "ObjectTooLarge"),
            (413, "no", "ObjectTooLarge"),
            (422, "Job.batch \"x\" is invalid: spec.template: field is immutable", "ImmutableField"),
            (
                500,
                "failed to create typed patch object: .spec.x: field not declared in schema",
                "UnknownField",
            ),
            (
                422,
                "spec.ports[0].nodePort: Invalid value: 30000: provided port is already allocated",
                "PortTaken",
            ),
            (
                500,
                "Internal error occurred: failed to allocate requested HealthCheck NodePort 31000: provided port is already allocated",
                "PortTaken",
            ),
        ];
        for (code, message, reason) in cases {
            assert_eq!(refusal(code, "Any", message).reason, reason, "{message}");
        }
    }

    #[test]
    fn what_the_server_never_takes_is_not_tried_again_though_it_says_500() {
        assert!(!refusal(500, "InternalError", "etcdserver: request is too large").transient);
        let taken = "Internal error occurred: failed to allocate requested HealthCheck NodePort 31000: provided port is already allocated";
        assert!(!refusal(500, "InternalError", taken).transient);
        assert!(refusal(500, "InternalError", "something else").transient);
    }
}
