//! Strategic merge patch, as a request brings it.

use isthmus_shared::strategic_merge::{self as merge, ListMerge, Shape};
use serde_json::Value;

use crate::apiserver::error::{ApiError, ApiResult};
use crate::apiserver::schema::{Schema, builtin};

impl<'a> Shape for &'a Schema {
    fn object_meta() -> Option<&'a Schema> {
        Some(builtin::definition(builtin::OBJECT_META))
    }

    fn field(self, key: &str) -> Option<&'a Schema> {
        Schema::field(self, key)
    }

    fn item(self) -> Option<&'a Schema> {
        Schema::item(self)
    }

    fn list_merge(self) -> Option<ListMerge> {
        self.merge.clone()
    }
}

/// Applies a strategic merge patch.
pub fn strategic_merge(object: &Value, patch: &[u8], schema: &Schema) -> ApiResult<Value> {
    let patch: Value = serde_json::from_slice(patch)
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    merge::strategic_merge(object.clone(), patch, Some(schema))
        .map_err(|e| ApiError::bad_request(e.to_string()))
}
