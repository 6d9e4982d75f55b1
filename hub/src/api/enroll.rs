//! Enrolment: a join token binds a spoke's key to a cluster's record.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use isthmus_shared::protocol::identity::{JoinClaims, Refusal, check_join_token};
use isthmus_shared::protocol::{EnrollReply, EnrollRequest};
use isthmus_shared::resources::Cluster;
use jiff::Timestamp;
use kube::ResourceExt as _;

use super::problem::{Body, bearer};
use super::{Front, Office, Problem, unix_now};
use crate::auth::join::{self, EnrollError};

/// `POST /v1/enroll`
pub(super) async fn enroll(
    State(front): State<Arc<Front>>,
    headers: HeaderMap,
    Body(request): Body<EnrollRequest>,
) -> Result<Json<EnrollReply>, Problem> {
    let office = front.leading()?;
    let claims = check_join_token(bearer(&headers)?, &office.signing.public_base64(), unix_now())?;
    join::check_request(&request)?;
    elsewhere(&office, &claims, &request)?;
    let mut refused = None;
    let namespace = office.records.namespace.clone();
    // What the record says of the token is read anew: a moment ago it may have been another.
    let change = |cluster: &Cluster| match join::enroll(cluster, &claims, &request) {
        Ok(status) => {
            refused = None;
            status.map(|status| {
                let mut changed = cluster.clone();
                changed.status = Some(status);
                changed
            })
        }
        Err(error) => {
            refused = Some(error);
            None
        }
    };
    let enrolled =
        office.writer.status_of_now(&office.records.clusters, &namespace, &claims.sub, change).await?;
    if let Some(refused) = refused {
        return Err(refused.into());
    }
    let Some(cluster) = enrolled else { return Err(Refusal::UnknownCluster { cluster: claims.sub }.into()) };
    if let Some(uid) = cluster.uid() {
        office.presence.enrolled(&uid, Timestamp::now());
    }
    tracing::info!(cluster = cluster.name_any(), version = request.spoke_version, "a spoke has enrolled");
    Ok(Json(EnrollReply { cluster: cluster.name_any() }))
}

/// One cluster is one record: moving from a cluster to itself would apply over the source.
fn elsewhere(office: &Office, claims: &JoinClaims, request: &EnrollRequest) -> Result<(), EnrollError> {
    let other = office.records.clusters.all().into_iter().find(|cluster| {
        cluster.name_any() != claims.sub
            && cluster.status.as_ref().is_some_and(|s| s.uid.as_deref() == Some(request.cluster_uid.as_str()))
    });
    other.map_or(Ok(()), |other| {
        Err(EnrollError::JoinedAs { other: other.name_any(), cluster: claims.sub.clone() })
    })
}
