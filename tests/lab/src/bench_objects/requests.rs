//! How many requests an API server has answered, from its own metrics.

use super::connection::{Protocol, Server};

const COUNTER: &str = "apiserver_request_total{";
/// Requests that last, and are not answered one by one.
const LASTING: [&str; 2] = ["WATCH", "CONNECT"];

/// The requests for resources that clients have sent so far: all but watches, and but those of the
/// control plane's own programs.
pub async fn answered(server: &Server) -> anyhow::Result<u64> {
    let mut connection = server.connect(Protocol::Http1).await?;
    let answer = connection.ask(http::Method::GET, "/metrics", bytes::Bytes::new()).await?;
    let text = String::from_utf8_lossy(&answer);
    Ok(text.lines().filter_map(counted).sum())
}

/// What a line of the metrics adds.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn counted(line: &str) -> Option<u64> {
    let (labels, value) = line.strip_prefix(COUNTER)?.rsplit_once("} ")?;
    let label = |name: &str| {
        let start = labels.find(&format!("{name}=\""))? + name.len() + 2;
        labels[start..].split('"').next()
    };
    let system = label("system_client").is_some_and(|client| !client.is_empty());
    let resource = label("resource").is_some_and(|resource| !resource.is_empty());
    let lasting = label("verb").is_some_and(|verb| LASTING.contains(&verb));
    // Large counters are written as 1.2e+06.
    let value: f64 = value.trim().parse().ok()?;
    (resource && !system && !lasting).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(resource: &str, client: &str, verb: &str) -> String {
        format!(
            r#"apiserver_request_total{{code="200",component="apiserver",resource="{resource}",subresource="",system_client="{client}",verb="{verb}",version="v1"}} 12"#
        )
    }

    #[test]
    fn requests_of_clients_for_resources_count_and_others_do_not() {
        assert_eq!(counted(&line("secrets", "", "APPLY")), Some(12));
        assert_eq!(counted(&line("secrets", "kube-controller-manager", "APPLY")), None);
        assert_eq!(counted(&line("secrets", "", "WATCH")), None);
        assert_eq!(counted(&line("", "", "GET")), None);
        assert_eq!(counted("apiserver_request_duration_seconds_count{resource=\"x\"} 12"), None);
        assert_eq!(
            counted(r#"apiserver_request_total{resource="pods",verb="LIST"} 1.2e+06"#),
            Some(1_200_000)
        );
    }
}
