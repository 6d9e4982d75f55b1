//! The HTTPS server: spokes, people, and whoever looks whether the hub lives.
//!
//! ```text
//!   listener   connections: TLS, limits, draining
//!      │
//!   router ─┬─ enroll        a join token becomes a key in the record
//!           ├─ spoke         heartbeat, poll, reports          (signed by that key)
//!           ├─ migrations    objects and logs of a run         (a Kubernetes token)
//!           └─ health        /livez /readyz /metrics
//! ```
//!
//! Only the leader serves spokes and people: [`Office`] is what a term of leadership has, and
//! without one every such request is answered with 503. Every error is an `ErrorReply`.

mod enroll;
mod health;
pub(crate) mod listener;
mod migrations;
mod problem;
mod spoke;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use isthmus_shared::protocol::identity::SigningKey;
use isthmus_shared::protocol::{
    ENROLL_PATH, HEARTBEAT_PATH, REPORTS_PATH, TASKS_PATH, logs_path, objects_path,
};
use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::auth::people::People;
use crate::auth::spoke::Gate;
use crate::leader::Term;
use crate::metrics::Metrics;
use crate::presence::Presence;
use crate::records::{Records, Writer};
use crate::runs::Runs;
use crate::staging::Stores;

pub(crate) use problem::Problem;

/// The largest body of a request, bytes.
pub const MAX_BODY: usize = 4 * 1024 * 1024;
/// The most logs that are being sent at a time.
const MAX_LOGS: usize = 64;

/// What a term of leadership has.
pub(crate) struct Office {
    pub term: Arc<Term>,
    pub records: Arc<Records>,
    pub presence: Arc<Presence>,
    pub writer: Writer,
    pub runs: Arc<Runs>,
    pub gate: Gate,
    pub signing: Arc<SigningKey>,
}

/// What every replica has.
pub(crate) struct Front {
    /// The term that this hub is in, if it leads.
    pub office: watch::Receiver<Option<Arc<Office>>>,
    pub records: Arc<Records>,
    pub people: People,
    pub stores: Arc<Stores>,
    pub metrics: Metrics,
    /// Is cancelled when the hub is to end: whoever is made to wait is answered.
    pub stop: CancellationToken,
    logs: Arc<Semaphore>,
}

impl Front {
    pub(crate) fn new(
        office: watch::Receiver<Option<Arc<Office>>>,
        records: Arc<Records>,
        people: People,
        stores: Arc<Stores>,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Self {
        Self { office, records, people, stores, metrics, stop, logs: Arc::new(Semaphore::new(MAX_LOGS)) }
    }

    /// The office of this hub's term; refused when it does not lead.
    fn leading(&self) -> Result<Arc<Office>, Problem> {
        let office = self.office.borrow().clone().ok_or_else(Problem::not_leading)?;
        office.term.check().map_err(|_| Problem::not_leading())?;
        Ok(office)
    }
}

/// All routes.
pub(crate) fn router(front: Arc<Front>) -> Router {
    Router::new()
        .route(ENROLL_PATH, post(enroll::enroll))
        .route(HEARTBEAT_PATH, post(spoke::heartbeat))
        .route(TASKS_PATH, post(spoke::tasks))
        .route(REPORTS_PATH, post(spoke::reports))
        .route(&objects_path("{namespace}", "{name}"), get(migrations::objects))
        .route(&logs_path("{namespace}", "{name}"), get(migrations::logs))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&front), count))
        .with_state(front)
}

async fn count(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    let route = match request.uri().path() {
        path @ (ENROLL_PATH | HEARTBEAT_PATH | TASKS_PATH | REPORTS_PATH | "/livez" | "/readyz"
        | "/metrics") => path.to_owned(),
        path if path.ends_with("/objects") => objects_path("{namespace}", "{name}"),
        path if path.ends_with("/logs") => logs_path("{namespace}", "{name}"),
        _ => "other".to_owned(),
    };
    let response = next.run(request).await;
    front.metrics.responded(&route, response.status().as_u16());
    response
}

/// The time as tokens carry it.
fn unix_now() -> u64 {
    u64::try_from(Timestamp::now().as_second()).unwrap_or(0)
}
