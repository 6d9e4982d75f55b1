//! `isthmus cluster …`

use std::time::Duration;

use isthmus_shared::protocol::identity::{JoinClaims, read_join_token};
use isthmus_shared::resources::{Cluster, ClusterPairSpec};
use k8s_openapi::api::core::v1::Secret;
use serde::Serialize;

use super::references::refuse_while_used;
use super::{describe, list, print_record};
use crate::args::TokenDelivery;
use crate::args::{ClusterAdd, ClusterCommand, ClusterRemove, ClusterToken, Connection, Format};
use crate::connect::Session;
use crate::ending::Ending;
use crate::error::Error;
use crate::records::{RecordError, Records};
use crate::secret_file::SecretFile;
use crate::watching::{Waited, Watched};
use crate::{manifests, output, render};

/// How often a Secret that the hub is about to write is looked for.
const SECRET_POLL: Duration = Duration::from_millis(200);
/// How many times.
const SECRET_POLLS: usize = 50;

pub async fn run(connection: &Connection, command: ClusterCommand) -> Result<Ending, Error> {
    match command {
        ClusterCommand::Add(args) => add(connection, args).await,
        ClusterCommand::Token(args) => token(connection, args).await,
        ClusterCommand::List(args) => list::<Cluster>(connection, args, render::clusters).await,
        ClusterCommand::Describe { name, output } => {
            let now = jiff::Timestamp::now();
            describe::<Cluster>(connection, &name, output, |cluster| render::describe_cluster(cluster, now))
                .await
        }
        ClusterCommand::Remove(args) => remove(connection, args).await,
    }
}

async fn add(connection: &Connection, args: ClusterAdd) -> Result<Ending, Error> {
    let (name, namespace) = (&args.name, &connection.namespace);
    if args.creation.dry_run {
        let cluster = manifests::cluster(namespace, name, args.api_endpoint, None);
        let documents = [output::value(&cluster)?];
        output::print(&output::manifests(args.creation.manifest_format(), &documents)?)?;
        return Ok(Ending::Succeeded);
    }
    let file = open_file(&args.delivery)?;
    let session = Session::open(connection).await?;
    let request = uuid::Uuid::new_v4().to_string();
    let cluster = manifests::cluster(namespace, name, args.api_endpoint, Some(request.clone()));
    let clusters = Records::of(&session, namespace);
    clusters.create(&cluster).await.map_err(|error| match error {
        RecordError::Taken { object } => Error::Refused(format!(
            "{object} is there already and was not changed: `isthmus cluster token {name}` issues a new join token for it"
        )),
        other => other.into(),
    })?;
    output::note(&format!("Cluster {namespace}/{name} is recorded."));
    deliver(&session, name, &request, args.delivery, file, args.creation.output.format()).await
}

async fn token(connection: &Connection, args: ClusterToken) -> Result<Ending, Error> {
    let file = open_file(&args.delivery)?;
    let session = Session::open(connection).await?;
    let request = uuid::Uuid::new_v4().to_string();
    let clusters = Records::<Cluster>::of(&session, &session.namespace);
    clusters
        .change::<Error>(&args.name, |cluster| {
            cluster.spec.join_request = Some(request.clone());
            Ok(())
        })
        .await?;
    deliver(&session, &args.name, &request, args.delivery, file, args.output.format()).await
}

async fn remove(connection: &Connection, args: ClusterRemove) -> Result<Ending, Error> {
    let session = Session::open(connection).await?;
    let clusters = Records::<Cluster>::of(&session, &session.namespace);
    let cluster = clusters.get(&args.name).await?;
    let name = &args.name;
    let uses = |pair: &ClusterPairSpec| pair.source == *name || pair.destination == *name;
    refuse_while_used(&session, &clusters.named(name), "removed", uses).await?;
    let words = clusters.delete(&cluster).await?.words();
    output::print(&format!(
        "{} {words}. Its spoke is refused from now on: take it out of the cluster with \
         `helm uninstall isthmus-spoke --namespace isthmus-spoke`.",
        clusters.named(&args.name)
    ))?;
    Ok(Ending::Succeeded)
}

fn open_file(delivery: &TokenDelivery) -> Result<Option<SecretFile>, Error> {
    Ok(delivery.token_file.as_deref().map(SecretFile::open).transpose()?)
}

/// A join token and what to do with it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Joining {
    cluster: String,
    hub: String,
    expires: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<String>,
}

/// Waits for the token that answers a request, and hands it over.
async fn deliver(
    session: &Session,
    name: &str,
    request: &str,
    delivery: TokenDelivery,
    file: Option<SecretFile>,
    format: Format,
) -> Result<Ending, Error> {
    let id = issued(session, name, request, delivery.timeout).await?;
    let (token, claims, hub) = read_token(session, name, &id).await?;
    let expires = i64::try_from(claims.exp).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
    let mut joining = Joining {
        cluster: name.to_owned(),
        hub,
        expires: expires.map(|time| time.to_string()).unwrap_or_default(),
        token: None,
        token_file: None,
    };
    match file {
        Some(file) => {
            file.write(&token)?;
            joining.token_file = delivery.token_file.map(|path| path.display().to_string());
        }
        None => joining.token = Some(token),
    }
    print_record(format, &joining, || instructions(&joining))?;
    Ok(Ending::Succeeded)
}

async fn issued(session: &Session, name: &str, request: &str, limit: Duration) -> Result<String, Error> {
    let watched = Watched::new(Records::<Cluster>::of(session, &session.namespace), name);
    let found = watched.until(limit, |cluster| {
        let join = cluster?.status.as_ref()?.join.as_ref()?;
        (join.request.as_deref() == Some(request)).then(|| join.token_id.clone())
    });
    match found.await? {
        Waited::Reached(id) => Ok(id),
        Waited::TimedOut => Err(Error::NotReached(format!(
            "Cluster {namespace}/{name} is recorded, but no hub has issued its join token within {limit}: is isthmus-hub \
             running, and is {namespace} its namespace (`kubectl --namespace {namespace} get pods,lease`)? Once it \
             runs, `isthmus cluster token {name}` gives a token",
            namespace = session.namespace,
            limit = render::figures::length(limit),
        ))),
    }
}

/// The token of that id. It may be that the Secret still holds the one before.
async fn read_token(session: &Session, name: &str, id: &str) -> Result<(String, JoinClaims, String), Error> {
    let secrets = Records::<Secret>::of(session, &session.namespace);
    let secret_name = format!("{name}-join-token");
    let mut polls = tokio::time::interval(SECRET_POLL);
    for _ in 0..SECRET_POLLS {
        polls.tick().await;
        let Some(secret) = secrets.find(&secret_name).await? else { continue };
        let data = secret.data.unwrap_or_default();
        let value = |key: &str| data.get(key).and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
        if let (Some(token), Some(hub)) = (value("token"), value("hub")) {
            let claims = read_join_token(&token).map_err(Error::Token)?;
            if claims.jti == id {
                return Ok((token.trim().to_owned(), claims, hub));
            }
        }
    }
    Err(Error::NotReached(format!(
        "the hub has issued a join token for Cluster {name}, but it is not in Secret {}/{secret_name}: was it used or \
         replaced meanwhile? `isthmus cluster token {name}` gives another",
        session.namespace
    )))
}

fn instructions(joining: &Joining) -> String {
    let Joining { cluster, hub, expires, token, token_file } = joining;
    let default_file = format!("{cluster}.token");
    let file = token_file.as_ref().unwrap_or(&default_file);
    let head = match token {
        Some(token) => {
            format!(
                "The spoke of {cluster} joins with this token, once, until {expires}:\n\n{token}\n\nPut it into a file, here {file}."
            )
        }
        None => {
            format!("The token with which the spoke of {cluster} joins, once, until {expires}, is in {file}.")
        }
    };
    format!(
        "{head} Then start the spoke, in the cluster with Helm:\n\n  \
         helm install isthmus-spoke deploy/charts/isthmus-spoke --namespace isthmus-spoke --create-namespace \\\n    \
         --set hubUrl={hub} --set-file joinToken.value={file}\n\n\
         or anywhere, with a kubeconfig of the cluster:\n\n  \
         isthmus-spoke serve --hub {hub} --join-token-file {file} --kubeconfig KUBECONFIG\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_a_file_is_not_printed() {
        let joining = Joining {
            cluster: "east".to_owned(),
            hub: "https://hub.example.com:8443".to_owned(),
            expires: "2026-01-01T01:00:00Z".to_owned(),
            token: None,
            token_file: Some("/run/east.token".to_owned()),
        };
        insta::assert_snapshot!(instructions(&joining));
    }

    #[test]
    fn a_token_is_printed_with_how_to_start_a_spoke() {
        let joining = Joining {
            cluster: "east".to_owned(),
            hub: "https://hub.example.com:8443".to_owned(),
            expires: "2026-01-01T01:00:00Z".to_owned(),
            token: Some("aaa.bbb.ccc".to_owned()),
            token_file: None,
        };
        insta::assert_snapshot!(instructions(&joining));
    }
}
