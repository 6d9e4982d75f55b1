//! The kind as it is written and read.

use serde_json::json;

use super::*;

#[test]
fn the_definition_has_the_options_of_a_migration_without_what_is_not_repeated() {
    let crd = definition();
    let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
    let properties = schema.properties.unwrap();
    let spec = properties["spec"].properties.as_ref().unwrap();
    assert!(spec.contains_key("schedule") && spec.contains_key("startingDeadlineSeconds"));
    let options = &spec["template"].properties.as_ref().unwrap()["spec"];
    let names = options.properties.as_ref().unwrap();
    assert!(
        names.contains_key("clusterPair") && names.contains_key("transforms") && names.contains_key("plan")
    );
    assert!(NOT_REPEATED.iter().all(|name| !names.contains_key(*name)));
    let actions: Vec<_> =
        names["action"].enum_.as_ref().unwrap().iter().map(|value| value.0.clone()).collect();
    assert_eq!(json!(actions), json!(["Stage", "Final"]));
    assert!(
        options.x_kubernetes_validations.is_none() && options.x_kubernetes_preserve_unknown_fields.is_none()
    );
    assert_eq!(options.any_of.as_ref().unwrap().len(), 3);
    let status = properties["status"].properties.as_ref().unwrap();
    assert!(status.contains_key("held") && status.contains_key("lastSucceeded"));
}

#[test]
fn a_schedule_is_written_without_what_its_definition_does_not_know() {
    let spec: MigrationScheduleSpec = serde_json::from_value(json!({
        "schedule": "*/5 * * * *", "template": {"spec": {"clusterPair": "prod", "namespaces": ["cms"]}}
    }))
    .unwrap();
    assert_eq!((spec.successful_history_limit, spec.failed_history_limit, spec.auto_suspend), (3, 1, true));
    let written = serde_json::to_value(&spec).unwrap();
    let options = &written["template"]["spec"];
    assert_eq!(options["clusterPair"], "prod");
    assert!(NOT_REPEATED.iter().all(|name| options.get(*name).is_none()), "{written}");
    assert_eq!(spec, MigrationScheduleSpec::new("*/5 * * * *", spec.template.spec.clone()));
}

#[test]
fn a_run_is_called_after_the_minute_that_it_was_due() {
    let due: Timestamp = "2026-11-23T02:30:00Z".parse().unwrap();
    let name = run_name("nightly", due);
    assert_eq!(name, "nightly-29923350");
    assert_eq!(due_time_of("nightly", &name), Some(due));
    for other in
        ["nightly", "nightly-", "nightly-x", "nightly-0012", "nightly2-29923350", "nightly-29923350-retry-1"]
    {
        assert_eq!(due_time_of("nightly", other), None, "{other}");
    }
    assert_eq!(due_time_of("nightly", &format!("nightly-{}", i64::MAX)), None);
}
