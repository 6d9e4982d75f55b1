//! Where the bucket is and what opens it, as it is handed from the hub to a spoke and from a
//! spoke to a mover: over TLS, in memory.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Everything needed to open an S3 bucket. Its `Debug` hides the secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreAccess {
    /// `http://` or `https://`, host and port.
    pub endpoint: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket's name.
    pub bucket: String,
    /// All keys lie below this prefix, without slashes at its ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// `https://host/bucket/key` instead of `https://bucket.host/key`.
    #[serde(default)]
    pub path_style: bool,
    /// PEM certificates to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// The access key's id.
    pub access_key_id: String,
    /// The access key's secret.
    pub secret_access_key: String,
    /// Of temporary credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<String>,
    /// How to get credentials for one volume, where the store has STS. Movers never see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sts: Option<StsAccess>,
}

/// The role to assume for one volume, see [`super::sts`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StsAccess {
    /// The service's URL; that of the store if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The role.
    pub role_arn: String,
    /// For how long a session is to be good, in seconds.
    pub duration_seconds: u32,
}

impl StoreAccess {
    /// How messages name the store: the bucket, its prefix and the endpoint.
    pub fn describe(&self) -> String {
        match self.key_prefix().as_str() {
            "" => format!("bucket {} at {}", self.bucket, self.endpoint),
            prefix => format!(
                "bucket {} (prefix {}) at {}",
                self.bucket,
                prefix.trim_end_matches('/'),
                self.endpoint
            ),
        }
    }

    /// What stands before every key: empty, or the prefix with one slash at its end.
    pub(crate) fn key_prefix(&self) -> String {
        match self.prefix.as_deref().map(|prefix| prefix.trim_matches('/')) {
            None | Some("") => String::new(),
            Some(prefix) => format!("{prefix}/"),
        }
    }
}

impl fmt::Debug for StoreAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreAccess")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("path_style", &self.path_style)
            .field("ca_pem", &self.ca_pem.is_some())
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &"hidden")
            .field("session_token", &self.session_token.as_ref().map(|_| "hidden"))
            .field("sts", &self.sts)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(prefix: Option<&str>) -> StoreAccess {
        StoreAccess {
            endpoint: "http://s3.example".to_owned(),
            region: "eu".to_owned(),
            bucket: "b".to_owned(),
            prefix: prefix.map(str::to_owned),
            path_style: true,
            ca_pem: None,
            access_key_id: "id".to_owned(),
            secret_access_key: "very secret".to_owned(),
            session_token: Some("also secret".to_owned()),
            sts: None,
        }
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let text = format!("{:?}", access(None));
        assert!(!text.contains("very secret") && !text.contains("also secret"), "{text}");
    }

    #[test]
    fn a_prefix_ends_in_exactly_one_slash() {
        assert_eq!(access(Some("/a/b/")).key_prefix(), "a/b/");
        assert_eq!(access(Some("/")).key_prefix(), "");
        assert_eq!(access(None).key_prefix(), "");
    }

    #[test]
    fn json_uses_camel_case_names() {
        let json = serde_json::to_value(access(None)).unwrap();
        assert_eq!(json["accessKeyId"], "id");
        assert_eq!(json["pathStyle"], true);
        assert!(json.get("sts").is_none());
        let role_arn = "arn:aws:iam::1:role/r".to_owned();
        let sts = StsAccess { endpoint: None, role_arn, duration_seconds: 900 };
        let json = serde_json::to_value(StoreAccess { sts: Some(sts), ..access(None) }).unwrap();
        assert_eq!(json["sts"]["roleArn"], "arn:aws:iam::1:role/r");
        assert_eq!(json["sts"]["durationSeconds"], 900);
    }
}
