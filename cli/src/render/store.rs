//! `store describe`. The keys are not shown, only where they are.

use isthmus_shared::resources::ObjectStore;

use super::sheet::Sheet;

/// All that is known of a store.
pub fn describe_store(store: &ObjectStore) -> String {
    let spec = &store.spec;
    let mut sheet = Sheet::default();
    super::identity_lines(&mut sheet, store);
    sheet.line("Endpoint", &spec.endpoint);
    sheet.line("Region", &spec.region);
    sheet.line("Bucket", &spec.bucket);
    sheet.line("Prefix", spec.prefix.as_deref().unwrap_or_default());
    sheet.line("Path style", if spec.path_style { "yes" } else { "no" });
    sheet.line("CA bundle", if spec.ca_bundle.is_some() { "its own" } else { "the system's" });
    sheet.line("Keys", &format!("Secret {}", spec.credentials_secret_ref.name));
    if let Some(sts) = &spec.sts {
        let of = sts.endpoint.as_deref().unwrap_or("the store itself");
        let minutes = sts.duration_seconds / 60;
        sheet.line("Movers' keys", &format!("sessions of {minutes} min as {} by {of}", sts.role_arn));
    }
    let status = store.status.clone().unwrap_or_default();
    super::condition_lines(&mut sheet, &status.conditions);
    if status.conditions.is_empty() {
        sheet.line("Ready", "Unknown: the hub has not probed it yet");
    }
    sheet.finish()
}
