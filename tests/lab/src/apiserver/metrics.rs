//! How many requests were answered, as kube-apiserver counts them: `/metrics` has this one counter.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hyper::Method;
use parking_lot::Mutex;

use super::request::{Call, Target};

/// Clients of the control plane itself, by the names that their user agents begin with.
const SYSTEM: [&str; 3] = ["kube-controller-manager", "kube-scheduler", "kube-apiserver"];

/// What requests are told apart by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    code: u16,
    group: String,
    resource: String,
    subresource: String,
    system: &'static str,
    verb: &'static str,
    version: String,
}

/// The counter. Its size is bounded by what is served: only requests for resources that were found, or
/// refused by name, are told apart.
#[derive(Debug, Default)]
pub struct Requests(Mutex<BTreeMap<Labels, u64>>);

impl Requests {
    /// Counts an answered request.
    pub fn count(&self, call: &Call, target: &Target, watching: bool, code: u16) {
        let verb = match call.method {
            _ if watching => "WATCH",
            Method::GET if target.name.is_empty() => "LIST",
            Method::GET => "GET",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH if call.content_type == "application/apply-patch+yaml" => "APPLY",
            Method::PATCH => "PATCH",
            Method::DELETE if target.name.is_empty() => "DELETECOLLECTION",
            Method::DELETE => "DELETE",
            _ => "other",
        };
        let client = call.user_agent.split('/').next().unwrap_or("");
        let labels = Labels {
            code,
            group: target.group.clone(),
            resource: target.resource.clone(),
            subresource: target.subresource.clone(),
            system: SYSTEM.iter().copied().find(|name| *name == client).unwrap_or(""),
            verb,
            version: target.version.clone(),
        };
        *self.0.lock().entry(labels).or_default() += 1;
    }

    /// The counter in the text format of Prometheus.
    pub fn text(&self) -> String {
        let mut text = "# HELP apiserver_request_total Requests by verb, resource, client and code.\n\
                        # TYPE apiserver_request_total counter\n"
            .to_owned();
        for (labels, count) in self.0.lock().iter() {
            let Labels { code, group, resource, subresource, system, verb, version } = labels;
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "apiserver_request_total{{code=\"{code}\",component=\"apiserver\",group=\"{group}\",\
                 resource=\"{resource}\",subresource=\"{subresource}\",system_client=\"{system}\",\
                 verb=\"{verb}\",version=\"{version}\"}} {count}"
            );
        }
        text
    }
}
