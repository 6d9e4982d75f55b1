//! Running the hub: start in any order with its API server, lead or stand by, end in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use isthmus_shared::protocol::identity::SigningKey;
use isthmus_shared::resources::FIELD_MANAGER;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::events::{Recorder, Reporter};
use kube::{Api, Client};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Front, Office, listener};
use crate::auth::certificate::{self, CertificateError, Identity, Resolver};
use crate::auth::people::People;
use crate::auth::signing;
use crate::auth::spoke::Gate;
use crate::causes::chain;
use crate::clients::{ClientError, Clients};
use crate::controllers::{self, Desk};
use crate::crds;
use crate::events::Events;
use crate::leader::{Elector, Term};
use crate::metrics::Metrics;
use crate::options::ServeOptions;
use crate::presence::Presence;
use crate::records::{Records, Writer};
use crate::runs::Runs;
use crate::staging::Stores;

/// The ConfigMap that tells the command line and people how to reach the hub.
const CONFIG_MAP: &str = "isthmus-hub";
/// How often it is looked whether the certificate is to be renewed.
const RENEW_EVERY: Duration = Duration::from_hours(1);
/// The longest pause between attempts to reach the API server.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// The hub cannot run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(
        "listening on {address} failed: {source}; is another program using it? give another address with --listen"
    )]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(
        "{0:?} is not a URL that spokes can reach the hub at: give https://HOST[:PORT] with --advertise-url"
    )]
    AdvertiseUrl(String),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("setting up TLS failed: {0}")]
    Tls(#[source] rustls::Error),
    #[error("waiting for signals failed: {0}")]
    Signals(#[source] std::io::Error),
}

/// Runs the hub until it is told to end.
pub(crate) async fn serve(options: ServeOptions) -> Result<(), ServeError> {
    let stop = stop_on_signals()?;
    let address = options.listen;
    let listener =
        TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
    let bound = listener.local_addr().map_err(|source| ServeError::Listen { address, source })?;
    let url = options.advertise_url.clone().unwrap_or_else(|| default_url(bound, &options.namespace));
    let host = host_of(&url)?;
    tracing::info!(version = crate::VERSION, listen = %bound, %url, namespace = options.namespace, "the hub starts");
    let clients = Clients::connect(&options).await?;
    let prepared = tokio::select! {
        prepared = prepare(&options, &clients, &host, bound) => prepared?,
        () = stop.cancelled() => return Ok(()),
    };
    let hub = Hub { options, clients, url, host, bound, stop, prepared };
    hub.run(listener).await
}

/// What has to be there before the hub can serve.
struct Prepared {
    identity: Identity,
    signing: Arc<SigningKey>,
}

struct Hub {
    options: ServeOptions,
    clients: Clients,
    url: String,
    host: String,
    bound: SocketAddr,
    stop: CancellationToken,
    prepared: Prepared,
}

/// Waits for the API server and sets up what is shared there, however long that takes.
async fn prepare(
    options: &ServeOptions,
    clients: &Clients,
    host: &str,
    bound: SocketAddr,
) -> Result<Prepared, ServeError> {
    let client = &clients.calls;
    persist("reaching the API server", || async { client.apiserver_version().await.map(drop) }).await;
    let namespace = &options.namespace;
    persist("making sure of the hub's namespace", || ensure_namespace(client, namespace)).await;
    if options.install_crds {
        persist("applying the custom resource definitions", || crds::install(client, &clients.watches)).await;
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let names = certificate::names(namespace, host, bound.ip());
    let identity = match (&options.tls_cert, &options.tls_key) {
        (Some(chain), Some(key)) => certificate::from_files(chain, key)?,
        _ => {
            persist("getting the hub's certificate", || certificate::load(&secrets, &names, Timestamp::now()))
                .await
        }
    };
    let signing = persist("getting the key that signs join tokens", || signing::load(&secrets)).await;
    Ok(Prepared { identity, signing: Arc::new(signing) })
}

/// Does something until it succeeds, with pauses that grow, and says what it waits for.
async fn persist<T, E, F>(what: &str, mut attempt: impl FnMut() -> F) -> T
where
    E: std::error::Error,
    F: Future<Output = Result<T, E>>,
{
    let pauses = || {
        ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(250))
            .with_max_delay(MAX_PAUSE)
            .with_jitter()
            .without_max_times()
            .build()
    };
    let mut pause = pauses();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => {
                let wait = pause.next().unwrap_or(MAX_PAUSE);
                let error = chain(&error);
                tracing::warn!(error, "{what} failed; trying again in {} ms", wait.as_millis());
                tokio::time::sleep(wait).await;
            }
        }
    }
}

async fn ensure_namespace(client: &Client, name: &str) -> Result<(), kube::Error> {
    let api: Api<Namespace> = Api::all(client.clone());
    match api.get_opt(name).await {
        Ok(Some(_)) => return Ok(()),
        Ok(None) => {}
        // A hub that may not look at namespaces was installed into one that is there.
        Err(kube::Error::Api(status)) if status.is_forbidden() => return Ok(()),
        Err(error) => return Err(error),
    }
    let namespace = Namespace {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    match api.create(&PostParams::default(), &namespace).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(error),
    }
}

impl Hub {
    async fn run(self, listener: TcpListener) -> Result<(), ServeError> {
        let mut background = JoinSet::new();
        let (namespace, limits) = (&self.options.namespace, self.options.limits());
        let records = Records::watch(&self.clients.watches, namespace, limits, &mut background);
        let metrics = Metrics::new();
        let stores = Arc::new(Stores::default());
        let (office, seen_office) = watch::channel(None);
        let people = People::new(self.clients.calls.clone());
        let front = Front::new(
            seen_office,
            Arc::clone(&records),
            people,
            Arc::clone(&stores),
            metrics.clone(),
            self.stop.clone(),
        );
        let resolver = Arc::new(Resolver::new(&self.prepared.identity));
        let tls = listener::tls(Arc::clone(&resolver)).map_err(ServeError::Tls)?;
        let router = api::router(Arc::new(front));
        let server = tokio::spawn(listener::serve(listener, tls, router, metrics.clone(), self.stop.clone()));
        if self.options.tls_cert.is_none() {
            background.spawn(self.renew(resolver));
        }
        tokio::select! {
            () = records.complete() => {}
            () = self.stop.cancelled() => {}
        }
        self.lead(&records, &stores, &metrics, &office).await;
        if let Err(error) = server.await {
            tracing::warn!(%error, "the server did not end in order");
        }
        tracing::info!("the hub has ended");
        Ok(())
    }

    /// Leads whenever it is elected, until the hub is to end.
    async fn lead(
        &self,
        records: &Arc<Records>,
        stores: &Arc<Stores>,
        metrics: &Metrics,
        office: &watch::Sender<Option<Arc<Office>>>,
    ) {
        let mut elector = Elector::new(
            self.clients.calls.clone(),
            &self.options.namespace,
            self.options.replica.as_deref(),
        );
        while !self.stop.is_cancelled() {
            let term = tokio::select! {
                term = elector.campaign(|| highest_fence(records)) => Arc::new(term),
                () = self.stop.cancelled() => break,
            };
            tracing::info!(fence = term.fence(), identity = elector.identity(), "this hub leads");
            let reign = self.open_office(records, stores, metrics, &term);
            metrics.leads(true);
            office.send_replace(Some(Arc::clone(&reign.office)));
            elector.hold(&term, &self.stop).await;
            office.send_replace(None);
            metrics.leads(false);
            drop(reign);
            tracing::info!(fence = term.fence(), "this hub does not lead any more");
        }
        if let Err(error) = elector.release().await {
            tracing::warn!(%error, "giving the lease back failed; another hub leads once it has run out");
        }
    }

    fn open_office(
        &self,
        records: &Arc<Records>,
        stores: &Arc<Stores>,
        metrics: &Metrics,
        term: &Arc<Term>,
    ) -> Reign {
        let client = self.clients.calls.clone();
        let presence = Arc::new(Presence::new(term.since()).with_patience(self.options.failover_patience));
        let writer = Writer { client: client.clone(), term: Arc::clone(term) };
        let mut tasks = JoinSet::new();
        let events = Events::start(client.clone(), &mut tasks);
        let recorder =
            Recorder::new(client, Reporter { controller: "isthmus-hub".to_owned(), instance: None });
        let runs = Arc::new(Runs::new(
            Arc::clone(records),
            Arc::clone(&presence),
            writer.clone(),
            events,
            metrics.clone(),
        ));
        let now = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
        let office = Arc::new(Office {
            term: Arc::clone(term),
            records: Arc::clone(records),
            presence,
            writer,
            runs,
            gate: Gate::new(now),
            signing: Arc::clone(&self.prepared.signing),
        });
        let desk = Arc::new(Desk {
            office: Arc::clone(&office),
            stores: Arc::clone(stores),
            recorder,
            metrics: metrics.clone(),
            url: self.url.clone(),
            ca_hash: self.prepared.identity.ca_hash.clone(),
        });
        controllers::start(&desk, &mut tasks);
        tasks.spawn(publish(self.clients.calls.clone(), self.config_map()));
        Reign { office, _tasks: tasks }
    }

    fn config_map(&self) -> ConfigMap {
        let data = [("url", &self.url), ("ca.crt", &self.prepared.identity.ca_pem)];
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(CONFIG_MAP.to_owned()),
                namespace: Some(self.options.namespace.clone()),
                ..ObjectMeta::default()
            },
            data: Some(data.into_iter().map(|(key, value)| (key.to_owned(), value.clone())).collect()),
            ..ConfigMap::default()
        }
    }

    /// Renews the certificate when it is time, and takes over what another replica has renewed.
    fn renew(&self, resolver: Arc<Resolver>) -> impl Future<Output = ()> + use<> {
        let secrets: Api<Secret> = Api::namespaced(self.clients.calls.clone(), &self.options.namespace);
        let names = certificate::names(&self.options.namespace, &self.host, self.bound.ip());
        let ca_hash = self.prepared.identity.ca_hash.clone();
        async move {
            loop {
                tokio::time::sleep(RENEW_EVERY).await;
                let load = || certificate::load(&secrets, &names, Timestamp::now());
                let identity = persist("looking after the hub's certificate", load).await;
                if identity.ca_hash != ca_hash {
                    tracing::error!(
                        "the hub's CA was replaced: restart the hub, then join every cluster again"
                    );
                }
                resolver.replace(&identity);
            }
        }
    }
}

/// The highest fence that any migration's status carries.
fn highest_fence(records: &Records) -> i64 {
    let fences = records.migrations.all();
    fences.iter().filter_map(|migration| migration.status.as_ref().map(|s| s.fence)).max().unwrap_or(0)
}

/// What is done during a term; it ends when this is dropped.
struct Reign {
    office: Arc<Office>,
    _tasks: JoinSet<()>,
}

/// Tells people where the hub is.
async fn publish(client: Client, config_map: ConfigMap) {
    let namespace = config_map.metadata.namespace.clone().unwrap_or_default();
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    persist("writing the ConfigMap isthmus-hub", || async {
        api.patch(CONFIG_MAP, &params, &Patch::Apply(&config_map)).await.map(drop)
    })
    .await;
}

/// The URL that is advertised when none is given.
fn default_url(bound: SocketAddr, namespace: &str) -> String {
    if bound.ip().is_unspecified() {
        // An address that stands for all of them is none that could be dialled.
        let url = format!("https://isthmus-hub.{namespace}.svc:{}", bound.port());
        tracing::warn!(
            url,
            "no --advertise-url is given: only spokes of this very cluster can reach the hub"
        );
        return url;
    }
    format!("https://{bound}")
}

/// The host of a URL that spokes can dial.
fn host_of(url: &str) -> Result<String, ServeError> {
    let wrong = || ServeError::AdvertiseUrl(url.to_owned());
    let uri: http::Uri = url.parse().map_err(|_| wrong())?;
    if uri.scheme_str() != Some("https") {
        return Err(wrong());
    }
    uri.host().map(str::to_owned).ok_or_else(wrong)
}

/// Is cancelled by SIGTERM or SIGINT.
fn stop_on_signals() -> Result<CancellationToken, ServeError> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    let cancelled = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: the hub ends"),
            _ = interrupt.recv() => tracing::info!("SIGINT: the hub ends"),
        }
        cancelled.cancel();
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listened_on_is_advertised_unless_it_stands_for_every_address() {
        let url = |address: &str| default_url(address.parse().unwrap(), "isthmus");
        assert_eq!(url("127.0.0.1:1234"), "https://127.0.0.1:1234");
        assert_eq!(url("[::]:8443"), "https://isthmus-hub.isthmus.svc:8443");
    }

    #[test]
    fn only_an_https_url_is_advertised() {
        assert_eq!(host_of("https://hub.example:8443").unwrap(), "hub.example");
        assert_eq!(host_of("https://[::1]:8443").unwrap(), "[::1]");
        for bad in ["http://hub", "hub:8443", "", "https://"] {
            assert!(host_of(bad).is_err(), "{bad}");
        }
    }
}
