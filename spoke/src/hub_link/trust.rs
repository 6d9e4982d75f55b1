//! Which server certificate is the hub's.
//!
//! Before it is enrolled a spoke knows the hash of the hub's CA certificate, from its join token:
//! the certificate of that hash in the chain that the server sends becomes the only root that
//! its leaf is checked against, host name and times included. Afterwards the CA is stored and the
//! check is the usual one, with that root alone.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use isthmus_shared::protocol::identity::ca_hash;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// What a hub's certificate is checked against.
#[derive(Clone, Debug)]
pub enum Anchor {
    /// The hash of the CA certificate, from a join token.
    Hash(String),
    /// The CA certificate itself, PEM.
    Certificate(String),
}

/// Why an anchor cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The stored CA is no certificate.
    #[error(
        "the stored CA certificate of the hub cannot be read ({0}): delete the Secret isthmus-spoke-identity and join again"
    )]
    BadCertificate(String),
    /// The TLS library does not take the configuration.
    #[error("TLS could not be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// Checks the hub's certificate, and remembers what it saw.
#[derive(Clone)]
pub struct HubVerifier(Arc<Inner>);

struct Inner {
    anchor: Root,
    provider: Arc<CryptoProvider>,
    seen: Mutex<Seen>,
}

enum Root {
    Hash(String),
    Certificate(Arc<WebPkiServerVerifier>),
}

/// What the verifier saw last.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// The CA certificate that a hash was found for.
    certificate: Option<CertificateDer<'static>>,
    /// Why the last server was refused.
    refusal: Option<String>,
}

impl fmt::Debug for HubVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubVerifier").finish_non_exhaustive()
    }
}

impl HubVerifier {
    /// A verifier with this anchor.
    pub fn new(anchor: &Anchor) -> Result<Self, TrustError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let anchor = match anchor {
            Anchor::Hash(hash) => Root::Hash(hash.clone()),
            Anchor::Certificate(pem) => {
                let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
                    .map_err(|e| TrustError::BadCertificate(e.to_string()))?;
                let verifier = with_root(&certificate, &provider)
                    .map_err(|e| TrustError::BadCertificate(e.to_string()))?;
                Root::Certificate(verifier)
            }
        };
        Ok(Self(Arc::new(Inner { anchor, provider, seen: Mutex::default() })))
    }

    /// The client configuration that uses it: HTTP/2 if the hub has it.
    pub fn client_config(&self) -> Result<ClientConfig, TrustError> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.0.provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(self.clone()))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// The CA certificate of the pinned hash, once a server has shown it.
    pub fn found_ca(&self) -> Option<CertificateDer<'static>> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).certificate.clone()
    }

    /// Why the last server was refused, once.
    pub fn take_refusal(&self) -> Option<String> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).refusal.take()
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.0.anchor {
            Root::Certificate(verifier) => verifier.verify_server_cert(leaf, chain, name, &[], now),
            Root::Hash(hash) => {
                let root = chain.iter().chain([leaf]).find(|certificate| ca_hash(certificate) == *hash);
                let root = root.ok_or(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
                let verified = with_root(root, &self.0.provider)
                    .map_err(|e| rustls::Error::General(e.to_string()))?
                    .verify_server_cert(leaf, chain, name, &[], now)?;
                self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).certificate =
                    Some(root.clone().into_owned());
                Ok(verified)
            }
        }
    }
}

fn with_root(
    root: &CertificateDer<'_>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, Box<dyn std::error::Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone().into_owned())?;
    Ok(WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build()?)
}

impl ServerCertVerifier for HubVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let result = self.check(leaf, chain, name, now);
        let refusal = result.as_ref().err().map(|error| match error {
            // Two hubs' CAs have the same name, so the wrong one shows by its signature.
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                "it does not show the CA that this spoke was told to trust: check --hub, and that the join token is of \
                 that very hub; after the hub's CA was changed, join again with a new token"
                    .to_owned()
            }
            error => format!("{error}: check the host name in --hub against the hub's certificate, and the clocks"),
        });
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).refusal = refusal;
        result
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    use super::*;

    struct Hub {
        ca: CertificateDer<'static>,
        ca_pem: String,
        leaf: CertificateDer<'static>,
    }

    fn hub(host: &str) -> Hub {
        let ca_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(params, ca_key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        Hub { ca: ca.der().clone(), ca_pem: ca.pem(), leaf: leaf.der().clone() }
    }

    fn check(verifier: &HubVerifier, hub: &Hub, host: &'static str) -> Result<(), String> {
        let name = ServerName::try_from(host).unwrap();
        let chain = [hub.ca.clone()];
        verifier
            .verify_server_cert(&hub.leaf, &chain, &name, &[], UnixTime::now())
            .map(|_| ())
            .map_err(|_| verifier.take_refusal().unwrap())
    }

    #[test]
    fn the_pinned_hash_finds_the_ca_and_checks_the_leaf_against_it() {
        let hub = hub("hub.example");
        let verifier = HubVerifier::new(&Anchor::Hash(ca_hash(&hub.ca))).unwrap();
        check(&verifier, &hub, "hub.example").unwrap();
        assert_eq!(verifier.found_ca().unwrap(), hub.ca);
        let wrong_name = check(&verifier, &hub, "other.example").unwrap_err();
        assert!(wrong_name.contains("host name"), "{wrong_name}");
    }

    #[test]
    fn a_hub_with_another_ca_is_refused_with_its_own_message() {
        let (hub, other) = (hub("hub.example"), hub("hub.example"));
        for anchor in [Anchor::Hash(ca_hash(&hub.ca)), Anchor::Certificate(hub.ca_pem.clone())] {
            let verifier = HubVerifier::new(&anchor).unwrap();
            let refusal = check(&verifier, &other, "hub.example").unwrap_err();
            assert!(refusal.contains("does not show the CA"), "{refusal}");
            check(&verifier, &hub, "hub.example").unwrap();
        }
    }

    #[test]
    fn a_leaf_that_another_ca_signed_is_refused_though_the_right_ca_is_shown_beside_it() {
        let (hub, mut forged) = (hub("hub.example"), hub("hub.example"));
        forged.ca = hub.ca.clone();
        let verifier = HubVerifier::new(&Anchor::Hash(ca_hash(&hub.ca))).unwrap();
        assert!(check(&verifier, &forged, "hub.example").is_err());
        assert!(verifier.found_ca().is_none());
    }
}
