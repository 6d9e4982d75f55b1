//! What STS answers. Nothing is taken for credentials that has not all of their parts.

use jiff::Timestamp;
use serde::Deserialize;

/// The credentials of a session.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SessionCredentials {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: String,
    pub expiration: Timestamp,
}

/// An answer that was understood.
pub(super) enum Answer {
    Credentials(SessionCredentials),
    Error { code: String, message: String },
}

/// The root elements that there may be. The last is how S3 itself words an error, which servers
/// that are both may use.
#[derive(Deserialize)]
enum Root {
    AssumeRoleResponse(Response),
    ErrorResponse(Failure),
    Error(Problem),
}

#[derive(Deserialize)]
struct Response {
    #[serde(rename = "AssumeRoleResult")]
    result: Outcome,
}

#[derive(Deserialize)]
struct Outcome {
    #[serde(rename = "Credentials")]
    credentials: SessionCredentials,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(rename = "Error")]
    error: Problem,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(rename = "Code")]
    code: String,
    #[serde(rename = "Message", default)]
    message: String,
}

/// Reads an answer, or says what is wrong with it.
pub(super) fn parse(body: &[u8]) -> Result<Answer, String> {
    let text = std::str::from_utf8(body).map_err(|_| "it is not UTF-8".to_owned())?;
    // A parser's message could repeat a part of the text, and with it a secret.
    let root = quick_xml::de::from_str::<Root>(text)
        .map_err(|_| "it is not the XML of an AssumeRoleResponse with all of its credentials".to_owned())?;
    match root {
        Root::AssumeRoleResponse(Response { result: Outcome { credentials } }) => {
            let SessionCredentials { access_key_id, secret_access_key, session_token, .. } = &credentials;
            if [access_key_id, secret_access_key, session_token].into_iter().any(String::is_empty) {
                return Err("a part of the credentials is empty".to_owned());
            }
            Ok(Answer::Credentials(credentials))
        }
        Root::ErrorResponse(Failure { error }) | Root::Error(error) => {
            Ok(Answer::Error { code: error.code, message: error.message })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As AWS writes it.
    const SOUND: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleResult>
    <AssumedRoleUser>
      <AssumedRoleId>AROA:isthmus-v</AssumedRoleId>
      <Arn>arn:aws:sts::1:assumed-role/r/isthmus-v</Arn>
    </AssumedRoleUser>
    <Credentials>
      <AccessKeyId>ASIA1</AccessKeyId>
      <SecretAccessKey>a/b+c&amp;d</SecretAccessKey>
      <SessionToken>token==</SessionToken>
      <Expiration>2026-11-22T18:00:00Z</Expiration>
    </Credentials>
    <PackedPolicySize>6</PackedPolicySize>
  </AssumeRoleResult>
  <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>
</AssumeRoleResponse>"#;

    #[test]
    fn credentials_are_read_with_their_end() {
        let Ok(Answer::Credentials(read)) = parse(SOUND.as_bytes()) else { panic!("it was not read") };
        assert_eq!(read.access_key_id, "ASIA1");
        assert_eq!(read.secret_access_key, "a/b+c&d");
        assert_eq!(read.session_token, "token==");
        assert_eq!(read.expiration.to_string(), "2026-11-22T18:00:00Z");
    }

    #[test]
    fn an_answer_without_one_of_the_parts_is_refused_and_not_repeated() {
        for part in ["AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"] {
            let broken = SOUND.replace(part, "Other");
            let Err(said) = parse(broken.as_bytes()) else { panic!("{part} was not missed") };
            assert!(!said.contains("token"), "{said}");
        }
        for broken in [
            String::new(),
            "{}".to_owned(),
            SOUND.replace("AssumeRoleResponse", "GetSessionTokenResponse"),
            SOUND.replace("token==", ""),
            SOUND.replace("2026-11-22T18:00:00Z", "soon"),
            SOUND[..SOUND.len() / 2].to_owned(),
        ] {
            assert!(parse(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn errors_are_read_in_both_wordings() {
        for text in [
            "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>",
            "<Error><Code>AccessDenied</Code><Message>no</Message></Error>",
        ] {
            let Ok(Answer::Error { code, message }) = parse(text.as_bytes()) else { panic!("{text}") };
            assert_eq!((code.as_str(), message.as_str()), ("AccessDenied", "no"));
        }
    }
}
