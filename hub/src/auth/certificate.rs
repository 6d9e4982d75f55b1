//! The hub's CA and certificate.
//!
//! Spokes pin the CA, so it lives as long as the hub does; the certificate is renewed well before
//! it expires, and when the hub is to be reached under another name. All replicas share what
//! is in one Secret: whoever finds it wanting writes it anew, with the `resourceVersion` that it
//! read, and all others take over what is there.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, RwLock};

use isthmus_shared::protocol::identity::ca_hash;
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::shared_secret::{Data, SecretError, get_or_create, text};

/// The Secret of CA and certificate.
pub const SECRET: &str = "isthmus-hub-tls";
/// How long the CA is valid, days.
const CA_DAYS: i64 = 3650;
/// How long a certificate is valid, days.
const LEAF_DAYS: i64 = 90;
/// So long before it expires a certificate is renewed, days.
const RENEW_DAYS: i64 = 30;
/// Annotations of the Secret: the names and the end of the certificate in it.
const NAMES: &str = "isthmus.dev/certificate-names";
const EXPIRES: &str = "isthmus.dev/certificate-expires";
/// The most names in a certificate: replicas each add theirs.
const MAX_NAMES: usize = 64;
/// How often a renewal is tried when others write too.
const MAX_ATTEMPTS: usize = 5;

/// The hub has no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Making one failed.
    #[error("making the hub's certificate failed: {0}; check that --advertise-url has a valid host name")]
    Make(#[from] rcgen::Error),
    /// The Secret cannot be read or written.
    #[error("{0}")]
    Secret(String),
    /// What is in the Secret cannot be used.
    #[error(
        "the Secret {SECRET} cannot be used: {0}; restore it from a backup, or delete it to have a new CA made and join every cluster again"
    )]
    Damaged(String),
    /// Replicas kept writing over each other.
    #[error("the Secret {SECRET} was changed by others again and again while its certificate was renewed")]
    Contended,
    /// A file that was given cannot be used.
    #[error("{file} cannot be used as the hub's certificate: {detail}; check --tls-cert and --tls-key")]
    File {
        /// Which.
        file: String,
        /// Why not.
        detail: String,
    },
}

impl From<SecretError> for CertificateError {
    fn from(error: SecretError) -> Self {
        Self::Secret(error.to_string())
    }
}

/// What the hub serves with, and the CA that spokes pin.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The CA certificate, PEM.
    pub ca_pem: String,
    /// The hash of the CA that join tokens carry.
    pub ca_hash: String,
    certified: Arc<CertifiedKey>,
}

/// Serves the newest identity: a renewed certificate counts from the next connection on.
#[derive(Debug)]
pub struct Resolver(RwLock<Arc<CertifiedKey>>);

impl Resolver {
    /// Serves `identity` to begin with.
    pub fn new(identity: &Identity) -> Self {
        Self(RwLock::new(Arc::clone(&identity.certified)))
    }

    /// Serves `identity` from now on.
    pub fn replace(&self, identity: &Identity) {
        if let Ok(mut certified) = self.0.write() {
            *certified = Arc::clone(&identity.certified);
        }
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().ok().map(|certified| Arc::clone(&certified))
    }
}

/// The names under which the hub is reached, for its certificate.
pub fn names(namespace: &str, advertise_host: &str, listen: IpAddr) -> BTreeSet<String> {
    let mut names = BTreeSet::from([
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        format!("isthmus-hub.{namespace}"),
        format!("isthmus-hub.{namespace}.svc"),
        format!("isthmus-hub.{namespace}.svc.cluster.local"),
        advertise_host.trim_matches(['[', ']']).to_owned(),
    ]);
    if !listen.is_unspecified() {
        names.insert(listen.to_string());
    }
    names
}

/// The identity in the Secret; made if there is none, renewed if it is time or a name is missing.
pub async fn load(
    api: &Api<Secret>,
    names: &BTreeSet<String>,
    now: Timestamp,
) -> Result<Identity, CertificateError> {
    let fresh = Authority::make(now)?;
    for _ in 0..MAX_ATTEMPTS {
        let mut secret = get_or_create(api, SECRET, &fresh.data()).await?;
        let authority = Authority::read(&secret)?;
        let held = held_names(&secret);
        if is_good(&secret, &held, names, now) {
            return authority.identity(&secret);
        }
        let all: BTreeSet<String> = names.iter().chain(&held).take(MAX_NAMES).cloned().collect();
        authority.issue(&mut secret, &all, now)?;
        match api.replace(SECRET, &PostParams::default(), &secret).await {
            Ok(written) => {
                tracing::info!(names = ?all, "the hub's certificate was issued");
                return authority.identity(&written);
            }
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
            Err(error) => {
                return Err(CertificateError::Secret(format!("writing the Secret {SECRET} failed: {error}")));
            }
        }
    }
    Err(CertificateError::Contended)
}

/// The identity in two files, of which the chain's last certificate counts as the CA.
pub fn from_files(chain_file: &Path, key_file: &Path) -> Result<Identity, CertificateError> {
    let wrong =
        |file: &Path, detail: String| CertificateError::File { file: file.display().to_string(), detail };
    let chain = CertificateDer::pem_file_iter(chain_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(chain_file, error.to_string()))?;
    let Some(ca) = chain.last().cloned() else {
        return Err(wrong(chain_file, "it holds no certificate".to_owned()));
    };
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| wrong(key_file, error.to_string()))?;
    let certified = certified(chain, key).map_err(|detail| wrong(chain_file, detail))?;
    Ok(Identity { ca_hash: ca_hash(&ca), ca_pem: pem(&ca), certified })
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, String> {
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .map(Arc::new)
        .map_err(|e| e.to_string())
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::prelude::BASE64_STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII: every byte is a character.
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

fn held_names(secret: &Secret) -> BTreeSet<String> {
    let names = secret.annotations().get(NAMES).map(String::as_str).unwrap_or_default();
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn is_good(secret: &Secret, held: &BTreeSet<String>, wanted: &BTreeSet<String>, now: Timestamp) -> bool {
    let expires: Option<Timestamp> = secret.annotations().get(EXPIRES).and_then(|text| text.parse().ok());
    let fresh = expires.is_some_and(|at| now < at - (RENEW_DAYS * 24).hours());
    fresh && wanted.is_subset(held) && text(secret, "tls.crt").is_some() && text(secret, "tls.key").is_some()
}

/// The CA.
struct Authority {
    pem: String,
    key_pem: String,
}

impl Authority {
    fn make(now: Timestamp) -> Result<Self, CertificateError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Two hubs' CAs must not be taken for each other by their names.
        params.distinguished_name.push(DnType::CommonName, format!("isthmus-hub {}", uuid::Uuid::new_v4()));
        validity(&mut params, now, CA_DAYS);
        let certificate = params.self_signed(&key)?;
        Ok(Self { pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    fn data(&self) -> Data {
        Data::from([
            ("ca.crt".to_owned(), ByteString(self.pem.clone().into_bytes())),
            ("ca.key".to_owned(), ByteString(self.key_pem.clone().into_bytes())),
        ])
    }

    fn read(secret: &Secret) -> Result<Self, CertificateError> {
        let get = |key: &str| {
            text(secret, key).ok_or_else(|| CertificateError::Damaged(format!("it has no key {key}")))
        };
        Ok(Self { pem: get("ca.crt")?, key_pem: get("ca.key")? })
    }

    /// Puts a new certificate for `names` into the Secret.
    fn issue(
        &self,
        secret: &mut Secret,
        names: &BTreeSet<String>,
        now: Timestamp,
    ) -> Result<(), CertificateError> {
        let damaged = |error: rcgen::Error| CertificateError::Damaged(error.to_string());
        let ca_key = KeyPair::from_pem(&self.key_pem).map_err(damaged)?;
        let issuer = Issuer::from_ca_cert_pem(&self.pem, ca_key).map_err(damaged)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.iter().map(|name| alt_name(name)).collect::<Result<_, _>>()?;
        params.distinguished_name.push(DnType::CommonName, "isthmus-hub");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let expires = validity(&mut params, now, LEAF_DAYS);
        let certificate = params.signed_by(&key, &issuer)?;
        let data = secret.data.get_or_insert_default();
        let chain = format!("{}{}", certificate.pem(), self.pem);
        data.insert("tls.crt".to_owned(), ByteString(chain.into_bytes()));
        data.insert("tls.key".to_owned(), ByteString(key.serialize_pem().into_bytes()));
        let list: Vec<&str> = names.iter().map(String::as_str).collect();
        secret.annotations_mut().insert(NAMES.to_owned(), list.join(","));
        secret.annotations_mut().insert(EXPIRES.to_owned(), expires.to_string());
        Ok(())
    }

    fn identity(&self, secret: &Secret) -> Result<Identity, CertificateError> {
        let damaged = |detail: String| CertificateError::Damaged(detail);
        let ca = CertificateDer::from_pem_slice(self.pem.as_bytes())
            .map_err(|error| damaged(error.to_string()))?;
        let chain_text =
            text(secret, "tls.crt").ok_or_else(|| damaged("it has no key tls.crt".to_owned()))?;
        let key_text = text(secret, "tls.key").ok_or_else(|| damaged("it has no key tls.key".to_owned()))?;
        let chain = CertificateDer::pem_slice_iter(chain_text.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| damaged(error.to_string()))?;
        let key =
            PrivateKeyDer::from_pem_slice(key_text.as_bytes()).map_err(|error| damaged(error.to_string()))?;
        let certified = certified(chain, key).map_err(damaged)?;
        Ok(Identity { ca_hash: ca_hash(&ca), ca_pem: self.pem.clone(), certified })
    }
}

fn alt_name(name: &str) -> Result<SanType, rcgen::Error> {
    Ok(match name.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(name.try_into()?),
    })
}

/// Valid from yesterday, for clocks that go slow, for so many days from now; the end is given.
fn validity(params: &mut CertificateParams, now: Timestamp, days: i64) -> Timestamp {
    let midnight = |at: Timestamp| {
        let date = at.to_zoned(TimeZone::UTC).date();
        let month = date.month().unsigned_abs();
        let day = date.day().unsigned_abs();
        rcgen::date_time_ymd(i32::from(date.year()), month, day)
    };
    let end = now + (days * 24).hours();
    params.not_before = midnight(now - 24.hours());
    params.not_after = midnight(end);
    // The day's beginning is what the certificate says; to be safe it is taken a day earlier.
    end - 24.hours()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn issued(names: &BTreeSet<String>) -> (Authority, Secret) {
        let authority = Authority::make(now()).unwrap();
        let mut secret = Secret { data: Some(authority.data()), ..Secret::default() };
        authority.issue(&mut secret, names, now()).unwrap();
        (authority, secret)
    }

    #[test]
    fn a_certificate_is_renewed_a_month_before_its_end_and_for_a_new_name() {
        let wanted = names("isthmus", "hub.example", "10.0.0.1".parse().unwrap());
        let (_, secret) = issued(&wanted);
        let held = held_names(&secret);
        assert!(is_good(&secret, &held, &wanted, now()));
        assert!(is_good(&secret, &held, &wanted, now() + (58 * 24).hours()));
        assert!(!is_good(&secret, &held, &wanted, now() + (60 * 24).hours()));
        let other = names("isthmus", "other.example", "10.0.0.1".parse().unwrap());
        assert!(!is_good(&secret, &held, &other, now()));
    }

    #[test]
    fn a_renewed_certificate_has_the_same_ca() {
        let wanted = names("isthmus", "::1", "0.0.0.0".parse().unwrap());
        let (authority, mut secret) = issued(&wanted);
        let first = authority.identity(&secret).unwrap();
        authority.issue(&mut secret, &wanted, now() + (70 * 24).hours()).unwrap();
        let second = Authority::read(&secret).unwrap().identity(&secret).unwrap();
        assert_eq!(first.ca_hash, second.ca_hash);
        assert_ne!(first.certified.cert[0], second.certified.cert[0]);
        assert_eq!(first.certified.cert.len(), 2);
    }

    #[test]
    fn a_secret_without_its_ca_key_says_what_to_do() {
        let (_, mut secret) = issued(&BTreeSet::new());
        secret.data.as_mut().unwrap().remove("ca.key");
        let error = Authority::read(&secret).err().unwrap().to_string();
        assert!(error.contains("ca.key") && error.contains("restore it from a backup"), "{error}");
    }

    #[test]
    fn the_last_certificate_of_a_given_chain_counts_as_the_ca() {
        let (authority, secret) = issued(&names("isthmus", "hub", "0.0.0.0".parse().unwrap()));
        let folder = tempfile::tempdir().unwrap();
        let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        std::fs::write(&chain, text(&secret, "tls.crt").unwrap()).unwrap();
        std::fs::write(&key, text(&secret, "tls.key").unwrap()).unwrap();
        let given = from_files(&chain, &key).unwrap();
        assert_eq!(given.ca_hash, authority.identity(&secret).unwrap().ca_hash);
        assert_eq!(given.ca_pem.trim(), authority.pem.replace("\r\n", "\n").trim());
        assert!(from_files(&key, &key).is_err());
    }
}
