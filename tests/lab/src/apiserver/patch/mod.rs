//! The patches that are not server-side apply.

pub mod strategic;

use serde_json::Value;

use super::error::{ApiError, ApiResult};

/// JSON patch (RFC 6902).
pub fn json_patch(object: &Value, patch: &[u8]) -> ApiResult<Value> {
    // By way of a value, so that the last of keys that are there twice counts.
    let patch: Result<json_patch::Patch, _> =
        serde_json::from_slice::<Value>(patch).and_then(serde_json::from_value);
    let patch = patch.map_err(|e| {
        ApiError::bad_request(format!(
            "error decoding patch: {e}; send a list of operations with op, path and value"
        ))
    })?;
    let mut result = object.clone();
    json_patch::patch(&mut result, &patch).map_err(|e| {
        ApiError::new(
            422,
            "Invalid",
            format!("the server rejected our request due to an error in our request: {e}"),
        )
    })?;
    Ok(result)
}

/// JSON merge patch (RFC 7386).
pub fn merge_patch(object: &Value, patch: &[u8]) -> ApiResult<Value> {
    let patch: Value = serde_json::from_slice(patch)
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    if !patch.is_object() {
        return Err(ApiError::bad_request(
            "error decoding patch: json: cannot unmarshal a non-object into Go value of type map[string]interface {}",
        ));
    }
    let mut result = object.clone();
    json_patch::merge(&mut result, &patch);
    Ok(result)
}
