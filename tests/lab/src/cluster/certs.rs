//! Certificates and keys of the lab's servers, made anew at each start.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// Generating or signing.
    #[error("making a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// Reading back what was made.
    #[error("reading a certificate that was just made: {0}")]
    Read(#[from] rustls::pki_types::pem::Error),
    /// Giving it to the TLS library.
    #[error("setting up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// A CA of one server.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A server's or a client's certificate and key, as PEM.
pub(crate) struct ServerCertificate {
    pub cert_pem: String,
    pub key_pem: String,
}

fn named(common_name: &str, sans: &[&str]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(sans.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok(params)
}

impl Authority {
    pub fn new(common_name: &str) -> Result<Self, CertError> {
        let mut params = named(common_name, &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Signs a client's certificate.
    pub fn client(&self, common_name: &str) -> Result<ServerCertificate, CertError> {
        self.signed(common_name, &[], ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// Signs a server's certificate for these DNS names and IP addresses.
    pub fn server(&self, common_name: &str, sans: &[&str]) -> Result<ServerCertificate, CertError> {
        self.signed(common_name, sans, ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn signed(
        &self,
        common_name: &str,
        sans: &[&str],
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<ServerCertificate, CertError> {
        let mut params = named(common_name, sans)?;
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?;
        Ok(ServerCertificate { cert_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

impl ServerCertificate {
    /// A server's TLS settings, for HTTP/1.1 and clients with a certificate of this authority.
    pub fn rustls_for(&self, authority: &Authority) -> Result<rustls::ServerConfig, CertError> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes())?)?;
        let clients = rustls::server::WebPkiClientVerifier::builder(std::sync::Arc::new(roots))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let certificate = CertificateDer::from_pem_slice(self.cert_pem.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())?;
        let mut config = rustls::ServerConfig::builder()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// A server's TLS settings, for HTTP/1.1 and HTTP/2.
    pub fn rustls(&self) -> Result<rustls::ServerConfig, CertError> {
        let certificate = CertificateDer::from_pem_slice(self.cert_pem.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())?;
        let mut config =
            rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// A key pair for service account tokens: (private, public), as PEM.
pub(crate) fn signing_key() -> Result<(String, String), CertError> {
    let key = KeyPair::generate()?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}
