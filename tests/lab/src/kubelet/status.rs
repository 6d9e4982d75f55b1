//! Pod statuses as JSON. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;
use serde_json::{Value, json};

/// How a container of a pod that runs as a process stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum State {
    Waiting { reason: &'static str, message: String },
    Running { since: Timestamp },
    Terminated(Terminated),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Terminated {
    pub code: i32,
    pub signal: Option<i32>,
    pub reason: &'static str,
    pub message: String,
    pub started: Timestamp,
    pub finished: Timestamp,
}

/// A container and its history.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ContainerState {
    pub name: String,
    pub image: String,
    pub state: State,
    pub last: Option<Terminated>,
    pub restarts: i32,
}

impl ContainerState {
    pub fn new(container: &Container) -> Self {
        Self {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            state: State::Waiting { reason: "ContainerCreating", message: String::new() },
            last: None,
            restarts: 0,
        }
    }

    fn running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    fn json(&self) -> Value {
        let state = match &self.state {
            State::Waiting { reason, message } => json!({"waiting": {"reason": reason, "message": message}}),
            State::Running { since } => json!({"running": {"startedAt": time(*since)}}),
            State::Terminated(ended) => terminated(ended),
        };
        json!({
            "name": self.name,
            "image": self.image,
            "imageID": self.image,
            "containerID": format!("lab://{}", self.name),
            "ready": self.running(),
            "started": self.running(),
            "restartCount": self.restarts,
            "state": state,
            "lastState": self.last.as_ref().map_or_else(|| json!({}), terminated),
        })
    }
}

fn terminated(ended: &Terminated) -> Value {
    json!({"terminated": {
        "exitCode": ended.code,
        "signal": ended.signal,
        "reason": ended.reason,
        "message": ended.message,
        "startedAt": time(ended.started),
        "finishedAt": time(ended.finished),
    }})
}

fn time(at: Timestamp) -> String {
    at.strftime("%FT%TZ").to_string()
}

fn conditions(started: bool, ready: bool, reason: Option<&str>) -> Value {
    let now = time(Timestamp::now());
    let condition = |kind: &str, holds: bool, reason: Option<&str>| {
        let value = if holds { "True" } else { "False" };
        let mut condition = json!({"type": kind, "status": value, "lastTransitionTime": now});
        if let Some(reason) = reason.filter(|_| !holds) {
            condition["reason"] = reason.into();
        }
        condition
    };
    json!([
        condition("PodScheduled", true, None),
        condition("Initialized", started, reason),
        condition("ContainersReady", ready, reason),
        condition("Ready", ready, reason),
    ])
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|spec| &spec.containers)
}

fn started_at(pod: &Pod) -> String {
    time(pod.creation_timestamp().map_or_else(Timestamp::now, |created| created.0))
}

/// A pod that waits for something before its containers can be made.
pub(crate) fn creating(pod: &Pod, waits_for: &str) -> Value {
    let statuses: Vec<Value> = containers(pod)
        .map(|container| {
            let mut state = ContainerState::new(container);
            state.state = State::Waiting { reason: "ContainerCreating", message: waits_for.to_owned() };
            state.json()
        })
        .collect();
    json!({
        "phase": "Pending",
        "startTime": started_at(pod),
        "conditions": conditions(false, false, Some("ContainersNotInitialized")),
        "containerStatuses": statuses,
    })
}

/// A simulated pod that serves, or is not ready to.
pub(crate) fn simulated(pod: &Pod, address: &str, ready: bool) -> Value {
    let statuses: Vec<Value> = containers(pod)
        .map(|container| {
            let mut state = ContainerState::new(container);
            state.state = State::Running { since: Timestamp::now() };
            let mut json = state.json();
            json["ready"] = ready.into();
            json
        })
        .collect();
    json!({
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": started_at(pod),
        "conditions": conditions(true, ready, Some("ContainersNotReady")),
        "containerStatuses": statuses,
    })
}

/// A simulated pod that has ended.
pub(crate) fn completed(pod: &Pod, address: &str, code: i32) -> Value {
    let now = Timestamp::now();
    let states: Vec<ContainerState> = containers(pod)
        .map(|container| {
            let mut state = ContainerState::new(container);
            state.state = State::Terminated(Terminated {
                code,
                signal: None,
                reason: if code == 0 { "Completed" } else { "Error" },
                message: String::new(),
                started: now,
                finished: now,
            });
            state
        })
        .collect();
    processes(pod, address, &[], &states, true)
}

/// A pod whose containers are processes. `over` says that none will be started again.
pub(crate) fn processes(
    pod: &Pod,
    address: &str,
    init: &[ContainerState],
    main: &[ContainerState],
    over: bool,
) -> Value {
    let initialized =
        init.iter().all(|state| matches!(&state.state, State::Terminated(ended) if ended.code == 0));
    // One that never ran has not succeeded either: the pod was deleted before it could.
    let failed =
        |state: &ContainerState| !matches!(&state.state, State::Terminated(ended) if ended.code == 0);
    let phase = if over {
        if init.iter().chain(main).any(failed) { "Failed" } else { "Succeeded" }
    } else if main
        .iter()
        .any(|state| !matches!(state.state, State::Waiting { reason: "ContainerCreating", .. }))
    {
        "Running"
    } else {
        "Pending"
    };
    let ready = !over && !main.is_empty() && main.iter().all(ContainerState::running);
    let reason = if over { "PodCompleted" } else { "ContainersNotReady" };
    let mut status = json!({
        "phase": phase,
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": started_at(pod),
        "conditions": conditions(initialized, ready, Some(reason)),
        "containerStatuses": main.iter().map(ContainerState::json).collect::<Vec<_>>(),
    });
    if !init.is_empty() {
        status["initContainerStatuses"] = init.iter().map(ContainerState::json).collect();
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
        )
        .unwrap()
    }

    #[test]
    fn a_pod_that_returned_an_error_has_failed() {
        let status = completed(&pod(), "10.0.0.1", 3);
        assert_eq!(status["phase"], "Failed");
        assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3);
    }

    #[test]
    fn a_simulated_pod_is_ready_unless_it_is_told_not_to_be() {
        let ready = |ready| simulated(&pod(), "10.0.0.1", ready)["conditions"][3]["status"].clone();
        assert_eq!(ready(true), "True");
        assert_eq!(ready(false), "False");
    }
}
