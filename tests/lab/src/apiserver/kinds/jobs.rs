//! Jobs and cron jobs.

use serde_json::{Value, json};

use super::{pods, unchanged, workloads};
use crate::apiserver::error::FieldError;
use crate::apiserver::json::{at, default, object, place, set, text, uid};

const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

/// Defaults of a job.
pub fn default_job(job: &mut Value) {
    if !job["spec"].is_object() {
        return;
    }
    let spec = &mut job["spec"];
    if spec["completions"].is_null() && spec["parallelism"].is_null() {
        set(spec, &["completions"], 1);
    }
    default(spec, &["parallelism"], 1);
    default(
        spec,
        &["backoffLimit"],
        if spec["backoffLimitPerIndex"].is_null() { 6 } else { i64::from(i32::MAX) },
    );
    default(spec, &["completionMode"], "NonIndexed");
    default(spec, &["suspend"], false);
    default(spec, &["manualSelector"], false);
    let replacement = if spec["podFailurePolicy"].is_null() { "TerminatingOrFailed" } else { "Failed" };
    default(spec, &["podReplacementPolicy"], replacement);
    if let Some(template) = spec.get_mut("template") {
        pods::default_template(template);
    }
}

/// Defaults of a cron job.
pub fn default_cron_job(job: &mut Value) {
    if !job["spec"].is_object() {
        return;
    }
    let spec = &mut job["spec"];
    default(spec, &["concurrencyPolicy"], "Allow");
    default(spec, &["suspend"], false);
    default(spec, &["successfulJobsHistoryLimit"], 3);
    default(spec, &["failedJobsHistoryLimit"], 1);
    if at(spec, &["jobTemplate", "spec", "template"]).is_object() {
        pods::default_template(&mut spec["jobTemplate"]["spec"]["template"]);
    }
}

/// Makes the selector and the labels by which a new job knows its pods.
pub fn begin(job: &mut Value) {
    if job["spec"]["manualSelector"] == Value::Bool(true) {
        return;
    }
    let id = uid(job).to_owned();
    let name = crate::apiserver::json::name(job).to_owned();
    let labels = place(&mut job["spec"], &["template", "metadata", "labels"]);
    let labels = object(labels);
    for label in UID_LABELS {
        labels.entry(label).or_insert_with(|| json!(id));
    }
    for label in NAME_LABELS {
        labels.entry(label).or_insert_with(|| json!(name));
    }
    if job["spec"]["selector"].is_null() {
        set(job, &["spec", "selector", "matchLabels", UID_LABELS[0]], id);
    }
}

/// Carries the generated parts over to an object that leaves them out.
pub fn keep(old: &Value, new: &mut Value) {
    if new["spec"]["selector"].is_null() {
        set(new, &["spec", "selector"], old["spec"]["selector"].clone());
    }
    let old_labels = pods::template_labels(&old["spec"]["template"]);
    let labels = object(place(&mut new["spec"], &["template", "metadata", "labels"]));
    for label in UID_LABELS.iter().chain(&NAME_LABELS) {
        if let Some(value) = old_labels.get(*label) {
            labels.entry(*label).or_insert_with(|| value.clone());
        }
    }
}

/// What is wrong with a job.
pub fn validate_job(job: &Value, field: &str) -> Vec<FieldError> {
    let spec = at(job, &["spec"]);
    let mut errors = validate_job_spec(spec, field);
    let labels = pods::template_labels(&spec["template"]);
    let selector = &spec["selector"];
    if selector.is_null() {
        errors.push(FieldError::required(format!("{field}.selector"), ""));
    } else if !workloads::selects(selector, &labels) {
        errors.push(FieldError::invalid(
            format!("{field}.template.metadata.labels"),
            &json!(labels),
            "`selector` does not match template `labels`",
        ));
    }
    if spec["manualSelector"] != Value::Bool(true) {
        let expected = json!({"matchLabels": {UID_LABELS[0]: uid(job)}});
        let older = json!({"matchLabels": {UID_LABELS[1]: uid(job)}});
        if !uid(job).is_empty() && *selector != expected && *selector != older {
            errors.push(FieldError::invalid(
                format!("{field}.selector"),
                selector,
                "`selector` not auto-generated",
            ));
        }
        for label in UID_LABELS {
            if labels.get(label).and_then(Value::as_str) != Some(uid(job)) {
                let value = labels.get(label).cloned().unwrap_or(Value::Null);
                errors.push(FieldError::invalid(
                    format!("{field}.template.metadata.labels"),
                    &value,
                    &format!("must be '{}'", uid(job)),
                ));
            }
        }
    }
    errors
}

fn validate_job_spec(spec: &Value, field: &str) -> Vec<FieldError> {
    let mut errors = pods::validate_spec(at(spec, &["template", "spec"]), &format!("{field}.template.spec"));
    let policy = at(spec, &["template", "spec", "restartPolicy"]);
    if !matches!(policy.as_str(), Some("OnFailure" | "Never")) {
        let supported = ["OnFailure", "Never"].map(str::to_owned);
        errors.push(FieldError::unsupported(
            format!("{field}.template.spec.restartPolicy"),
            policy,
            &supported,
        ));
    }
    for number in
        ["parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"]
    {
        if spec[number].as_i64().is_some_and(|n| n < 0) {
            errors.push(FieldError::invalid(
                format!("{field}.{number}"),
                &spec[number],
                "must be greater than or equal to 0",
            ));
        }
    }
    errors
}

/// What of a job may not change.
pub fn validate_job_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = unchanged(old, new, &["spec", "selector"], "field is immutable");
    let suspended = old["spec"]["suspend"] == Value::Bool(true) && old["status"].get("startTime").is_none();
    // Scheduling directives of a job that has not started may change.
    let fixed = |job: &Value| {
        let mut template = job["spec"]["template"].clone();
        if suspended {
            for field in ["nodeSelector", "tolerations", "affinity", "schedulingGates"] {
                crate::apiserver::json::remove(&mut template, &["spec", field]);
            }
            for field in ["labels", "annotations"] {
                crate::apiserver::json::remove(&mut template, &["metadata", field]);
            }
        }
        template
    };
    if fixed(old) != fixed(new) {
        let (field, template) = ("spec.template", &new["spec"]["template"]);
        let error = if fixed(old)["spec"] == fixed(new)["spec"] {
            FieldError::invalid(field, template, "field is immutable")
        } else {
            FieldError::invalid(format!("{field}.spec"), &template["spec"], "field is immutable")
        };
        errors.push(error);
    }
    if text(new, &["spec", "completionMode"]) != "Indexed" {
        errors.extend(unchanged(old, new, &["spec", "completions"], "field is immutable"));
    }
    errors.extend(unchanged(old, new, &["spec", "completionMode"], "field is immutable"));
    errors
}

/// What is wrong with a cron job.
pub fn validate_cron_job(job: &Value) -> Vec<FieldError> {
    let spec = &job["spec"];
    let mut errors = validate_job_spec(at(spec, &["jobTemplate", "spec"]), "spec.jobTemplate.spec");
    let schedule = text(spec, &["schedule"]);
    if schedule.is_empty() {
        errors.push(FieldError::required("spec.schedule", ""));
    } else if let Some(problem) = schedule_problem(schedule) {
        errors.push(FieldError::invalid("spec.schedule", &spec["schedule"], &problem));
    }
    let policies = ["Allow", "Forbid", "Replace"].map(str::to_owned);
    if !policies.iter().any(|p| p == text(spec, &["concurrencyPolicy"])) {
        errors.push(FieldError::unsupported("spec.concurrencyPolicy", &spec["concurrencyPolicy"], &policies));
    }
    if crate::apiserver::json::name(job).len() > 52 {
        errors.push(FieldError::invalid(
            "metadata.name",
            &job["metadata"]["name"],
            "must be no more than 52 characters",
        ));
    }
    errors
}

fn schedule_problem(schedule: &str) -> Option<String> {
    const NAMED: [&str; 7] =
        ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
    if NAMED.contains(&schedule) || schedule.starts_with("@every ") {
        return None;
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != 5 {
        return Some(format!("expected exactly 5 fields, found {}: {fields:?}", fields.len()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '*' | '/' | ',' | '-' | '?');
    fields.iter().find(|f| !f.chars().all(allowed)).map(|f| format!("failed to parse int from {f}"))
}
