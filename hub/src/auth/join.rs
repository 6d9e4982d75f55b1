//! Whether a join token binds a spoke's key to a cluster's record: pure.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use isthmus_shared::protocol::EnrollRequest;
use isthmus_shared::protocol::identity::{JoinClaims, Refusal};
use isthmus_shared::resources::{Cluster, ClusterStatus};

/// The length of an Ed25519 public key.
const KEY_BYTES: usize = 32;
/// The longest uid or version that a spoke may name.
const MAX_TEXT: usize = 128;

/// Why a spoke may not enrol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnrollError {
    /// The token is not good, or not any more.
    #[error(transparent)]
    Token(#[from] Refusal),
    /// The request itself is wrong.
    #[error("the enrolment is not valid: {0}; update the spoke to the hub's version")]
    Request(&'static str),
    /// The cluster is joined under another name.
    #[error(
        "this cluster has joined the hub as {other} already: remove that with `isthmus cluster remove {other}` first if it is to be called {cluster} from now on"
    )]
    JoinedAs {
        /// The record that has it.
        other: String,
        /// The record that it was to become.
        cluster: String,
    },
}

/// Looks whether a request is one at all.
pub fn check_request(request: &EnrollRequest) -> Result<(), EnrollError> {
    let key = BASE64_STANDARD.decode(&request.public_key).unwrap_or_default();
    if key.len() != KEY_BYTES {
        return Err(EnrollError::Request("publicKey is not the base64 of 32 bytes"));
    }
    if !(1..=MAX_TEXT).contains(&request.cluster_uid.len()) {
        return Err(EnrollError::Request("clusterUid is empty or too long"));
    }
    if request.spoke_version.len() > MAX_TEXT {
        return Err(EnrollError::Request("spokeVersion is too long"));
    }
    Ok(())
}

/// The status of a cluster after an enrolment; nothing if it is enrolled just so already, which
/// is what a spoke finds that did not get the first answer.
///
/// The caller writes it with the `resourceVersion` of `cluster`: of two spokes with the same
/// token one finds the token used.
pub fn enroll(
    cluster: &Cluster,
    claims: &JoinClaims,
    request: &EnrollRequest,
) -> Result<Option<ClusterStatus>, EnrollError> {
    let name = || claims.sub.clone();
    let mut status = cluster.status.clone().unwrap_or_default();
    let newest = status.join.as_mut().filter(|join| join.token_id == claims.jti);
    let Some(join) = newest else { return Err(Refusal::Superseded { cluster: name() }.into()) };
    if join.used {
        let same = status.public_key.as_deref() == Some(request.public_key.as_str())
            && status.uid.as_deref() == Some(request.cluster_uid.as_str());
        return if same { Ok(None) } else { Err(Refusal::Used { cluster: name() }.into()) };
    }
    join.used = true;
    status.public_key = Some(request.public_key.clone());
    status.uid = Some(request.cluster_uid.clone());
    status.spoke_version = Some(request.spoke_version.clone());
    Ok(Some(status))
}

#[cfg(test)]
mod tests {
    use isthmus_shared::resources::{ClusterSpec, JoinStatus};
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn claims(id: &str) -> JoinClaims {
        JoinClaims {
            iss: String::new(),
            aud: String::new(),
            sub: "east".into(),
            jti: id.into(),
            iat: 0,
            exp: 0,
            ca: String::new(),
        }
    }

    fn request(key: u8) -> EnrollRequest {
        EnrollRequest {
            public_key: BASE64_STANDARD.encode([key; 32]),
            cluster_uid: format!("uid-{key}"),
            spoke_version: "0.1.0".into(),
        }
    }

    fn cluster(id: &str) -> Cluster {
        let mut cluster = Cluster::new("east", ClusterSpec::default());
        let join =
            JoinStatus { request: None, token_id: id.into(), expires: Time(Timestamp::MAX), used: false };
        cluster.status = Some(ClusterStatus { join: Some(join), ..ClusterStatus::default() });
        cluster
    }

    #[test]
    fn a_token_binds_one_key_and_the_same_key_again_is_the_same_enrolment() {
        let mut east = cluster("1");
        let status = enroll(&east, &claims("1"), &request(7)).unwrap().unwrap();
        assert_eq!(status.public_key, Some(request(7).public_key));
        assert!(status.join.as_ref().unwrap().used);
        east.status = Some(status);
        assert_eq!(enroll(&east, &claims("1"), &request(7)), Ok(None));
        let refused = enroll(&east, &claims("1"), &request(8)).unwrap_err();
        assert_eq!(refused, EnrollError::Token(Refusal::Used { cluster: "east".into() }));
    }

    #[test]
    fn only_the_newest_token_of_a_cluster_is_good() {
        let refused = enroll(&cluster("2"), &claims("1"), &request(7)).unwrap_err();
        assert_eq!(refused, EnrollError::Token(Refusal::Superseded { cluster: "east".into() }));
    }

    #[test]
    fn a_new_token_replaces_the_key_when_it_is_used() {
        let mut east = cluster("1");
        east.status = enroll(&east, &claims("1"), &request(7)).unwrap();
        let join =
            JoinStatus { token_id: "2".into(), used: false, ..east.status.clone().unwrap().join.unwrap() };
        east.status.as_mut().unwrap().join = Some(join);
        let status = enroll(&east, &claims("2"), &request(8)).unwrap().unwrap();
        assert_eq!(status.public_key, Some(request(8).public_key));
    }

    #[test]
    fn a_key_of_the_wrong_length_is_no_request() {
        let short = EnrollRequest { public_key: "AAAA".into(), ..request(1) };
        assert!(matches!(check_request(&short), Err(EnrollError::Request(_))));
        assert!(check_request(&request(1)).is_ok());
    }
}
