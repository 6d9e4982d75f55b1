//! The endpoint's certificates. The CA is kept, so that a mover that was started before the spoke
//! was restarted still knows it; the leaf is made at each start.

use std::net::IpAddr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// They could not be made.
    #[error(
        "making the certificate of the endpoint for movers failed: {0}; check the host in --mover-endpoint"
    )]
    Make(#[from] rcgen::Error),
    /// TLS does not take them.
    #[error(
        "the certificate of the endpoint for movers cannot be used: {0}; delete mover-ca.crt and mover-ca.key from the Secret isthmus-spoke-identity and start again"
    )]
    Use(#[from] rustls::Error),
}

/// The CA and what is served.
pub struct Certificates {
    /// The CA certificate, PEM.
    pub ca: String,
    /// The CA's key, PEM.
    pub ca_key: String,
}

impl Certificates {
    /// The kept CA, or a new one.
    pub fn load_or_make(kept: Option<(String, String)>) -> Result<Self, CertificateError> {
        if let Some((ca, ca_key)) = kept {
            return Ok(Self { ca, ca_key });
        }
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "isthmus-spoke movers CA");
        let certificate = params.self_signed(&key)?;
        Ok(Self { ca: certificate.pem(), ca_key: key.serialize_pem() })
    }

    /// What is served to movers that call one of these names.
    pub fn server_config(&self, names: &[String]) -> Result<ServerConfig, CertificateError> {
        let issuer = Issuer::from_ca_cert_pem(&self.ca, KeyPair::from_pem(&self.ca_key)?)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.distinguished_name.push(DnType::CommonName, "isthmus-spoke");
        let leaf = params.signed_by(&key, &issuer)?;
        let ca = rustls_pki_types::pem::PemObject::from_pem_slice(self.ca.as_bytes());
        let ca: CertificateDer<'static> = ca.map_err(|e: rustls_pki_types::pem::Error| {
            CertificateError::Use(rustls::Error::General(e.to_string()))
        })?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone(), ca], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// The names that the endpoint goes by: the host of its URL, its Service, and this machine.
pub fn names(endpoint: &str, namespace: &str) -> Vec<String> {
    let mut names = vec![
        format!("isthmus-spoke.{namespace}.svc"),
        format!("isthmus-spoke.{namespace}.svc.cluster.local"),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
    ];
    if let Some(host) = reqwest::Url::parse(endpoint).ok().and_then(|url| url.host_str().map(str::to_owned)) {
        let host = host.trim_matches(['[', ']']).to_owned();
        let known =
            names.contains(&host) || host.parse::<IpAddr>().is_ok_and(|ip| names.contains(&ip.to_string()));
        if !known {
            names.insert(0, host);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_ca_signs_the_next_starts_leaf() {
        let first = Certificates::load_or_make(None).unwrap();
        let again = Certificates::load_or_make(Some((first.ca.clone(), first.ca_key.clone()))).unwrap();
        assert_eq!(first.ca, again.ca);
        again.server_config(&names("https://10.0.0.7:8444", "isthmus-spoke")).unwrap();
    }

    #[test]
    fn the_endpoints_host_is_among_the_names_once() {
        assert_eq!(names("https://10.0.0.7:8444", "ns")[0], "10.0.0.7");
        let local = names("https://127.0.0.1:8444", "ns");
        assert_eq!(local.iter().filter(|name| *name == "127.0.0.1").count(), 1);
    }
}
