//! Definitions of kinds that hold the options of a Migration.
//!
//! The schema of those options is taken over from the definition of Migration, which may change, so
//! that it stands in one place; what only a run says is left out of it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use kube::CustomResourceExt;
use schemars::JsonSchema;

use super::Migration;

/// The whole schema of Migration.
pub(super) fn migration() -> JSONSchemaProps {
    let version = Migration::crd().spec.versions.into_iter().next();
    version.and_then(|version| version.schema?.open_api_v3_schema).unwrap_or_default()
}

/// The schema of a Migration's options without these; and unlike a Migration's, they may change.
pub(super) fn options(description: &str, without: &[&str]) -> JSONSchemaProps {
    let properties = migration().properties.unwrap_or_default();
    let mut spec = properties.get("spec").cloned().unwrap_or_default();
    spec.description = Some(description.to_owned());
    // The one rule of the whole there is says that a Migration does not change.
    spec.x_kubernetes_validations = None;
    if let Some(properties) = spec.properties.as_mut() {
        properties.retain(|name, _| !without.contains(&name.as_str()));
    }
    if let Some(any) = spec.any_of.as_mut() {
        any.retain(|one| {
            one.required.as_ref().is_none_or(|names| !names.iter().any(|n| without.contains(&n.as_str())))
        });
    }
    spec
}

/// The schema of a type, in the one shape that the API server takes: as kube makes those of kinds.
pub(super) fn of<T: JsonSchema>() -> JSONSchemaProps {
    let settings = schemars::generate::SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let settings = settings
        .with_transform(kube::core::schema::StructuralSchemaRewriter)
        .with_transform(kube::core::schema::OptionalEnum)
        .with_transform(kube::core::schema::OptionalIntOrString);
    let schema = settings.into_generator().into_root_schema_for::<T>();
    serde_json::from_value(schema.to_value()).unwrap_or_default()
}
