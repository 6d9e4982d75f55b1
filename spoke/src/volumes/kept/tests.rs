use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use isthmus_shared::resources::{RECLAIM_POLICY, RETAINED_BY};
use kube::client::Body;
use serde_json::json;

use super::*;
