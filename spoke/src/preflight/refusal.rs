//! What an API server's answer to a dry run means: pure.
//!
//! A dry run goes to the object's own place. Where its namespace is yet to be made, it goes to the
//! spoke's own namespace instead: there the server judges the object's form as everywhere, and
//! what it says of that namespace (quota, admission) means nothing.

use std::collections::HashSet;

use crate::apply::{Problem, refused};
use crate::cluster::ClusterError;

/// Where an object was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// Where it is to be.
    InPlace,
    /// In the spoke's own namespace.
    Elsewhere,
}

/// What is coming along, and may be what the server misses.
#[derive(Clone, Debug, Default)]
pub struct Coming {
    /// The names of all objects of the run.
    pub names: HashSet<String>,
    /// The namespaces by their names on the destination.
    pub namespaces: HashSet<String>,
    /// Groups and kinds whose definitions come along.
    pub kinds: HashSet<(String, String)>,
}

/// What a refusal means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The object is as the server wants it.
    Passed,
    /// The server would not take it.
    Refused(Problem),
    /// Nothing can be said before the run; why.
    NotTried(&'static str),
    /// The server may answer a little later.
    Again,
}

const NEEDS_OTHERS: &str = "it needs what comes along with it, and is not tried before that is there";

/// What a refusal means for the run.
pub fn judge(error: &ClusterError, tried: Where, coming: &Coming) -> Verdict {
    let Some(code) = error.code() else { return Verdict::Again };
    let message = error.message();
    let says = |text: &str| message.contains(text);
    let elsewhere = tried == Where::Elsewhere;
    if elsewhere && error.is_already_exists() {
        // The form is judged before the name is looked for.
        return Verdict::Passed;
    }
    if says("does not support dry run") {
        return Verdict::NotTried("an admission webhook of the destination takes no dry runs");
    }
    if says("failed calling webhook") {
        let unsure = elsewhere || is_about(&message, coming);
        let why = "an admission webhook of the destination does not answer now";
        return if unsure { Verdict::NotTried(why) } else { Verdict::Refused(refused(error)) };
    }
    let problem = refused(error);
    // A server-side apply is refused with 500 where it does not fit the schema.
    let of_form = matches!(code, 400 | 422)
        || problem.reason == "UnknownField"
        || says("failed to create typed patch object");
    if (matches!(code, 429 | 500 | 502 | 503 | 504) && !of_form && problem.transient) || error.is_conflict() {
        return Verdict::Again;
    }
    let of_rights = says("attempting to grant RBAC permissions") || says("is forbidden: User");
    let denied = code == 403 || says("denied request") || says("denied the request");
    if elsewhere && denied && !of_rights {
        return Verdict::Passed;
    }
    let lacks_something = code == 404 || (denied && says("not found"));
    let lacks_kind = says("could not find the requested resource");
    if lacks_something && !lacks_kind && (elsewhere || is_about(&message, coming)) {
        return Verdict::NotTried(NEEDS_OTHERS);
    }
    Verdict::Refused(problem)
}

/// Whether the server names something that the run brings, beside the object itself.
fn is_about(message: &str, coming: &Coming) -> bool {
    // `pods "web" is forbidden: ...`: the object comes along in any case.
    let about = message.split_once(" is forbidden: ").map_or(message, |(_, about)| about);
    let quoted = about.split('"').skip(1).step_by(2);
    let mut named = quoted.flat_map(|text| [text, text.rsplit('/').next().unwrap_or(text)]);
    named.any(|name| {
        coming.names.contains(name) || coming.namespaces.contains(name) || is_service_of(name, coming)
    })
}

/// Whether a URL is that of a Service in one of the run's namespaces.
fn is_service_of(text: &str, coming: &Coming) -> bool {
    let Some((_, host)) = text.split_once("://") else { return false };
    let host = host.split(['/', ':', '?']).next().unwrap_or_default();
    let mut labels = host.split('.').skip(1);
    matches!((labels.next(), labels.next()), (Some(namespace), Some("svc")) if coming.namespaces.contains(namespace))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reason(code: u16, word: &str, message: &str, tried: Where) -> String {
        let body = json!({"reason": word, "message": message}).to_string();
        let error = ClusterError::refused("PATCH /x".to_owned(), code, None, body.as_bytes());
        let coming = Coming {
            names: HashSet::from(["hook".to_owned(), "app-sa".to_owned()]),
            namespaces: HashSet::from(["cms".to_owned()]),
            kinds: HashSet::new(),
        };
        match judge(&error, tried, &coming) {
            Verdict::Passed => "passed".to_owned(),
            Verdict::Refused(problem) => problem.reason,
            Verdict::NotTried(_) => "not tried".to_owned(),
            Verdict::Again => "again".to_owned(),
        }
    }

    #[test]
    fn a_field_that_the_destination_lacks_is_told_from_what_may_pass() {
        let unknown = "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .foo: field not declared in schema";
        assert_eq!(reason(500, "", unknown, Where::InPlace), "UnknownField");
        let strict = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"foo\"";
        assert_eq!(reason(400, "BadRequest", strict, Where::Elsewhere), "UnknownField");
        let list = "failed to create typed patch object (/a; /v1, Kind=Service): .spec.ports: expected list, got &{no}";
        assert_ne!(reason(500, "", list, Where::InPlace), "again");
        assert_eq!(reason(503, "", "try again", Where::InPlace), "again");
        assert_eq!(reason(409, "Conflict", "the object has been modified", Where::InPlace), "again");
    }

    #[test]
    fn what_the_spokes_own_namespace_forbids_means_nothing() {
        for message in [
            "exceeded quota: q",
            "pods \"p\" is forbidden: violates PodSecurity",
            "admission webhook \"w\" denied the request: no",
        ] {
            assert_eq!(reason(403, "Forbidden", message, Where::Elsewhere), "passed", "{message}");
        }
        let policy = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no";
        assert_eq!(reason(422, "Invalid", policy, Where::Elsewhere), "passed");
        assert_eq!(reason(422, "Invalid", policy, Where::InPlace), "WebhookRefused");
        assert_eq!(
            reason(409, "AlreadyExists", "configmaps \"a\" already exists", Where::Elsewhere),
            "passed"
        );
    }

    #[test]
    fn what_is_wrong_everywhere_counts_in_the_spokes_own_namespace_too() {
        assert_eq!(reason(422, "Invalid", "spec.size: Invalid value: 9", Where::Elsewhere), "Invalid");
        let port = "Service \"a\" is invalid: spec.ports[0].nodePort: Invalid value: 30123: provided port is already allocated";
        assert_eq!(reason(422, "Invalid", port, Where::Elsewhere), "PortTaken");
        let rights = "roles.rbac.authorization.k8s.io \"x\" is forbidden: user \"s\" is attempting to grant RBAC permissions not currently held";
        assert_eq!(reason(403, "Forbidden", rights, Where::Elsewhere), "EscalationRefused");
        let kind = "the server could not find the requested resource";
        assert_ne!(reason(404, "NotFound", kind, Where::Elsewhere), "not tried");
    }

    #[test]
    fn what_comes_along_with_the_run_is_not_missed() {
        let account = "pods \"p\" is forbidden: error looking up service account cms/app-sa: serviceaccount \"app-sa\" not found";
        assert_eq!(reason(403, "Forbidden", account, Where::InPlace), "not tried");
        let other = account.replace("app-sa", "else");
        assert_ne!(reason(403, "Forbidden", &other, Where::InPlace), "not tried");
        let own = other.replace("pods \"p\"", "pods \"hook\"");
        assert_ne!(
            reason(403, "Forbidden", &own, Where::InPlace),
            "not tried",
            "it is not itself that is missed"
        );
        let hook = "Internal error occurred: failed calling webhook \"w.example.com\": failed to call webhook: Post \
                    \"https://serve.cms.svc:443/validate?timeout=10s\": no endpoints available";
        assert_eq!(reason(500, "InternalError", hook, Where::InPlace), "not tried");
        let others = hook.replace("cms", "tools");
        assert_eq!(reason(500, "InternalError", &others, Where::InPlace), "WebhookUnreachable");
        assert_eq!(reason(500, "InternalError", &others, Where::Elsewhere), "not tried");
        let dry = "admission webhook \"w\" does not support dry run";
        assert_eq!(reason(400, "BadRequest", dry, Where::InPlace), "not tried");
    }
}
