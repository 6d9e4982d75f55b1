//! The options of writes and lists, and the server's words for those that make no sense.
//!
//! They are read before anything else of a request, so that a misspelt `dryRun` never becomes a write.

use hyper::Method;
use serde_json::json;

use super::error::{ApiError, ApiResult, FieldError};
use super::request::{Call, Query};

/// The most bytes that a field manager's name may have.
const MAX_MANAGER: usize = 128;

/// What a client said about fields that the schema does not know, or that are there twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them in silence.
    Ignore,
    /// Drop them and warn.
    Warn,
    /// Refuse the write.
    Strict,
}

/// The options of a create, an update or a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteOptions {
    /// Try, do not do.
    pub dry_run: bool,
    /// What becomes of unknown and duplicate fields.
    pub validation: FieldValidation,
}

impl WriteOptions {
    /// Reads and checks the options of a write.
    pub fn of(call: &Call) -> ApiResult<Self> {
        let kind = match call.method {
            Method::PUT => "UpdateOptions",
            Method::PATCH => "PatchOptions",
            _ => "CreateOptions",
        };
        let mut errors = Vec::new();
        let given = call.query.all("dryRun");
        if let Some(error) = dry_run_problem(&given) {
            errors.push(error);
        }
        if let Some(error) = call.query.get("fieldManager").and_then(manager_problem) {
            errors.push(error);
        }
        let validation = match call.query.get("fieldValidation") {
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            None | Some("Warn") => FieldValidation::Warn,
            Some(other) => {
                let supported = ["", "Ignore", "Strict", "Warn"].map(str::to_owned);
                errors.push(FieldError::unsupported("fieldValidation", &json!(other), &supported));
                FieldValidation::Warn
            }
        };
        if errors.is_empty() {
            Ok(Self { dry_run: !given.is_empty(), validation })
        } else {
            Err(ApiError::invalid("meta.k8s.io", kind, "", &errors))
        }
    }
}

/// What is wrong with the values of `dryRun`, if anything.
pub fn dry_run_problem(given: &[&str]) -> Option<FieldError> {
    let supported = ["All".to_owned()];
    given.iter().any(|v| *v != "All").then(|| FieldError::unsupported("dryRun", &json!(given), &supported))
}

fn manager_problem(name: &str) -> Option<FieldError> {
    if name.len() > MAX_MANAGER {
        return Some(FieldError::too_long("fieldManager", MAX_MANAGER as u64));
    }
    let (position, bad) = name.chars().enumerate().find(|(_, c)| c.is_control())?;
    let why = format!("invalid character U+{:04X} (at position {position})", u32::from(bad));
    Some(FieldError::invalid("fieldManager", &json!(name), &why))
}

/// Which moment of a collection a list asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    /// The newest.
    Now,
    /// Exactly this version.
    Exact(u64),
    /// This version or any newer one.
    NotOlderThan(u64),
    /// Where a page ended.
    Continue(String),
}

/// Reads and checks which moment a list asks for.
pub fn moment(query: &Query) -> ApiResult<Moment> {
    let forbidden = |why: &str| {
        let error = FieldError::forbidden("resourceVersionMatch", why);
        Err(ApiError::invalid("meta.k8s.io", "ListOptions", "", &[error]))
    };
    let matching = query.get("resourceVersionMatch");
    let version = query.get("resourceVersion");
    match (matching, version, query.get("continue")) {
        (Some(_), _, Some(_)) => {
            return forbidden("resourceVersionMatch is forbidden when continue is provided");
        }
        (Some(_), None, None) => {
            return forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        (Some("Exact"), Some("0"), None) => {
            return forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
        (Some(other), _, None) if !matches!(other, "Exact" | "NotOlderThan") => {
            let supported = ["Exact", "NotOlderThan", ""].map(str::to_owned);
            let error = FieldError::unsupported("resourceVersionMatch", &json!(other), &supported);
            return Err(ApiError::invalid("meta.k8s.io", "ListOptions", "", &[error]));
        }
        _ => {}
    }
    if let Some(token) = query.get("continue") {
        if version.is_some_and(|v| v != "0") {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        return Ok(Moment::Continue(token.to_owned()));
    }
    Ok(match (matching, number(query)?) {
        (Some("Exact"), Some(at)) => Moment::Exact(at),
        (_, Some(at)) if at > 0 => Moment::NotOlderThan(at),
        _ => Moment::Now,
    })
}

/// The query's `resourceVersion`.
pub fn number(query: &Query) -> ApiResult<Option<u64>> {
    query
        .get("resourceVersion")
        .map(|given| {
            given.parse().map_err(|_| {
                ApiError::bad_request(format!(
                    "invalid resource version: resourceVersion: Invalid value: {given:?}: strconv.ParseUint: parsing {given:?}: invalid syntax"
                ))
            })
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Result<Moment, String> {
        moment(&Query::parse(query)).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn a_list_asks_for_one_moment_and_only_for_one() {
        assert_eq!(asked(""), Ok(Moment::Now));
        assert_eq!(asked("resourceVersion=0"), Ok(Moment::Now));
        assert_eq!(asked("resourceVersion=7"), Ok(Moment::NotOlderThan(7)));
        assert_eq!(asked("resourceVersion=7&resourceVersionMatch=Exact"), Ok(Moment::Exact(7)));
        assert_eq!(asked("continue=x"), Ok(Moment::Continue("x".to_owned())));
        for wrong in [
            "resourceVersionMatch=Exact",
            "resourceVersion=0&resourceVersionMatch=Exact",
            "resourceVersion=7&resourceVersionMatch=Near",
            "resourceVersionMatch=Exact&continue=x",
            "resourceVersion=7&continue=x",
            "resourceVersion=x",
        ] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_dry_run_is_all_or_an_error() {
        assert!(dry_run_problem(&["All"]).is_none());
        assert!(dry_run_problem(&[]).is_none());
        assert_eq!(
            dry_run_problem(&["Some"]).unwrap().line(),
            "dryRun: Unsupported value: [\"Some\"]: supported values: \"All\""
        );
    }
}
