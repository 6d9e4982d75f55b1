//! The way to the API server of the hub's cluster, by kubeconfig.
//!
//! Two clients: one for calls that are answered at once, with a read timeout, and one for watches,
//! whose silence is normal for minutes. Neither repeats a request by itself.

use std::time::Duration;

use http::header::AUTHORIZATION;
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::{Layer, ServiceExt, service_fn};

use crate::args::{Connection, DEFAULT_NAMESPACE};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a watch may be silent: a little more than the 290 s after which the server ends it.
const WATCH_READ_TIMEOUT: Duration = Duration::from_mins(5);

/// No way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig is missing, unreadable or names what it does not have.
    #[error(
        "{what} cannot be used: {detail}: name another with --kubeconfig and --context, or set KUBECONFIG"
    )]
    Kubeconfig {
        /// Which.
        what: String,
        /// Why.
        detail: String,
    },
    /// A client could not be made of it.
    #[error(
        "preparing the connection to {server} failed: {detail}: check the certificates and keys of the kubeconfig"
    )]
    Client {
        /// The API server.
        server: String,
        /// Why.
        detail: String,
    },
    /// The kubeconfig's way to a token does not work.
    #[error("getting the token of the kubeconfig's user failed: {0}: log in anew, or use another user")]
    Token(String),
}

/// A connection and the namespaces to work in.
pub struct Session {
    /// For calls that are answered at once.
    pub client: Client,
    /// For watches.
    pub watches: Client,
    /// The namespace of the records.
    pub namespace: String,
    /// The hub's own.
    pub hub_namespace: String,
    config: Config,
}

impl Session {
    /// Prepares the clients; nothing is sent yet.
    pub async fn open(connection: &Connection) -> Result<Self, ConnectError> {
        let mut config = load(connection).await?;
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        let client = client(config.clone())?;
        let watches = client_for_watches(config.clone())?;
        let hub_namespace = connection
            .hub_namespace
            .clone()
            .or_else(|| std::env::var("ISTHMUS_NAMESPACE").ok())
            .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        Ok(Self { client, watches, namespace: connection.namespace.clone(), hub_namespace, config })
    }

    /// The API server's URL.
    pub fn server(&self) -> String {
        self.config.cluster_url.to_string()
    }

    /// The bearer token with which the kubeconfig's user speaks to the API server, whether it is
    /// written there, in a file, or comes from a login program; none for client certificates.
    pub async fn bearer_token(&self) -> Result<Option<String>, ConnectError> {
        let failed = |error: &dyn std::fmt::Display| ConnectError::Token(error.to_string());
        let Some(layer) = self.config.auth_layer().map_err(|error| failed(&error))? else { return Ok(None) };
        // The layer that authenticates our calls is asked to authenticate an empty one.
        let capture = service_fn(|request: http::Request<Body>| async move {
            let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
            let token = header.and_then(|text| text.strip_prefix("Bearer ")).map(str::to_owned);
            Ok::<_, tower::BoxError>(http::Response::new(token))
        });
        layer
            .layer(capture)
            .oneshot(http::Request::new(Body::empty()))
            .await
            .map(http::Response::into_body)
            .map_err(|error: tower::BoxError| failed(&error))
    }
}

async fn load(connection: &Connection) -> Result<Config, ConnectError> {
    let options = KubeConfigOptions { context: connection.context.clone(), ..KubeConfigOptions::default() };
    let failed = |what: String| move |detail: String| ConnectError::Kubeconfig { what, detail };
    let context =
        connection.context.as_deref().map(|name| format!(" with context {name}")).unwrap_or_default();
    match (&connection.kubeconfig, &connection.context) {
        (Some(path), _) => {
            let failed = failed(format!("kubeconfig {}{context}", path.display()));
            let file = match Kubeconfig::read_from(path) {
                Ok(file) => file,
                Err(error) => return Err(failed(full(&error))),
            };
            Config::from_custom_kubeconfig(file, &options).await.map_err(|error| failed(full(&error)))
        }
        (None, Some(_)) => {
            let failed = failed(format!("the kubeconfig{context}"));
            Config::from_kubeconfig(&options).await.map_err(|error| failed(full(&error)))
        }
        (None, None) => {
            let failed = failed("the kubeconfig".to_owned());
            Config::infer().await.map_err(|error| failed(full(&error)))
        }
    }
}

fn client_for_watches(mut config: Config) -> Result<Client, ConnectError> {
    config.read_timeout = Some(WATCH_READ_TIMEOUT);
    client(config)
}

fn client(config: Config) -> Result<Client, ConnectError> {
    let server = config.cluster_url.to_string();
    Client::try_from(config).map_err(|error| ConnectError::Client { server, detail: full(&error) })
}

/// An error and its causes, each said once.
pub fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session_of(kubeconfig: &str) -> impl Future<Output = Result<Session, ConnectError>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, kubeconfig).unwrap();
        async move {
            crate::install_crypto();
            let connection = Connection {
                kubeconfig: Some(path),
                context: None,
                namespace: "isthmus".to_owned(),
                hub_namespace: None,
            };
            let session = Session::open(&connection).await;
            drop(folder);
            session
        }
    }

    fn kubeconfig(user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: hub\n\
             clusters: [{{name: hub, cluster: {{server: 'https://127.0.0.1:1'}}}}]\n\
             contexts: [{{name: hub, context: {{cluster: hub, user: me}}}}]\n\
             users: [{{name: me, user: {user}}}]\n"
        )
    }

    #[tokio::test]
    async fn the_token_of_the_kubeconfig_is_the_one_for_the_hub() {
        let session = session_of(&kubeconfig("{token: secret}")).await.unwrap();
        assert_eq!(session.bearer_token().await.unwrap().as_deref(), Some("secret"));
    }

    #[tokio::test]
    async fn a_user_without_a_token_has_none_for_the_hub() {
        let session = session_of(&kubeconfig("{}")).await.unwrap();
        assert_eq!(session.bearer_token().await.unwrap(), None);
        let session = session_of(&kubeconfig("{username: me, password: mine}")).await.unwrap();
        assert_eq!(session.bearer_token().await.unwrap(), None, "a password must not go to the hub");
    }

    #[tokio::test]
    async fn a_kubeconfig_that_is_no_kubeconfig_is_named() {
        let error = session_of("[]").await.err().unwrap().to_string();
        assert!(error.contains("config") && error.contains("--kubeconfig"), "{error}");
    }
}
