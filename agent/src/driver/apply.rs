//! One effect per action.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use warren_proto::control::{Container, Hook, PodInstruction, hook::Handler};

use super::{
    Driver,
    probing::{self, Reach},
};
use crate::{
    netd::Links,
    plan::{Action, Phase, Why, events::Event, probes::ProbeKind},
    report::Subject,
    runtime::{
        ContainerEngine, EngineError, ImageConfig, secrecy,
        spec::{self, InstanceSpec},
    },
    volumes::{Mounted, Volumes},
};

/// A post-start hook that hangs must not hold the container for ever.
const POST_START: Duration = Duration::from_secs(600);

/// Why an action did not succeed.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Trouble {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// One action under way.
pub(super) struct Job<E, L> {
    pub(super) driver: Arc<Driver<E, L>>,
    pub(super) subject: Subject,
    pub(super) instruction: Option<Arc<PodInstruction>>,
}

impl<E: ContainerEngine, L: Links> Job<E, L> {
    pub(super) async fn run(self, action: Action) -> Result<(), Trouble> {
        match action {
            Action::PrepareVolumes => self.prepare_volumes().await,
            Action::RenewTokens => self.renew_tokens().await,
            Action::CreateSandbox { attempt } => self.create_sandbox(attempt).await,
            Action::StartSandbox { id } => self.start_sandbox(&id).await,
            Action::Attach { sandbox } => self.attach(&sandbox).await,
            Action::PullImage { name, attempt, image, policy } => {
                self.pull_image(&name, attempt, &image, policy).await
            }
            Action::CreateContainer { kind, name, attempt, streak, sandbox } => {
                let instance = InstanceSpec { kind, attempt, streak, sandbox: &sandbox };
                self.create_container(&name, &instance).await
            }
            Action::StartContainer { id, name, .. } => self.start_container(&id, &name).await,
            Action::StopContainer { id, name, grace, why } => {
                self.stop_container(&id, &name, grace, why).await
            }
            Action::KillContainer { id, .. } => self.kill(&id).await,
            Action::RunProbe { id, name, kind } => self.run_probe(&id, &name, kind).await,
            Action::RemoveContainer { id } => {
                self.driver
                    .engine
                    .remove(&id)
                    .await
                    .map_err(|error| engine_trouble("FailedKillPod", &error))?;
                self.refresh(&id).await
            }
            Action::Detach => self.detach().await,
            Action::RemoveData => self.remove_data().await,
        }
    }

    // ---- words

    pub(super) fn say(&self, container: &str, reason: &'static str, message: String) {
        self.event(container, false, reason, message);
    }
    pub(super) fn warn(&self, container: &str, reason: &'static str, message: String) {
        self.event(container, true, reason, message);
    }
    fn event(&self, container: &str, warning: bool, reason: &'static str, message: String) {
        let init = self
            .instruction
            .as_ref()
            .is_some_and(|pod| pod.init_containers.iter().any(|spec| spec.name == container));
        let event = Event { container: container.to_owned(), init, warning, reason, message };
        self.driver.outbox.event(&self.subject, event);
    }

    /// The instruction; none when the pod went out of the feed since the action was planned.
    pub(super) fn wanted(&self) -> Result<&Arc<PodInstruction>, Trouble> {
        self.instruction.as_ref().ok_or_else(|| Trouble::new("Gone", "the pod is no longer wanted"))
    }

    fn spec_of(&self, name: &str) -> Option<&Container> {
        let pod = self.instruction.as_ref()?;
        pod.init_containers.iter().chain(&pod.containers).find(|spec| spec.name == name)
    }

    /// Brings the inventory up to date before the slot is given back, so that the next plan sees the effect.
    async fn refresh(&self, id: &str) -> Result<(), Trouble> {
        let refreshed = self.driver.inventory.refresh(id).await;
        refreshed.map_err(|error| engine_trouble("EngineUnavailable", &error))
    }

    // ---- the pod

    async fn prepare_volumes(&self) -> Result<(), Trouble> {
        let pod = Arc::clone(self.wanted()?);
        let tokens = self.first_tokens(&pod).await?;
        let (volumes, used) = (Arc::clone(&self.driver.volumes), Arc::clone(&pod));
        let outcome = blocking(move || volumes.prepare(&used)).await?;
        if let Err(error) = outcome {
            let message = format!("MountVolume.SetUp failed: {error}");
            self.warn("", "FailedMount", message.clone());
            return Err(Trouble::new("FailedMount", message));
        }
        // The instruction may have changed while the files were written.
        let is_current =
            self.driver.instruction(&self.subject.uid).is_some_and(|now| now.volumes == pod.volumes);
        self.driver.remember(&self.subject.uid, |memory| {
            (memory.volumes_ready, memory.renew_at) = (is_current, tokens.renew_at);
        });
        Ok(())
    }

    async fn create_sandbox(&self, attempt: u32) -> Result<(), Trouble> {
        let pod = self.wanted()?;
        let driver = &self.driver;
        if attempt > 0 {
            self.say(
                "",
                "SandboxChanged",
                "Pod sandbox changed, it will be killed and re-created.".to_owned(),
            );
        }
        let (volumes, used) = (Arc::clone(&driver.volumes), Arc::clone(pod));
        let hosts = blocking(move || volumes.hosts(&used)).await?;
        let hosts = hosts.map_err(|error| self.sandbox_trouble(&error.to_string()))?;
        let mut spec = spec::sandbox(&driver.around, pod, attempt, Volumes::memory_volumes(pod), Some(hosts));
        if let Some(dns) = &pod.dns {
            let dns = crate::runtime::resolver::of_pod(dns, &crate::runtime::resolver::NodeResolver::read());
            (spec.dns, spec.dns_search, spec.dns_options) = (dns.nameservers, dns.searches, dns.options);
        }
        let id = driver.engine.create(spec).await.map_err(|error| {
            let mend = match error {
                EngineError::NotFound(_) => format!(
                    "; the sandbox image {} is not on this engine: `warren up` or the installer loads it",
                    driver.around.sandbox_image
                ),
                _ => String::new(),
            };
            self.sandbox_trouble(&format!("{error}{mend}"))
        })?;
        self.start_sandbox(&id).await
    }

    async fn start_sandbox(&self, id: &str) -> Result<(), Trouble> {
        let started = self.driver.engine.start(id).await;
        self.refresh(id).await?;
        started.map_err(|error| self.sandbox_trouble(&error.to_string()))
    }

    fn sandbox_trouble(&self, problem: &str) -> Trouble {
        let message = format!("Failed to create pod sandbox: {problem}");
        self.warn("", "FailedCreatePodSandBox", message.clone());
        Trouble::new("FailedCreatePodSandBox", message)
    }

    async fn attach(&self, sandbox: &str) -> Result<(), Trouble> {
        let pod = self.wanted()?;
        let driver = &self.driver;
        // A process id may have been reused since the last look.
        self.refresh(sandbox).await?;
        let Some(found) = driver.inventory.get(sandbox).filter(|found| found.instance.is_live()) else {
            return Ok(());
        };
        driver.state.lock().link_changes += 1;
        let namespace = format!("/proc/{}/ns/net", found.pid);
        let full_name = format!("{}/{}", pod.namespace, pod.name);
        let attached = driver.links.attach(&pod.uid, &pod.address, &namespace, &full_name).await;
        driver.state.lock().link_changes += 1;
        if let Err(error) = attached {
            driver.remember(&pod.uid, |memory| (memory.relink, memory.attached_to) = (false, None));
            let message =
                format!("Failed to create pod sandbox: failed to set up the pod's network: {error}");
            self.warn("", "FailedCreatePodSandBox", message.clone());
            return Err(Trouble::new("FailedCreatePodSandBox", message));
        }
        driver.remember(&pod.uid, |memory| {
            (memory.relink, memory.attached_to) = (false, Some(sandbox.to_owned()));
        });
        Ok(())
    }

    async fn detach(&self) -> Result<(), Trouble> {
        let (driver, uid) = (&self.driver, &self.subject.uid);
        driver.state.lock().link_changes += 1;
        let detached = driver.links.detach(uid).await;
        driver.state.lock().link_changes += 1;
        detached.map_err(|error| Trouble::new("FailedKillPod", format!("cannot unplug the pod: {error}")))?;
        driver.remember(uid, |memory| {
            (memory.linked, memory.relink, memory.attached_to) = (false, false, None);
        });
        Ok(())
    }

    async fn remove_data(&self) -> Result<(), Trouble> {
        let uid = self.subject.uid.clone();
        let removed = self.driver.engine.remove_volumes(&uid).await;
        removed.map_err(|error| engine_trouble("FailedKillPod", &error))?;
        let volumes = Arc::clone(&self.driver.volumes);
        let removed = blocking(move || volumes.remove(&uid)).await?;
        removed.map_err(|error| {
            Trouble::new("FailedKillPod", format!("cannot delete the pod's volumes: {error}"))
        })?;
        self.driver
            .remember(&self.subject.uid, |memory| (memory.has_data, memory.volumes_ready) = (false, false));
        Ok(())
    }

    // ---- its containers

    async fn create_container(&self, name: &str, instance: &InstanceSpec<'_>) -> Result<(), Trouble> {
        let pod = Arc::clone(self.wanted()?);
        let Some(container) = self.spec_of(name).cloned() else { return Ok(()) };
        let config_error = |message: String| {
            self.warn(name, "Failed", format!("Error: {message}"));
            Trouble::new("CreateContainerConfigError", message)
        };
        let image = self.image_of(name, &container.image).await?;
        let mounted = self.mounts(&pod, &container, instance.attempt).await?;
        let specs = mounted.map_err(config_error)?;
        let mounts = specs.specs.clone();
        let spec = spec::member(&self.driver.around, &pod, &container, &image, instance, mounts)
            .map_err(config_error)?;
        let created = self.driver.engine.create(spec).await;
        drop(specs);
        let id = created.map_err(|error| {
            let message = secrecy::tell(&container, &error.to_string());
            self.warn(name, "Failed", format!("Error: {message}"));
            Trouble::new("CreateContainerError", message)
        })?;
        self.refresh(&id).await?;
        self.say(name, "Created", format!("Created container: {name}"));
        Ok(())
    }

    /// What the image says of itself, which decides about the container.
    async fn image_of(&self, name: &str, image: &str) -> Result<ImageConfig, Trouble> {
        let trouble = |message: String| {
            self.warn(name, "Failed", format!("Error: {message}"));
            Trouble::new("CreateContainerError", message)
        };
        match self.driver.engine.image(image).await {
            Ok(Some(config)) => Ok(config),
            Ok(None) => {
                // It was there a moment ago: a user of the engine removed it, and it is fetched again.
                self.driver.remember(&self.subject.uid, |memory| drop(memory.images.remove(name)));
                Err(trouble(format!(
                    "image \"{image}\" was removed from this node before its container was made"
                )))
            }
            Err(error) => Err(trouble(error.to_string())),
        }
    }

    /// What the engine is to mount, in place until the answer is dropped.
    async fn mounts(
        &self,
        pod: &Arc<PodInstruction>,
        container: &Container,
        attempt: u32,
    ) -> Result<Result<Mounted, String>, Trouble> {
        let mut held = BTreeMap::new();
        for volume in Volumes::held_parts(pod, container) {
            let path = self.driver.engine.volume_path(&volume).await;
            let path = path.map_err(|error| engine_trouble("CreateContainerError", &error))?;
            held.extend(path.map(|path| (volume, path)));
        }
        let (volumes, used, wants) = (Arc::clone(&self.driver.volumes), Arc::clone(pod), container.clone());
        let mounted = blocking(move || volumes.mounts(&used, &wants, attempt, &held)).await?;
        Ok(mounted.map_err(|error| secrecy::tell(container, &error.to_string())))
    }

    async fn start_container(&self, id: &str, name: &str) -> Result<(), Trouble> {
        let mut mounted = None;
        if let (Some(pod), Some(container), Some(found)) =
            (&self.instruction, self.spec_of(name), self.driver.inventory.get(id))
        {
            let prepared = self.mounts(pod, container, found.instance.attempt).await?;
            mounted = Some(prepared.map_err(|message| {
                self.warn(name, "Failed", format!("Error: failed to start container \"{name}\": {message}"));
                Trouble::new("RunContainerError", message)
            })?);
        }
        let started = self.driver.engine.start(id).await;
        drop(mounted);
        self.refresh(id).await?;
        if let Err(error) = started {
            let told = match self.spec_of(name) {
                Some(spec) => secrecy::tell(spec, &error.to_string()),
                None => error.to_string(),
            };
            self.warn(name, "Failed", format!("Error: failed to start container \"{name}\": {told}"));
            let phase = self.driver.inventory.get(id).map(|found| found.instance.phase);
            // An engine that says itself why it could not start leaves a dead container: the back-off takes over.
            return match phase {
                Some(Phase::Exited(_)) => Ok(()),
                _ => Err(Trouble::new("RunContainerError", told)),
            };
        }
        self.say(name, "Started", format!("Started container {name}"));
        let Some(hook) = self.spec_of(name).and_then(|spec| spec.post_start.as_ref()) else { return Ok(()) };
        if let Err(problem) = self.run_hook(id, hook, POST_START).await {
            self.warn(name, "FailedPostStartHook", format!("PostStartHook failed: {problem}"));
            self.say(name, "Killing", "FailedPostStartHook".to_owned());
            return self.kill(id).await;
        }
        Ok(())
    }

    async fn stop_container(&self, id: &str, name: &str, grace: Duration, why: Why) -> Result<(), Trouble> {
        let message = match why {
            Why::Liveness => format!("Container {name} failed liveness probe, will be restarted"),
            Why::Startup => format!("Container {name} failed startup probe, will be restarted"),
            Why::ImageChanged => format!("Container {name} definition changed, will be restarted"),
            Why::Terminate | Why::Ended | Why::Orphan | Why::NotWanted | Why::SandboxGone => {
                format!("Stopping container {name}")
            }
        };
        self.say(name, "Killing", message);
        if grace.is_zero() {
            return self.kill(id).await;
        }
        if let Some(hook) = self.spec_of(name).and_then(|spec| spec.pre_stop.as_ref())
            && let Err(problem) = self.run_hook(id, hook, grace).await
        {
            self.warn(name, "FailedPreStopHook", format!("PreStopHook failed: {problem}"));
        }
        let signal = self.driver.inventory.get(id).map(|found| found.instance.stop_signal);
        let signal = signal.unwrap_or_else(|| "SIGTERM".to_owned());
        let sent = self.driver.engine.signal(id, &signal).await;
        sent.map_err(|error| engine_trouble("FailedKillPod", &error))
    }

    async fn kill(&self, id: &str) -> Result<(), Trouble> {
        let killed = self.driver.engine.signal(id, "SIGKILL").await;
        killed.map_err(|error| engine_trouble("FailedKillPod", &error))
    }

    async fn run_hook(&self, id: &str, hook: &Hook, limit: Duration) -> Result<(), String> {
        let asked = match &hook.handler {
            Some(Handler::Exec(exec)) => probing::exec(&*self.driver.engine, id, exec, limit).await,
            Some(Handler::Http(http)) => probing::http(http, &self.reach(&http.host), limit).await,
            Some(Handler::Tcp(tcp)) => probing::tcp(tcp, &self.reach(&tcp.host), limit).await,
            Some(Handler::SleepSeconds(seconds)) => {
                tokio::time::sleep(limit.min(Duration::from_secs((*seconds).into()))).await;
                return Ok(());
            }
            None => return Ok(()),
        };
        asked.map(drop)
    }

    /// How probes and hooks reach the pod, or the host that they name.
    fn reach(&self, host: &str) -> Reach {
        let address = self.instruction.as_ref().map(|pod| pod.address.clone()).unwrap_or_default();
        if host.is_empty() {
            return Reach { address, sandbox: Err("it is reached by its address".to_owned()) };
        }
        let sandbox = self.driver.find_sandbox(&self.subject.uid);
        Reach { address, sandbox: sandbox.map(|sandbox| (sandbox.pid, sandbox.instance.id)) }
    }

    async fn run_probe(&self, id: &str, name: &str, kind: ProbeKind) -> Result<(), Trouble> {
        let Some(probe) = self.spec_of(name).and_then(|spec| kind.of(spec)).cloned() else {
            return Ok(());
        };
        let reach = self.reach(probing::host_of(&probe));
        let answer = probing::ask(&*self.driver.engine, id, &probe, &reach).await;
        let (mut changed, mut run) = (false, 0);
        self.driver.remember(&self.subject.uid, |memory| {
            let tracker = memory.probes.entry((id.to_owned(), kind)).or_default();
            changed = tracker.record(&probe, answer.is_ok());
            run = tracker.run;
        });
        metrics::counter!("warren_agent_probes_total", "kind" => kind.title(), "ok" => answer.is_ok().to_string())
            .increment(1);
        if !changed && run != 1 {
            return Ok(());
        }
        match answer {
            Ok(None) => {}
            Ok(Some(warning)) => {
                self.warn(name, "ProbeWarning", format!("{} probe warning: {warning}", kind.title()));
            }
            Err(problem) => self.warn(name, "Unhealthy", format!("{} probe failed: {problem}", kind.title())),
        }
        Ok(())
    }
}

fn engine_trouble(reason: &'static str, error: &EngineError) -> Trouble {
    Trouble::new(reason, error.to_string())
}

/// File system work, off the asynchronous threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Trouble> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Trouble::new("InternalError", error.to_string()))
}
