//! Runs one pod of the mover image: its volumes, then its containers as processes, until they have
//! ended for good or the pod is deleted.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, Pod, Secret};
use kube::{Api, ResourceExt};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::Kubelet;
use super::command::{self, Mount};
use super::logs;
use super::security;
use super::status::{self, ContainerState, State, Terminated};
use super::volumes::{Maker, Token, Volumes};
use crate::controllers::namespace_of;
use crate::programs::executable;
use crate::programs::process::{Exit, Process, Run};

/// The pause before a container's first restart, doubled with each one up to the limit.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// The pause before volumes that could not be made, or a status that could not be written, are tried again.
const RETRY: Duration = Duration::from_millis(500);
/// A status is tried so often; the next change of the pod writes a newer one.
const STATUS_TRIES: usize = 20;
/// The API server takes no more of a termination message.
const MESSAGE_BYTES: usize = 4096;
const MESSAGE_MODE: u32 = 0o666;
/// What a container's process sees of the lab's own environment.
const PASSED_ON: &[&str] = &["PATH", "RUST_LOG", "RUST_BACKTRACE", "LLVM_PROFILE_FILE"];

/// Handle of a running pod. Dropping it kills the processes.
pub(super) struct Worker {
    stop: watch::Sender<Option<Duration>>,
    task: AbortOnDropHandle<()>,
}

impl Worker {
    pub fn start(kubelet: Arc<Kubelet>, pod: Pod, dir: PathBuf, address: String) -> Self {
        let (stop, stopped) = watch::channel(None);
        let of = |containers: Option<&Vec<Container>>| {
            containers.into_iter().flatten().map(ContainerState::new).collect()
        };
        let spec = pod.spec.as_ref();
        let states = States {
            init: of(spec.and_then(|spec| spec.init_containers.as_ref())),
            main: of(spec.map(|spec| &spec.containers)),
            over: false,
        };
        let running = Running {
            kubelet,
            pod,
            dir,
            address,
            stopped,
            states: Mutex::new(states),
            reporting: tokio::sync::Mutex::default(),
        };
        Self { stop, task: AbortOnDropHandle::new(tokio::spawn(async move { running.run().await })) }
    }

    /// Ends the processes: SIGTERM now, SIGKILL after the grace period.
    pub fn stop(&self, grace_seconds: u64) {
        self.stop.send_if_modified(|stop| {
            let new = Some(Duration::from_secs(grace_seconds));
            // A later deletion may only shorten the grace.
            let changes = stop.is_none() || new < *stop;
            if changes {
                *stop = new;
            }
            changes
        });
    }

    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

struct States {
    init: Vec<ContainerState>,
    main: Vec<ContainerState>,
    over: bool,
}

#[derive(Clone, Copy)]
enum Which {
    Init(usize),
    Main(usize),
}

struct Running {
    kubelet: Arc<Kubelet>,
    pod: Pod,
    dir: PathBuf,
    address: String,
    stopped: watch::Receiver<Option<Duration>>,
    states: Mutex<States>,
    /// Writes one status at a time, so that an older one cannot come last.
    reporting: tokio::sync::Mutex<()>,
}

impl Running {
    async fn run(self) {
        if let Some(volumes) = self.volumes().await {
            let containers = self.containers(&volumes);
            tokio::select! {
                () = containers => {}
                () = self.renew(&volumes.tokens) => {}
            }
        }
        self.lock().over = true;
        self.report().await;
        // Tokens and secrets do not outlive the pod; its logs do.
        drop(std::fs::remove_dir_all(self.dir.join("volumes")));
        if self.is_stopped()
            && let Err(error) = self.kubelet.remove(&self.pod).await
        {
            // The object is still there; the next look at it removes it.
            tracing::debug!(pod = self.pod.name_any(), %error, "a pod that has ended was not removed yet");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, States> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        self.stopped.borrow().is_some()
    }

    async fn until_stopped(&self) -> Duration {
        let mut stopped = self.stopped.clone();
        match stopped.wait_for(Option::is_some).await.map(|grace| grace.unwrap_or_default()) {
            Ok(grace) => grace,
            // The worker's handle is gone, and this task is about to be.
            Err(_) => std::future::pending().await,
        }
    }

    fn maker(&self) -> Maker<'_> {
        Maker { kubelet: &self.kubelet, pod: &self.pod, address: &self.address, dir: &self.dir }
    }

    /// Makes the volumes, again and again until all are there or the pod is deleted.
    async fn volumes(&self) -> Option<Volumes> {
        let mut told = String::new();
        loop {
            match self.maker().make().await {
                Ok(volumes) => return Some(volumes),
                Err(error) => {
                    let error = error.to_string();
                    if told != error {
                        for state in &mut self.lock().main {
                            state.state =
                                State::Waiting { reason: "ContainerCreating", message: error.clone() };
                        }
                        self.report().await;
                        told = error;
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                _ = self.until_stopped() => return None,
            }
        }
    }

    /// Keeps the tokens fresh; never returns.
    async fn renew(&self, tokens: &[Token]) {
        let each = tokens.iter().map(|token| async move {
            loop {
                tokio::time::sleep(token.life()).await;
                while let Err(error) = self.maker().renew(token).await {
                    tracing::debug!(pod = self.pod.name_any(), %error, "a token will be renewed");
                    tokio::time::sleep(RETRY).await;
                }
            }
        });
        join_all(each).await.into_iter().for_each(|(): ()| {});
        std::future::pending::<()>().await;
    }

    async fn containers(&self, volumes: &Volumes) {
        let Some(spec) = &self.pod.spec else { return };
        for (at, container) in spec.init_containers.iter().flatten().enumerate() {
            if self.container(container, Which::Init(at), volumes).await != Some(0) {
                return;
            }
        }
        let all = spec.containers.iter().enumerate();
        join_all(all.map(|(at, container)| self.container(container, Which::Main(at), volumes))).await;
    }

    /// Runs a container until it is not to be started again; its last exit code.
    async fn container(&self, container: &Container, which: Which, volumes: &Volumes) -> Option<i32> {
        let policy =
            self.pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always");
        let mut pause = FIRST_PAUSE;
        loop {
            let ended = self.once(container, which, volumes).await;
            let code = ended.code;
            let again = match (policy, which) {
                ("Always", Which::Main(_)) => true,
                ("Never", _) => false,
                _ => code != 0,
            };
            if !again || self.is_stopped() {
                self.change(which, |state| state.state = State::Terminated(ended)).await;
                return Some(code);
            }
            let message = format!("back-off {} ms restarting failed container", pause.as_millis());
            self.change(which, |state| {
                state.last = Some(ended);
                state.state = State::Waiting { reason: "CrashLoopBackOff", message };
            })
            .await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = self.until_stopped() => return Some(code),
            }
            pause = LAST_PAUSE.min(pause * 2);
            self.change(which, |state| state.restarts += 1).await;
        }
    }

    /// Runs the container's process once.
    async fn once(&self, container: &Container, which: Which, volumes: &Volumes) -> Terminated {
        let started = Timestamp::now();
        let log = logs::file(&self.dir, &container.name);
        let message_file = self.dir.join(format!("{}.termination", container.name));
        drop(std::fs::remove_file(&message_file));
        let mounts = volumes.mounts(container);
        let process = match self.command(container, &mounts, &message_file, log.clone()).await {
            Ok(run) => Process::spawn(run).await.map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        let process = match process {
            Ok(process) => process,
            Err(message) => {
                let finished = Timestamp::now();
                return Terminated {
                    code: 128,
                    signal: None,
                    reason: "StartError",
                    message,
                    started,
                    finished,
                };
            }
        };
        self.change(which, |state| state.state = State::Running { since: started }).await;
        let exit = tokio::select! {
            exit = process.wait() => exit,
            grace = self.until_stopped() => {
                process.terminate();
                if let Ok(exit) = process.wait_within(grace).await {
                    exit
                } else {
                    process.kill();
                    process.wait().await
                }
            }
        };
        Terminated {
            code: exit.code(),
            signal: if let Exit::Signal(signal) = exit { Some(signal) } else { None },
            reason: if exit.success() { "Completed" } else { "Error" },
            message: message(container, exit, &message_file, &log),
            started,
            finished: Timestamp::now(),
        }
    }

    async fn command(
        &self,
        container: &Container,
        mounts: &[Mount],
        message_file: &Path,
        log: PathBuf,
    ) -> Result<Run, String> {
        let mut values: BTreeMap<String, String> = BTreeMap::new();
        for source in container.env_from.iter().flatten() {
            let prefix = source.prefix.clone().unwrap_or_default();
            let pairs = match (&source.config_map_ref, &source.secret_ref) {
                (Some(map), _) => self.config_map(&map.name).await?,
                (None, Some(secret)) => self.secret(&secret.name).await?,
                (None, None) => BTreeMap::new(),
            };
            values.extend(pairs.into_iter().map(|(key, value)| (format!("{prefix}{key}"), value)));
        }
        for variable in container.env.iter().flatten() {
            let value = self.value(variable).await?;
            let value = command::expand(&value, &values);
            values.insert(variable.name.clone(), value);
        }
        let (program, args) = if let Some(found) = command::of_shell(container, &values, mounts) {
            found
        } else {
            let program = executable::path().map_err(|error| error.to_string())?;
            (program.into(), command::arguments(container, &values, mounts)?)
        };
        let inherited =
            PASSED_ON.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?)));
        let mut env: Vec<(String, OsString)> = inherited.collect();
        env.push(("HOSTNAME".to_owned(), self.pod.name_any().into()));
        env.extend(values.iter().map(|(name, value)| (name.clone(), command::rewrite(value, mounts).into())));
        env.push(("TERMINATION_LOG".to_owned(), message_file.into()));
        let mut credentials = None;
        if security::applies() {
            credentials = security::credentials(&self.pod, container);
            // Whoever it is may leave its last words.
            std::fs::write(message_file, b"")
                .and_then(|()| std::fs::set_permissions(message_file, Permissions::from_mode(MESSAGE_MODE)))
                .map_err(|error| format!("making {}: {error}", message_file.display()))?;
        }
        Ok(Run { program, args, env, inherit_env: false, credentials, dir: Some(self.dir.clone()), log })
    }

    async fn value(&self, variable: &EnvVar) -> Result<String, String> {
        let Some(from) = &variable.value_from else { return Ok(variable.value.clone().unwrap_or_default()) };
        if let Some(field) = &from.field_ref {
            return command::field(&self.pod, &field.field_path, &self.address)
                .ok_or_else(|| format!("variable {}: unknown field {}", variable.name, field.field_path));
        }
        let (pairs, object, key, optional) = match (&from.config_map_key_ref, &from.secret_key_ref) {
            (Some(of), _) => (self.config_map(&of.name).await, &of.name, &of.key, of.optional),
            (None, Some(of)) => (self.secret(&of.name).await, &of.name, &of.key, of.optional),
            (None, None) => return Ok(String::new()),
        };
        match pairs.map(|pairs| pairs.get(key).cloned()) {
            Ok(Some(value)) => Ok(value),
            Ok(None) | Err(_) if optional == Some(true) => Ok(String::new()),
            Ok(None) => Err(format!("couldn't find key {key} in {object}")),
            Err(error) => Err(error),
        }
    }

    async fn config_map(&self, name: &str) -> Result<BTreeMap<String, String>, String> {
        let api = Api::<ConfigMap>::namespaced(self.kubelet.context.client.clone(), &namespace_of(&self.pod));
        let map = api.get(name).await.map_err(|error| format!("reading ConfigMap {name}: {error}"))?;
        Ok(map.data.unwrap_or_default())
    }

    async fn secret(&self, name: &str) -> Result<BTreeMap<String, String>, String> {
        let api = Api::<Secret>::namespaced(self.kubelet.context.client.clone(), &namespace_of(&self.pod));
        let secret = api.get(name).await.map_err(|error| format!("reading Secret {name}: {error}"))?;
        let data = secret.data.unwrap_or_default().into_iter();
        Ok(data.map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect())
    }

    async fn change(&self, which: Which, change: impl FnOnce(&mut ContainerState)) {
        {
            let mut states = self.lock();
            let state = match which {
                Which::Init(at) => states.init.get_mut(at),
                Which::Main(at) => states.main.get_mut(at),
            };
            if let Some(state) = state {
                change(state);
            }
        }
        self.report().await;
    }

    async fn report(&self) {
        let _one = self.reporting.lock().await;
        for _ in 0..STATUS_TRIES {
            let status = {
                let states = self.lock();
                status::processes(&self.pod, &self.address, &states.init, &states.main, states.over)
            };
            match self.kubelet.write(&self.pod, &status).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(pod = self.pod.name_any(), %error, "a pod's status will be written again");
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// The termination message: what the process left, else its last lines if that is asked for.
fn message(container: &Container, exit: Exit, file: &Path, log: &Path) -> String {
    let mut bytes = std::fs::read(file).unwrap_or_default();
    let fall_back = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if bytes.is_empty() && fall_back && !exit.success() {
        bytes = std::fs::read(log).unwrap_or_default();
        bytes.drain(..bytes.len().saturating_sub(MESSAGE_BYTES));
    }
    bytes.truncate(MESSAGE_BYTES);
    String::from_utf8_lossy(&bytes).into_owned()
}
