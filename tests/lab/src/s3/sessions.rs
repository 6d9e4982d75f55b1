//! Session keys: AssumeRole as AWS, MinIO and Ceph RGW serve it, with what of session policies
//! Isthmus writes.
//!
//! Any key that is no session's may assume any role, and the role grants everything: what is
//! tested is the policy. A session without one may do nothing. A policy with anything in it that
//! is not understood here is refused, so that no test passes by an oversight.

mod policy;

use std::sync::atomic::{AtomicBool, Ordering};

use http::header::CONTENT_TYPE;
use http::{Extensions, HeaderMap, Method, Uri};
use http_body_util::{BodyExt as _, Limited};
use jiff::{SignedDuration, Timestamp};
use s3s::access::S3AccessContext;
use s3s::path::S3Path;
use s3s::route::S3Route;
use s3s::{Body, S3Request, S3Response, S3Result, s3_error};

use super::Keys;
use policy::Policy;

/// The lengths of a session that are allowed, in seconds.
const DURATIONS: std::ops::RangeInclusive<i64> = 900..=43_200;
/// The longest policy, in bytes (AWS counts characters).
const MAX_POLICY: usize = 2048;
/// The longest form, in bytes.
const MAX_FORM: usize = 16 * 1024;
const FORM: &str = "application/x-www-form-urlencoded";

/// A session that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assumed {
    /// The session's own access key.
    pub access_key: String,
    /// The key that asked for it.
    pub parent: String,
    /// The role that was asked for.
    pub role_arn: String,
    /// The session's name.
    pub name: String,
}

/// What a session's key may do, and until when.
#[derive(Debug)]
pub(super) struct Session {
    token: String,
    expires: Timestamp,
    ended: AtomicBool,
    policy: Policy,
}

impl Session {
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    /// Lets a request through that the policy allows.
    pub fn check(&self, cx: &S3AccessContext<'_>) -> S3Result<()> {
        let token = cx.headers().get("x-amz-security-token").and_then(|token| token.to_str().ok());
        if token != Some(self.token.as_str()) {
            return Err(s3_error!(InvalidToken, "The session token is not that of this key"));
        }
        if self.ended.load(Ordering::SeqCst) || Timestamp::now() >= self.expires {
            return Err(s3_error!(ExpiredToken, "The session is over"));
        }
        let action = action(cx.s3_op().name());
        let allowed = match cx.s3_path() {
            S3Path::Root => false,
            S3Path::Bucket { bucket } => {
                let query = cx.uri().query().unwrap_or_default();
                let mut pairs = form_urlencoded::parse(query.as_bytes());
                let prefix = pairs.find(|(name, _)| name == "prefix").map(|(_, value)| value.into_owned());
                self.policy.allows_listing(action, bucket, prefix.as_deref())
            }
            S3Path::Object { bucket, key } => self.policy.allows_object(action, bucket, key),
        };
        if allowed {
            Ok(())
        } else {
            Err(s3_error!(AccessDenied, "The session's policy does not allow {action} here"))
        }
    }
}

/// The action of a policy that an operation needs; those that Isthmus has no use for have none.
pub(super) fn action(operation: &str) -> &'static str {
    match operation {
        "GetObject" | "HeadObject" => "s3:GetObject",
        "PutObject" => "s3:PutObject",
        "DeleteObject" => "s3:DeleteObject",
        "ListObjects" | "ListObjectsV2" => "s3:ListBucket",
        _ => "another action",
    }
}

/// The call that begins a session, on the same endpoint as S3. Its signature is checked before.
pub(super) struct AssumeRole(pub Keys);

#[async_trait::async_trait]
impl S3Route for AssumeRole {
    fn is_match(&self, method: &Method, uri: &Uri, headers: &HeaderMap, _: &mut Extensions) -> bool {
        let form = headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes() == FORM.as_bytes());
        *method == Method::POST && uri.path() == "/" && form
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        if request.service.as_deref() != Some("sts") {
            return Err(s3_error!(AccessDenied, "The request is not signed for sts"));
        }
        let parent = request.credentials.map(|credentials| credentials.access_key).unwrap_or_default();
        if !self.0.may_assume(&parent) {
            return Err(s3_error!(AccessDenied, "A session's key cannot assume a role"));
        }
        let body = Limited::new(request.input, MAX_FORM).collect().await;
        let body =
            body.map_err(|error| s3_error!(InvalidRequest, "The form cannot be read: {error}"))?.to_bytes();
        let field = |wanted: &str| {
            form_urlencoded::parse(&body)
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.into_owned())
        };
        let needed =
            |wanted: &str| field(wanted).ok_or_else(|| s3_error!(InvalidRequest, "The form has no {wanted}"));
        if (needed("Action")?.as_str(), needed("Version")?.as_str()) != ("AssumeRole", "2011-06-15") {
            return Err(s3_error!(NotImplemented, "Only AssumeRole of 2011-06-15 is served"));
        }
        let (role_arn, name) = (needed("RoleArn")?, needed("RoleSessionName")?);
        if !(2..=64).contains(&name.len()) {
            return Err(s3_error!(InvalidRequest, "RoleSessionName must have 2 to 64 characters"));
        }
        let seconds = field("DurationSeconds").unwrap_or_else(|| "3600".to_owned()).parse::<i64>();
        let Some(seconds) = seconds.ok().filter(|seconds| DURATIONS.contains(seconds)) else {
            return Err(s3_error!(InvalidRequest, "DurationSeconds must be 900 to 43200"));
        };
        let policy = needed("Policy")?;
        if policy.len() > MAX_POLICY {
            return Err(s3_error!(InvalidRequest, "Policy must have at most {MAX_POLICY} characters"));
        }
        let policy = serde_json::from_str::<Policy>(&policy)
            .map_err(|error| s3_error!(MalformedPolicy, "The policy is not understood: {error}"))?;
        let expires = Timestamp::now() + SignedDuration::from_secs(seconds);
        let token = uuid::Uuid::new_v4().simple().to_string();
        let session = Session { token: token.clone(), expires, ended: AtomicBool::new(false), policy };
        let assumed = Assumed { access_key: String::new(), parent, role_arn, name };
        let pair = self.0.add_session(assumed, session);
        // None of these has characters that XML would want escaped.
        let answer = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
             <AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>\
             <SessionToken>{token}</SessionToken><Expiration>{expires}</Expiration>\
             </Credentials></AssumeRoleResult></AssumeRoleResponse>",
            pair.access_key, pair.secret_key
        );
        let mut response = S3Response::new(Body::from(answer));
        response.headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("text/xml"));
        Ok(response)
    }
}
