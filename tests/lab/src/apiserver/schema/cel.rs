//! `x-kubernetes-validations`: rules in CEL over `self` and `oldSelf`.

use std::collections::HashMap;

use cel::common::ast::{EntryExpr, Expr};
use cel::{Context, IdedExpr, Program, Value as Cel};
use serde_json::Value;

use crate::apiserver::error::FieldError;
use crate::apiserver::json::text;

/// A compiled rule.
#[derive(Debug)]
pub struct Rule {
    program: Program,
    source: String,
    message: Option<String>,
    message_expression: Option<Program>,
    field_path: String,
    reason: String,
    transition: bool,
    optional_old: bool,
}

impl Rule {
    /// Compiles a rule; the error says what the compiler found.
    pub fn compile(rule: &Value) -> Result<Self, String> {
        let source = text(rule, &["rule"]).trim().to_owned();
        if source.is_empty() {
            return Err("rule is not specified".to_owned());
        }
        let program = Program::compile(&source).map_err(|e| e.to_string())?;
        let message_expression = match rule.get("messageExpression").and_then(Value::as_str) {
            Some(expression) => {
                Some(Program::compile(expression).map_err(|e| format!("messageExpression: {e}"))?)
            }
            None => None,
        };
        if let Some(name) = undeclared(program.expression(), &mut vec!["self", "oldSelf"]) {
            return Err(format!("undeclared reference to '{name}'"));
        }
        let transition = program.references().has_variable("oldSelf");
        Ok(Self {
            program,
            source,
            message: rule.get("message").and_then(Value::as_str).map(str::to_owned),
            message_expression,
            field_path: text(rule, &["fieldPath"]).to_owned(),
            reason: text(rule, &["reason"]).to_owned(),
            transition,
            optional_old: rule.get("optionalOldSelf") == Some(&Value::Bool(true)),
        })
    }

    /// The fields of `self` that the rule names.
    pub fn fields(&self) -> Vec<&str> {
        let mut found = Vec::new();
        fields_of_self(self.program.expression(), &mut found);
        found
    }

    /// Evaluates the rule; an error if it does not hold.
    pub fn check(&self, new: &Value, old: Option<&Value>, ty: &str, path: &str) -> Option<FieldError> {
        if self.transition && old.is_none() && !self.optional_old {
            return None;
        }
        let mut context = Context::default();
        context.add_variable_from_value("self", to_cel(new));
        if let Some(old) = old {
            context.add_variable_from_value("oldSelf", to_cel(old));
        }
        let detail = match self.program.execute(&context) {
            Ok(Cel::Bool(true)) => return None,
            Ok(Cel::Bool(false)) => self.told(&context),
            Ok(_) => format!("rule {:?} must evaluate to a bool", self.source),
            Err(why) => format!("rule evaluation error of {:?}: {why}", self.source),
        };
        let field = match path {
            "<nil>" if !self.field_path.is_empty() => self.field_path.trim_start_matches('.').to_owned(),
            _ => format!("{path}{}", self.field_path),
        };
        Some(match self.reason.as_str() {
            "FieldValueForbidden" => FieldError::forbidden(field, &detail),
            "FieldValueRequired" => FieldError::required(field, &detail),
            "FieldValueDuplicate" => FieldError::duplicate(field, &Value::String(ty.to_owned())),
            _ => FieldError::invalid(field, &Value::String(ty.to_owned()), &detail),
        })
    }

    fn told(&self, context: &Context) -> String {
        if let Some(expression) = &self.message_expression
            && let Ok(Cel::String(message)) = expression.execute(context)
        {
            return message.to_string();
        }
        self.message.clone().unwrap_or_else(|| format!("failed rule: {}", self.source))
    }
}

fn fields_of_self<'a>(expression: &'a IdedExpr, found: &mut Vec<&'a str>) {
    match &expression.expr {
        Expr::Select(select) => {
            if matches!(&select.operand.expr, Expr::Ident(name) if name == "self") {
                found.push(&select.field);
            }
            fields_of_self(&select.operand, found);
        }
        Expr::Call(call) => {
            call.target.as_deref().into_iter().chain(&call.args).for_each(|part| fields_of_self(part, found));
        }
        Expr::List(list) => list.elements.iter().for_each(|element| fields_of_self(element, found)),
        Expr::Comprehension(loop_) => {
            let parts =
                [&loop_.iter_range, &loop_.accu_init, &loop_.loop_cond, &loop_.loop_step, &loop_.result];
            for part in parts {
                fields_of_self(part, found);
            }
        }
        _ => {}
    }
}

/// Names that stand where variables do (`type(self) == string`).
const TYPE_NAMES: [&str; 10] =
    ["int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type"];

/// A name that is neither a variable of the rule nor bound by a macro within it.
fn undeclared<'a>(expression: &'a IdedExpr, bound: &mut Vec<&'a str>) -> Option<&'a str> {
    match &expression.expr {
        Expr::Ident(name) => {
            let known = bound.contains(&name.as_str()) || TYPE_NAMES.contains(&name.as_str());
            (!known).then_some(name.as_str())
        }
        Expr::Call(call) => {
            // What a function is called on may be the name of its library.
            let library = |target: &IdedExpr| matches!(&target.expr, Expr::Ident(name) if matches!(name.as_str(), "math" | "sets" | "optional" | "base64"));
            let target = call.target.as_deref().filter(|target| !library(target));
            target.into_iter().chain(&call.args).find_map(|part| undeclared(part, bound))
        }
        Expr::Select(select) => undeclared(&select.operand, bound),
        Expr::List(list) => list.elements.iter().find_map(|element| undeclared(element, bound)),
        Expr::Map(map) => map.entries.iter().find_map(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => {
                undeclared(&entry.key, bound).or_else(|| undeclared(&entry.value, bound))
            }
            EntryExpr::StructField(field) => undeclared(&field.value, bound),
        }),
        Expr::Comprehension(loop_) => {
            let outer = bound.len();
            let found = undeclared(&loop_.iter_range, bound).or_else(|| undeclared(&loop_.accu_init, bound));
            bound.extend([loop_.iter_var.as_str(), loop_.accu_var.as_str()]);
            bound.extend(loop_.iter_var2.as_deref());
            let found = found
                .or_else(|| undeclared(&loop_.loop_cond, bound))
                .or_else(|| undeclared(&loop_.loop_step, bound))
                .or_else(|| undeclared(&loop_.result, bound));
            bound.truncate(outer);
            found
        }
        Expr::Unspecified | Expr::Literal(_) | Expr::Struct(_) => None,
    }
}

/// JSON as CEL sees it: whole numbers are ints, never uints.
fn to_cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(b) => Cel::Bool(*b),
        Value::Number(n) => n.as_i64().map_or_else(|| Cel::Float(n.as_f64().unwrap_or(f64::NAN)), Cel::Int),
        Value::String(s) => Cel::from(s.as_str()),
        Value::Array(items) => Cel::from(items.iter().map(to_cel).collect::<Vec<_>>()),
        Value::Object(map) => {
            Cel::from(map.iter().map(|(k, v)| (escaped(k), to_cel(v))).collect::<HashMap<String, Cel>>())
        }
    }
}

/// Property names that CEL could not spell are escaped as the real server does it.
fn escaped(key: &str) -> String {
    const RESERVED: [&str; 21] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    if RESERVED.contains(&key) {
        return format!("__{key}__");
    }
    if key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !key.contains("__") {
        return key.to_owned();
    }
    if key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/')) {
        return key
            .replace("__", "__underscores__")
            .replace('.', "__dot__")
            .replace('-', "__dash__")
            .replace('/', "__slash__");
    }
    key.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(source: &str) -> Rule {
        Rule::compile(&json!({"rule": source, "message": "no"})).unwrap()
    }

    #[test]
    fn rules_see_the_value_and_the_one_it_replaces() {
        assert!(
            rule("self.min <= self.max")
                .check(&json!({"min": 1, "max": 2}), None, "object", "spec")
                .is_none()
        );
        let error =
            rule("self.min <= self.max").check(&json!({"min": 3, "max": 2}), None, "object", "spec").unwrap();
        assert_eq!(error.line(), "spec: Invalid value: \"object\": no");
        let frozen = rule("self == oldSelf");
        assert!(
            frozen.check(&json!("a"), None, "string", "spec.name").is_none(),
            "nothing to compare at creation"
        );
        assert!(frozen.check(&json!("a"), Some(&json!("b")), "string", "spec.name").is_some());
    }

    #[test]
    fn the_usual_functions_are_there() {
        for source in [
            "size(self.list) == 2",
            "self.list.size() == 2",
            "has(self.name)",
            "!has(self.other)",
            "self.list.all(x, x > 0)",
            "self.list.exists(x, x == 2)",
            "self.name.matches('^a.*z$')",
            "self.name.startsWith('a') && self.name.endsWith('z') && self.name.contains('b')",
            "2 in self.list",
            "self.name in ['abz', 'q']",
        ] {
            let value = json!({"list": [1, 2], "name": "abz"});
            let error = rule(source).check(&value, None, "object", "spec");
            assert!(error.is_none(), "{source}: {error:?}");
        }
    }

    #[test]
    fn a_rule_that_does_not_compile_says_why() {
        assert!(Rule::compile(&json!({"rule": "self.("})).is_err());
        assert!(Rule::compile(&json!({"rule": "other.x == 1"})).unwrap_err().contains("other"));
    }
}
