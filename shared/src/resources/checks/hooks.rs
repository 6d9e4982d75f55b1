//! The hooks and the rules.

use std::collections::HashSet;

use super::{Problems, is_label, is_subdomain};
use crate::resources::{ExecHook, Hook, HookPhase, JobHook, MAX_HOOKS, MigrationSpec, RuleUse, Until};

pub(super) fn check(spec: &MigrationSpec, found: &mut Problems) {
    for (used, rule) in [(RuleUse::Before, &spec.pre_exec_rule), (RuleUse::After, &spec.post_exec_rule)] {
        if let Some(name) = rule.as_ref().filter(|name| !name.is_empty() && !is_subdomain(name)) {
            let message = format!("{name:?} cannot name a Rule: write the name of one in this namespace");
            found.add(format!("spec.{}", used.field()), "BadRule", message);
        }
    }
    if spec.hooks.len() > MAX_HOOKS {
        let message = format!(
            "there are {} hooks, those of the rules included, and a run carries out at most {MAX_HOOKS}: put several commands into one",
            spec.hooks.len()
        );
        found.add("spec.hooks", "TooManyHooks", message);
    }
    let mut names = HashSet::new();
    for (at, hook) in spec.hooks.iter().enumerate() {
        let field = format!("spec.hooks[{at}]");
        if !is_label(&hook.name) {
            let message =
                format!("{:?} cannot name a hook: write lower case letters, digits and -", hook.name);
            found.add(format!("{field}.name"), "BadHook", message);
        } else if !names.insert(hook.name.as_str()) {
            let message = format!("two hooks are called {}: each needs a name of its own", hook.name);
            found.add(format!("{field}.name"), "BadHook", message);
        }
        phase(spec, hook, &field, found);
        match (&hook.exec, &hook.job) {
            (Some(exec), None) => command(hook, exec, &field, found),
            (None, Some(asked)) => job(asked, &field, found),
            (None, None) => found.add(&field, "BadHook", "it does nothing: give it `exec` or `job`"),
            (Some(_), Some(_)) => {
                found.add(&field, "BadHook", "it has both `exec` and `job`: make two hooks of it");
            }
        }
    }
}

/// A hook that no run would come to is a mistake, not a wish.
fn phase(spec: &MigrationSpec, hook: &Hook, field: &str, found: &mut Problems) {
    if hook.phase == HookPhase::AfterQuiesce && !spec.quiesce {
        let message = "only a cutover stops the source: set `quiesce: true`, or choose PreHooks";
        found.add(format!("{field}.phase"), "BadHook", message);
    }
    if hook.phase == HookPhase::BeforeApply && !spec.include_resources {
        let message = "nothing is applied without `includeResources`: leave that out, or choose PostHooks";
        found.add(format!("{field}.phase"), "BadHook", message);
    }
}

fn command(hook: &Hook, exec: &ExecHook, field: &str, found: &mut Problems) {
    namespace(exec.namespace.as_ref(), &format!("{field}.exec.namespace"), found);
    super::label_selector(&format!("{field}.exec.podSelector"), &exec.pod_selector, found);
    if exec.command.first().is_none_or(String::is_empty) {
        found.add(format!("{field}.exec.command"), "BadHook", "there is no command: write one as a list");
    }
    if exec.background && hook.retries > 0 {
        let message = "a command in the background is begun once: leave `retries` out";
        found.add(format!("{field}.retries"), "BadHook", message);
    }
    if exec.background && hook.phase == HookPhase::PostHooks {
        let message = "nothing comes after PostHooks that it could go on for: leave `background` out";
        found.add(format!("{field}.exec.background"), "BadHook", message);
    }
    if exec.until == Until::VolumesMoved && !hook.ends_with_volumes() {
        let message = "only a command that goes on in the background from PreHooks or AfterQuiesce ends when the volumes have been moved: leave `until` out";
        found.add(format!("{field}.exec.until"), "BadHook", message);
    }
}

fn job(job: &JobHook, field: &str, found: &mut Problems) {
    namespace(job.namespace.as_ref(), &format!("{field}.job.namespace"), found);
    if job.image.trim().is_empty() || job.image.contains(char::is_whitespace) {
        let message = format!("{:?} is no image: write one such as registry.example.com/tool:1", job.image);
        found.add(format!("{field}.job.image"), "BadHook", message);
    }
    if let Some(account) = job.service_account_name.as_ref().filter(|name| !is_subdomain(name)) {
        let message = format!("{account:?} cannot name a service account");
        found.add(format!("{field}.job.serviceAccountName"), "BadHook", message);
    }
    for secret in job.image_pull_secrets.iter().filter(|name| !is_subdomain(name)) {
        let message = format!("{secret:?} cannot name a Secret");
        found.add(format!("{field}.job.imagePullSecrets"), "BadHook", message);
    }
    if let Some(user) = job.run_as_user.filter(|user| u32::try_from(*user).is_err()) {
        found.add(
            format!("{field}.job.runAsUser"),
            "BadHook",
            format!("{user} is no user: write its number"),
        );
    }
}

fn namespace(namespace: Option<&String>, field: &str, found: &mut Problems) {
    if let Some(name) = namespace.filter(|name| !is_label(name)) {
        found.add(field, "BadHook", format!("{name:?} cannot be a namespace"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(options: &Value) -> Vec<String> {
        let mut spec = json!({"clusterPair": "p", "namespaces": ["cms"]});
        spec.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let spec: MigrationSpec = serde_json::from_value(spec).unwrap();
        spec.problems().into_iter().map(|problem| problem.field).collect()
    }

    /// A hook that is a command, changed so.
    fn hook(change: &Value) -> Value {
        let mut hook =
            json!({"name": "h", "phase": "PreHooks", "exec": {"podSelector": {}, "command": ["true"]}});
        hook.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        hook
    }

    /// A hook whose command is changed so.
    fn exec(change: &Value, of_hook: &Value) -> Value {
        let mut exec = json!({"podSelector": {}, "command": ["true"]});
        exec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let mut hook = hook(of_hook);
        hook["exec"] = exec;
        hook
    }

    fn of(hook: &Value) -> Vec<String> {
        told(&json!({"hooks": [hook]}))
    }

    #[test]
    fn each_fault_of_a_hook_is_named_by_its_field() {
        let plain = hook(&json!({}));
        assert!(of(&plain).is_empty());
        assert_eq!(told(&json!({"hooks": [plain, plain]})), ["spec.hooks[1].name"]);
        assert_eq!(of(&hook(&json!({"name": "A b"}))), ["spec.hooks[0].name"]);
        assert_eq!(of(&hook(&json!({"exec": null}))), ["spec.hooks[0]"]);
        assert_eq!(of(&hook(&json!({"job": {"image": "i"}}))), ["spec.hooks[0]"]);
        assert_eq!(of(&exec(&json!({"command": []}), &json!({}))), ["spec.hooks[0].exec.command"]);
        let selector = json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}});
        assert_eq!(of(&exec(&selector, &json!({}))), ["spec.hooks[0].exec.podSelector"]);
        let of_job = |change: Value| of(&json!({"name": "h", "phase": "PreHooks", "job": change}));
        assert!(of_job(json!({"image": "a/b:1", "runAsUser": 0})).is_empty());
        assert_eq!(of_job(json!({"image": "a b"})), ["spec.hooks[0].job.image"]);
        assert_eq!(of_job(json!({"image": "a", "runAsUser": -1})), ["spec.hooks[0].job.runAsUser"]);
        assert_eq!(of_job(json!({"image": "a", "namespace": "A"})), ["spec.hooks[0].job.namespace"]);
    }

    #[test]
    fn a_command_in_the_background_has_something_to_go_on_for() {
        let background = json!({"background": true});
        assert!(of(&exec(&background, &json!({}))).is_empty());
        assert_eq!(of(&exec(&background, &json!({"retries": 1}))), ["spec.hooks[0].retries"]);
        let last = json!({"phase": "PostHooks"});
        assert_eq!(of(&exec(&background, &last)), ["spec.hooks[0].exec.background"]);
        let until = |background: bool| json!({"background": background, "until": "VolumesMoved"});
        assert!(of(&exec(&until(true), &json!({}))).is_empty());
        assert_eq!(of(&exec(&until(false), &json!({}))), ["spec.hooks[0].exec.until"]);
    }

    #[test]
    fn a_hook_that_no_run_comes_to_is_refused() {
        let after = hook(&json!({"phase": "AfterQuiesce"}));
        assert_eq!(of(&after), ["spec.hooks[0].phase"]);
        assert!(told(&json!({"hooks": [after], "quiesce": true})).is_empty());
        let before = hook(&json!({"phase": "BeforeApply"}));
        assert!(of(&before).is_empty());
        assert_eq!(told(&json!({"hooks": [before], "includeResources": false})), ["spec.hooks[0].phase"]);
    }

    #[test]
    fn there_are_no_more_hooks_than_a_run_carries_out_and_rules_have_names() {
        let many: Vec<Value> = (0..=MAX_HOOKS).map(|n| hook(&json!({"name": format!("h{n}")}))).collect();
        assert_eq!(told(&json!({"hooks": many})), ["spec.hooks"]);
        assert!(told(&json!({"preExecRule": "", "postExecRule": "sync.after"})).is_empty());
        assert_eq!(told(&json!({"preExecRule": "A b"})), ["spec.preExecRule"]);
    }
}
