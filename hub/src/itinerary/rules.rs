//! The rules that a run names, as hooks beside its own.
//!
//! They are read once, when the run begins, and what they come to is kept in the run's status: spokes
//! see hooks only, and a rule that is changed or removed later does not touch the run.

use isthmus_shared::resources::{Finding, Hook, MigrationAction, MigrationSpec, Rule, RuleUse};

use super::findings::finding;
use super::view::Rules;

/// The options with the hooks of the rules that they name, or why there are none. What carries out no
/// hooks needs no rules, and a failover is not to fail for want of one.
pub(super) fn with_rules(
    mut options: MigrationSpec,
    rules: &Rules,
    namespace: &str,
) -> Result<MigrationSpec, Finding> {
    if matches!(options.action, MigrationAction::Stage | MigrationAction::Rollback) {
        return Ok(options);
    }
    let mut hooks: Vec<Hook> = Vec::new();
    for (used, name, rule) in [
        (RuleUse::Before, &options.pre_exec_rule, rules.before.as_deref()),
        (RuleUse::After, &options.post_exec_rule, rules.after.as_deref()),
    ] {
        let Some(name) = name.as_deref().filter(|name| !name.is_empty()) else { continue };
        if rule.is_none() && options.action == MigrationAction::Failover {
            continue;
        }
        hooks.extend(of_rule(name, used, rule, options.include_resources, namespace)?);
    }
    hooks.append(&mut options.hooks);
    options.hooks = hooks;
    Ok(options)
}

fn of_rule(
    name: &str,
    used: RuleUse,
    rule: Option<&Rule>,
    resources: bool,
    namespace: &str,
) -> Result<Vec<Hook>, Finding> {
    let object = format!("Rule {name}");
    let field = used.field();
    let Some(rule) = rule else {
        let message = format!(
            "there is no such rule in namespace {namespace}, and {field} names it: apply it there or leave {field} out, then create the Migration again"
        );
        return Err(finding(object, "NoSuchRule", message));
    };
    if let Some((at, problem)) = rule.problem(used) {
        let message = format!("{at}: {problem}; correct the rule, then create the Migration again");
        return Err(finding(object, "BadRule", message));
    }
    Ok(rule.hooks(used, resources))
}
