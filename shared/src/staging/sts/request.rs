//! The call: a form, signed by Signature Version 4 for the service `sts`.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use http::header::CONTENT_TYPE;
use reqwest::{Certificate, Client, StatusCode, Url};

use super::{
    StsError,
    answer::{self, Answer, SessionCredentials},
};
use crate::staging::{StoreAccess, StsAccess};

/// The version of the protocol.
const VERSION: &str = "2011-06-15";
const FORM: &str = "application/x-www-form-urlencoded";
/// The largest answer that is read, in bytes; a real one has two thousand.
const MAX_ANSWER: usize = 64 * 1024;

/// One call, which may be sent again.
pub(super) struct Call<'a> {
    access: &'a StoreAccess,
    sts: &'a StsAccess,
    client: Client,
    url: Url,
    body: String,
}

impl<'a> Call<'a> {
    pub fn new(
        access: &'a StoreAccess,
        sts: &'a StsAccess,
        session_name: &str,
        policy: &str,
    ) -> Result<Self, StsError> {
        let endpoint = sts.endpoint.as_deref().unwrap_or(&access.endpoint);
        let invalid = |detail: String| StsError::Invalid {
            store: access.describe(),
            endpoint: endpoint.to_owned(),
            detail,
        };
        let url = Url::parse(endpoint).map_err(|error| invalid(format!("it is no URL ({error})")))?;
        // As for the store itself: its CA bundle is trusted alone where it has one.
        let mut builder = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        if let Some(pem) = &access.ca_pem {
            let bundle = Certificate::from_pem_bundle(pem.as_bytes())
                .map_err(|error| invalid(format!("the CA bundle is not PEM: {}", chain(&error))))?;
            builder = builder.tls_certs_only(bundle);
        }
        let client = builder
            .build()
            .map_err(|error| invalid(format!("its TLS settings cannot be used: {}", chain(&error))))?;
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", "AssumeRole")
            .append_pair("Version", VERSION)
            .append_pair("RoleArn", &sts.role_arn)
            .append_pair("RoleSessionName", session_name)
            .append_pair("DurationSeconds", &sts.duration_seconds.to_string())
            .append_pair("Policy", policy)
            .finish();
        Ok(Self { access, sts, client, url, body })
    }

    pub async fn send(&self) -> Result<SessionCredentials, StsError> {
        let request = self.signed()?;
        let unavailable = |error: &reqwest::Error| self.unavailable(chain(error));
        let mut response = self.client.execute(request).await.map_err(|error| unavailable(&error))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| unavailable(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(self.unsound(format!("it is longer than {MAX_ANSWER} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        self.judge(status, &body)
    }

    fn judge(&self, status: StatusCode, body: &[u8]) -> Result<SessionCredentials, StsError> {
        match answer::parse(body) {
            Ok(Answer::Credentials(credentials)) if status.is_success() => Ok(credentials),
            Ok(Answer::Error { code, message }) => {
                let detail = format!("{code}: {message}");
                let passing = status.is_server_error()
                    || status == StatusCode::TOO_MANY_REQUESTS
                    || matches!(
                        code.as_str(),
                        "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "SlowDown"
                    );
                Err(if passing { self.unavailable(detail) } else { self.refused(detail) })
            }
            // A proxy's page, most likely.
            _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(self.unavailable(format!("it answered with HTTP status {status}")))
            }
            _ if !status.is_success() => Err(self.refused(format!("HTTP status {status}"))),
            Ok(Answer::Credentials(_)) => Err(self.unsound(format!("HTTP status {status}"))),
            Err(detail) => Err(self.unsound(detail)),
        }
    }

    fn signed(&self) -> Result<reqwest::Request, StsError> {
        let unsigned = |detail: String| StsError::Invalid {
            store: self.access.describe(),
            endpoint: self.url.to_string(),
            detail: format!("the request cannot be signed: {detail}"),
        };
        let access = self.access;
        let identity = Credentials::new(
            &access.access_key_id,
            &access.secret_access_key,
            access.session_token.clone(),
            None,
            "isthmus",
        )
        .into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&access.region)
            .name("sts")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unsigned(error.to_string()))?
            .into();
        let headers = [(CONTENT_TYPE.as_str(), FORM)].into_iter();
        let body = SignableBody::Bytes(self.body.as_bytes());
        let signable = SignableRequest::new("POST", self.url.as_str(), headers, body)
            .map_err(|error| unsigned(error.to_string()))?;
        let (instructions, _) =
            sign(signable, &parameters).map_err(|error| unsigned(error.to_string()))?.into_parts();
        let mut request = http::Request::post(self.url.as_str())
            .header(CONTENT_TYPE, FORM)
            .body(self.body.clone())
            .map_err(|error| unsigned(error.to_string()))?;
        instructions.apply_to_request_http1x(&mut request);
        request.try_into().map_err(|error| unsigned(chain(&error)))
    }

    fn endpoint(&self) -> String {
        self.url.as_str().trim_end_matches('/').to_owned()
    }

    pub fn unavailable(&self, detail: String) -> StsError {
        let (store, role) = (self.access.describe(), self.sts.role_arn.clone());
        StsError::Unavailable { store, role, endpoint: self.endpoint(), detail }
    }

    fn refused(&self, detail: String) -> StsError {
        let (store, role) = (self.access.describe(), self.sts.role_arn.clone());
        StsError::Refused { store, role, endpoint: self.endpoint(), detail }
    }

    fn unsound(&self, detail: String) -> StsError {
        let (store, role) = (self.access.describe(), self.sts.role_arn.clone());
        StsError::Unsound { store, role, endpoint: self.endpoint(), detail }
    }
}

/// The whole chain of causes in one line; without the URL, which the message names.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &[u8] = b"<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>a</AccessKeyId>\
        <SecretAccessKey>b</SecretAccessKey><SessionToken>c</SessionToken>\
        <Expiration>2026-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";
    const DENIED: &[u8] =
        b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>";
    const THROTTLED: &[u8] =
        b"<ErrorResponse><Error><Code>Throttling</Code><Message>slow</Message></Error></ErrorResponse>";

    fn judged(status: u16, body: &[u8]) -> Result<SessionCredentials, StsError> {
        let sts = StsAccess {
            endpoint: Some("https://sts.example".to_owned()),
            role_arn: "arn:aws:iam::1:role/r".to_owned(),
            duration_seconds: 900,
        };
        let access = StoreAccess {
            endpoint: "http://s3.example".to_owned(),
            region: "eu".to_owned(),
            bucket: "b".to_owned(),
            prefix: None,
            path_style: true,
            ca_pem: None,
            access_key_id: "id".to_owned(),
            secret_access_key: "very secret".to_owned(),
            session_token: None,
            sts: None,
        };
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let call = Call::new(&access, &sts, "isthmus-v", "{}").unwrap();
        call.judge(StatusCode::from_u16(status).unwrap(), body)
    }

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        assert!(judged(200, SOUND).is_ok());
        for (status, body) in [(500, DENIED), (400, THROTTLED), (429, b"" as &[u8]), (503, b"<html>")] {
            assert!(judged(status, body).err().unwrap().is_retryable(), "{status}");
        }
        for (status, body) in [(403, DENIED), (404, b"<html>" as &[u8]), (200, b"<html>"), (301, SOUND)] {
            assert!(!judged(status, body).err().unwrap().is_retryable(), "{status}");
        }
    }

    #[test]
    fn a_refusal_names_the_store_the_role_and_what_to_do_but_no_secret() {
        let text = judged(403, DENIED).err().unwrap().to_string();
        for part in ["bucket b", "arn:aws:iam::1:role/r", "https://sts.example", "AccessDenied", "check"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("very secret"), "{text}");
    }
}
