//! `Rule`: commands in the Pods of an application before and after its volumes are read, in the shape
//! of Kubemotion's Rule.
//!
//! Its `rules` stand at the top of the object, where other kinds have a spec, so that such a manifest
//! works once its apiVersion is changed. A Rule has no status: the hub reads it when a run begins that
//! names it, and makes hooks of it ([`Rule::hooks`]). What becomes of it later does not touch the run.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec, CustomResourceDefinitionVersion, CustomResourceValidation, JSONSchemaProps,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::core::TypeMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ExecHook, GROUP, Hook, HookPhase, OnError, Side, Until, VERSION, definitions};

/// How often an action of a rule is tried again after it failed.
pub const RULE_RETRIES: u32 = 3;
/// Seconds that an attempt at an action of a rule may take, as in Kubemotion.
pub const RULE_TIMEOUT_SECONDS: u32 = 900;
/// The most items of a rule, and the most actions of each.
const MAX_ITEMS: u64 = 50;

/// Commands in Pods.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub struct Rule {
    /// Kind and version.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub types: Option<TypeMeta>,
    /// Name and namespace.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is carried out, one behind the other.
    #[serde(default)]
    pub rules: Vec<RuleItem>,
}

/// Actions in the Pods of a selector.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RuleItem {
    /// Labels of the Pods, all of them. A Pod that does not run is left out, and so is an item
    /// without Pods.
    #[serde(default)]
    pub pod_selector: BTreeMap<String, String>,
    /// The container. Empty: the Pod's default container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub container: Option<String>,
    /// What is done in them, one behind the other.
    #[schemars(length(max = 50))]
    pub actions: Vec<RuleAction>,
}

/// A command.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RuleAction {
    /// What kind of action it is.
    #[serde(rename = "type")]
    pub kind: RuleActionKind,
    /// It goes on until the volumes have been moved; `${WAIT_CMD}` stands where it waits for that.
    #[serde(default)]
    pub background: bool,
    /// In one of the Pods only.
    #[serde(default)]
    pub run_in_single_pod: bool,
    /// The command, for the container's shell.
    #[schemars(length(min = 1, max = 65536))]
    pub value: String,
}

/// The kinds of actions.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum RuleActionKind {
    /// A command in the Pods.
    #[serde(rename = "command")]
    Command,
}

/// As what a run names a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleUse {
    /// `preExecRule`: before anything is changed.
    Before,
    /// `postExecRule`: when the volumes have been moved.
    After,
}

impl RuleUse {
    /// The field of a Migration that names it.
    pub fn field(self) -> &'static str {
        match self {
            Self::Before => "preExecRule",
            Self::After => "postExecRule",
        }
    }
}

impl Rule {
    /// The hooks that carry it out. As in Kubemotion both rules are for the source, the commands are
    /// for a shell, Pods that are not there are no failure, and what the first has begun in the
    /// background ends before the second begins.
    ///
    /// `resources` tells whether the run applies objects: without, the second rule comes at its end.
    pub fn hooks(&self, used: RuleUse, resources: bool) -> Vec<Hook> {
        let phase = match used {
            RuleUse::Before => HookPhase::PreHooks,
            RuleUse::After if resources => HookPhase::BeforeApply,
            RuleUse::After => HookPhase::PostHooks,
        };
        let word = match used {
            RuleUse::Before => "pre",
            RuleUse::After => "post",
        };
        let mut hooks = Vec::new();
        for (at, item) in self.rules.iter().enumerate() {
            for (number, action) in item.actions.iter().enumerate() {
                let exec = ExecHook {
                    namespace: None,
                    pod_selector: LabelSelector {
                        match_labels: Some(item.pod_selector.clone()),
                        ..LabelSelector::default()
                    },
                    container: item.container.clone().filter(|container| !container.is_empty()),
                    command: vec!["sh".to_owned(), "-c".to_owned(), action.value.clone()],
                    background: action.background,
                    until: if action.background { Until::VolumesMoved } else { Until::default() },
                    single_pod: action.run_in_single_pod,
                    allow_no_pods: true,
                };
                hooks.push(Hook {
                    name: format!("{word}-exec-rule-{}-{}", at + 1, number + 1),
                    phase,
                    side: Some(Side::Source),
                    exec: Some(exec),
                    job: None,
                    timeout_seconds: RULE_TIMEOUT_SECONDS,
                    retries: if action.background { 0 } else { RULE_RETRIES },
                    on_error: OnError::Fail,
                });
            }
        }
        hooks
    }

    /// The field of an action that a rule may not have where it is used so, and why not.
    pub fn problem(&self, used: RuleUse) -> Option<(String, &'static str)> {
        if used == RuleUse::Before {
            return None;
        }
        let at = self.rules.iter().enumerate().find_map(|(item, rule)| {
            let action = rule.actions.iter().position(|action| action.background)?;
            Some(format!("rules[{item}].actions[{action}].background"))
        })?;
        Some((at, "nothing comes after a postExecRule that a command in the background could go on for"))
    }
}

impl kube::Resource for Rule {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Rule".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "rules".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The definition.
pub(super) fn definition() -> CustomResourceDefinition {
    let text = |text: &str| Some(text.to_owned());
    let object = |properties: BTreeMap<String, JSONSchemaProps>, required: &str| JSONSchemaProps {
        type_: text("object"),
        description: text("Commands in Pods, for preExecRule and postExecRule of a Migration"),
        properties: Some(properties),
        required: Some(vec![required.to_owned()]),
        ..JSONSchemaProps::default()
    };
    let rules = definitions::of::<Vec<RuleItem>>();
    let rules = JSONSchemaProps {
        description: text("What is carried out, one behind the other"),
        max_items: i64::try_from(MAX_ITEMS).ok(),
        ..rules
    };
    CustomResourceDefinition {
        metadata: ObjectMeta { name: Some(format!("rules.{GROUP}")), ..ObjectMeta::default() },
        spec: CustomResourceDefinitionSpec {
            group: GROUP.to_owned(),
            names: CustomResourceDefinitionNames {
                kind: "Rule".to_owned(),
                list_kind: text("RuleList"),
                plural: "rules".to_owned(),
                singular: text("rule"),
                categories: Some(vec!["isthmus".to_owned()]),
                ..CustomResourceDefinitionNames::default()
            },
            scope: "Namespaced".to_owned(),
            versions: vec![CustomResourceDefinitionVersion {
                name: VERSION.to_owned(),
                served: true,
                storage: true,
                schema: Some(CustomResourceValidation {
                    open_api_v3_schema: Some(object(BTreeMap::from([("rules".to_owned(), rules)]), "rules")),
                }),
                additional_printer_columns: Some(vec![CustomResourceColumnDefinition {
                    name: "Age".to_owned(),
                    type_: "date".to_owned(),
                    json_path: ".metadata.creationTimestamp".to_owned(),
                    ..CustomResourceColumnDefinition::default()
                }]),
                ..CustomResourceDefinitionVersion::default()
            }],
            ..CustomResourceDefinitionSpec::default()
        },
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As Kubemotion's documentation has it for `MySQL`, under this apiVersion, and an item of another
    /// application.
    fn mysql() -> Rule {
        let flush = "mysql --user=root -Bse 'flush tables with read lock;system ${WAIT_CMD};'";
        let rule = json!({
            "apiVersion": "isthmus.dev/v1alpha1", "kind": "Rule", "metadata": {"name": "mysql-presnap-rule"},
            "rules": [
                {"podSelector": {"app": "mysql"},
                 "actions": [{"type": "command", "background": true, "value": flush}]},
                {"podSelector": {"app": "web"}, "container": "nginx",
                 "actions": [{"type": "command", "runInSinglePod": true, "value": "sync"}]}
            ]
        });
        serde_json::from_value(rule).unwrap()
    }

    #[test]
    fn a_rule_of_kubemotion_becomes_hooks_of_the_source() {
        let rule = mysql();
        let hooks = rule.hooks(RuleUse::Before, true);
        assert_eq!(
            hooks.iter().map(|hook| hook.name.as_str()).collect::<Vec<_>>(),
            ["pre-exec-rule-1-1", "pre-exec-rule-2-1"]
        );
        assert!(hooks.iter().all(|hook| hook.side() == Side::Source && hook.phase == HookPhase::PreHooks));
        let lock = hooks[0].exec.as_ref().unwrap();
        assert!(hooks[0].ends_with_volumes() && hooks[0].retries == 0);
        assert!(lock.command[2].contains(crate::resources::WAIT_CMD) && lock.allow_no_pods);
        let sync = hooks[1].exec.as_ref().unwrap();
        assert_eq!((sync.container.as_deref(), sync.single_pod), (Some("nginx"), true));
        assert_eq!(hooks[1].retries, RULE_RETRIES);
    }

    #[test]
    fn the_second_rule_comes_when_the_volumes_have_been_moved_and_holds_nothing() {
        let mut rule = mysql();
        assert_eq!(rule.problem(RuleUse::Before), None);
        assert_eq!(rule.problem(RuleUse::After).unwrap().0, "rules[0].actions[0].background");
        rule.rules.remove(0);
        assert_eq!(rule.problem(RuleUse::After), None);
        assert_eq!(rule.hooks(RuleUse::After, true)[0].phase, HookPhase::BeforeApply);
        assert_eq!(rule.hooks(RuleUse::After, false)[0].phase, HookPhase::PostHooks);
    }

    #[test]
    fn the_definition_has_the_rules_at_the_top() {
        let crd = definition();
        let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
        let properties = schema.properties.unwrap();
        assert_eq!(properties.keys().collect::<Vec<_>>(), ["rules"]);
        let text = serde_json::to_string(&properties["rules"]).unwrap();
        assert!(text.contains("podSelector") && text.contains("runInSinglePod"), "{text}");
    }
}
