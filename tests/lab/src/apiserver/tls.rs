//! The server's certificate authority and its certificate.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A certificate authority with what the server needs to listen.
#[derive(Debug)]
pub struct Identity {
    /// The authority's certificate, in PEM.
    pub ca_pem: String,
    /// The listener's configuration.
    pub server: Arc<ServerConfig>,
}

/// Makes an authority and a certificate for the loopback names and the address.
pub fn identity(name: &str, listen: SocketAddr) -> Result<Identity, String> {
    let told = |what: &str, e: &dyn std::fmt::Display| format!("{what}: {e}");
    let ca_key = KeyPair::generate().map_err(|e| told("making the key of the authority", &e))?;
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, format!("{name}-ca"));
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let ca_certificate =
        ca.self_signed(&ca_key).map_err(|e| told("signing the authority's certificate", &e))?;
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate().map_err(|e| told("making the server's key", &e))?;
    let names =
        ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned);
    let mut leaf =
        CertificateParams::new(names.to_vec()).map_err(|e| told("naming the server's certificate", &e))?;
    leaf.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
    leaf.subject_alt_names.push(SanType::IpAddress(std::net::Ipv6Addr::LOCALHOST.into()));
    if !listen.ip().is_loopback() && !listen.ip().is_unspecified() {
        leaf.subject_alt_names.push(SanType::IpAddress(listen.ip()));
    }
    let certificate =
        leaf.signed_by(&key, &issuer).map_err(|e| told("signing the server's certificate", &e))?;

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| told("choosing TLS versions", &e))?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone(), ca_certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .map_err(|e| told("using the server's certificate", &e))?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Identity { ca_pem: ca_certificate.pem(), server: Arc::new(server) })
}
