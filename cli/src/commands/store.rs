//! `isthmus store …`

use std::io::{BufRead, IsTerminal, Write};

use isthmus_shared::resources::{ObjectStore, StsSpec};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

use super::references::refuse_while_used;
use super::{describe, list, print_record};
use crate::args::{Connection, StoreCommand, StoreCreate};
use crate::connect::Session;
use crate::ending::Ending;
use crate::error::Error;
use crate::manifests::{self, Keys, StoreFacts};
use crate::records::Records;
use crate::watching::{Waited, Watched};
use crate::{output, render};

pub async fn run(connection: &Connection, command: StoreCommand) -> Result<Ending, Error> {
    match command {
        StoreCommand::Create(args) => create(connection, *args).await,
        StoreCommand::List(args) => list::<ObjectStore>(connection, args, render::stores).await,
        StoreCommand::Describe { name, output } => {
            describe::<ObjectStore>(connection, &name, output, render::describe_store).await
        }
        StoreCommand::Delete { name } => delete(connection, &name).await,
    }
}

async fn create(connection: &Connection, args: StoreCreate) -> Result<Ending, Error> {
    let namespace = &connection.namespace;
    let ca_bundle = match &args.ca_file {
        Some(path) => Some(
            std::fs::read_to_string(path).map_err(|source| Error::ReadFile { path: path.clone(), source })?,
        ),
        None => None,
    };
    let (secret, secret_name) = if let Some(name) = args.credentials_secret.clone() {
        (None, name)
    } else {
        let secret = manifests::store_secret(namespace, &args.name, &keys(&args)?);
        (Some(secret), manifests::secret_name(&args.name))
    };
    let facts = StoreFacts {
        name: args.name,
        endpoint: args.endpoint,
        region: args.region,
        bucket: args.bucket,
        prefix: args.prefix,
        path_style: args.path_style,
        ca_bundle,
        sts: args.sts_role_arn.map(|role_arn| StsSpec {
            endpoint: args.sts_endpoint,
            role_arn,
            duration_seconds: u32::try_from(args.sts_duration.as_secs()).unwrap_or(u32::MAX),
        }),
    };
    let store = manifests::store(namespace, facts, &secret_name);
    if args.creation.dry_run {
        let mut documents = Vec::new();
        if let Some(secret) = &secret {
            documents.push(output::value(secret)?);
        }
        documents.push(output::value(&store)?);
        output::print(&output::manifests(args.creation.manifest_format(), &documents)?)?;
        return Ok(Ending::Succeeded);
    }
    let session = Session::open(connection).await?;
    let mut made = make(&session, &store, secret).await?;
    let stores = Records::<ObjectStore>::of(&session, namespace);
    let name = made.name_any();
    output::note(&format!("{} is created.", stores.named(&name)));
    if args.wait {
        let mut said = String::new();
        let ready = Watched::new(stores, &name).until(args.timeout, |store| {
            let conditions = &store?.status.as_ref()?.conditions;
            let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
            if ready.status != "True" && ready.message != said {
                said.clone_from(&ready.message);
                output::note(&format!("Not ready yet: {}", render::clean(&said)));
            }
            (ready.status == "True").then(|| store.cloned())?
        });
        match ready.await? {
            Waited::Reached(store) => made = store,
            Waited::TimedOut => {
                return Err(Error::NotReached(format!(
                    "ObjectStore {namespace}/{name} is created, but was not Ready within {}: {}",
                    render::figures::length(args.timeout),
                    if said.is_empty() { "no hub has probed it: is isthmus-hub running?" } else { &said }
                )));
            }
        }
    }
    made.meta_mut().managed_fields = None;
    print_record(args.creation.output.format(), &made, || render::describe_store(&made))?;
    Ok(Ending::Succeeded)
}

/// Makes the Secret and the store, or neither of them.
async fn make(session: &Session, store: &ObjectStore, secret: Option<Secret>) -> Result<ObjectStore, Error> {
    let stores = Records::<ObjectStore>::of(session, &session.namespace);
    let Some(secret) = secret else { return Ok(stores.create(store).await?) };
    let name = store.name_any();
    if stores.find(&name).await?.is_some() {
        return Err(crate::records::RecordError::Taken { object: stores.named(&name) }.into());
    }
    let secrets = Records::<Secret>::of(session, &session.namespace);
    let secret = secrets.create(&secret).await?;
    let made = match stores.create(store).await {
        Ok(made) => made,
        Err(error) => {
            if let Err(second) = secrets.delete(&secret).await {
                output::note(&format!("warning: {second}: delete Secret {} by hand", secret.name_any()));
            }
            return Err(error.into());
        }
    };
    // The keys go when the store goes.
    let (owner, secret_name) = (owner_of(&made), secret.name_any());
    let owned = secrets.change::<Error>(&secret_name, |secret| {
        secret.metadata.owner_references = Some(vec![owner.clone()]);
        Ok(())
    });
    if let Err(error) = owned.await {
        output::note(&format!(
            "warning: {error}: Secret {} will stay when the store is deleted",
            secret.name_any()
        ));
    }
    Ok(made)
}

fn owner_of(store: &ObjectStore) -> OwnerReference {
    OwnerReference {
        api_version: ObjectStore::api_version(&()).into_owned(),
        kind: ObjectStore::kind(&()).into_owned(),
        name: store.name_any(),
        uid: store.uid().unwrap_or_default(),
        block_owner_deletion: None,
        controller: None,
    }
}

async fn delete(connection: &Connection, name: &str) -> Result<Ending, Error> {
    let session = Session::open(connection).await?;
    let stores = Records::<ObjectStore>::of(&session, &session.namespace);
    let store = stores.get(name).await?;
    refuse_while_used(&session, &stores.named(name), "deleted", |pair| pair.object_store == name).await?;
    let words = stores.delete(&store).await?.words();
    output::print(&format!(
        "{} {words}. The bucket {} is as it was.",
        stores.named(name),
        store.spec.bucket
    ))?;
    Ok(Ending::Succeeded)
}

/// The keys, from where they are given.
fn keys(args: &StoreCreate) -> Result<Keys, Error> {
    let id = args.access_key_id.clone().filter(|id| !id.is_empty());
    let secret = args.secret_access_key.clone().filter(|secret| !secret.is_empty());
    let missing = id.is_none() || secret.is_none();
    if missing && !std::io::stdin().is_terminal() {
        return Err(Error::Usage(
            "the keys to the bucket are missing and there is no terminal to ask at: set AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY, or name a Secret that has them with --credentials-secret"
                .to_owned(),
        ));
    }
    let id = id.map_or_else(|| ask("access key id", "AWS_ACCESS_KEY_ID", ask_openly), Ok)?;
    let hidden = || rpassword::prompt_password("Secret access key: ");
    let secret = secret.map_or_else(|| ask("secret access key", "AWS_SECRET_ACCESS_KEY", hidden), Ok)?;
    // A session token belongs to the keys beside which it was given.
    let session = args.session_token.clone().filter(|token| !token.is_empty() && !missing);
    Ok(Keys { id, secret, session })
}

fn ask(
    what: &'static str,
    variable: &'static str,
    question: impl FnOnce() -> std::io::Result<String>,
) -> Result<String, Error> {
    let answer = question().map_err(|source| Error::Prompt { what, variable, source })?;
    let answer = answer.trim().to_owned();
    if answer.is_empty() { Err(Error::Usage(format!("no {what} was given"))) } else { Ok(answer) }
}

fn ask_openly() -> std::io::Result<String> {
    let mut terminal = std::io::stderr().lock();
    write!(terminal, "Access key id: ")?;
    terminal.flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line)
}
