//! The attack test: the real controller under every attack that anybody who reaches its port can think of, in a control
//! group with 256 MiB, while a member and an administrator go on working.
//!
//! The methods come from the contract and the paths from discovery, so that a new one is attacked too. Runs as root.

#![allow(clippy::disallowed_methods, reason = "a test starts the program under test")]

mod api;
mod calls;
mod cgroup;
mod fixture;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fixture::{Controller, PATIENCE, Who};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use warren_proto::control::{Consumer, HeartbeatRequest, control_client::ControlClient};
use warren_runtime::{CancellationToken, identity::Identity};

const LIMIT: u64 = 256 << 20;

/// One heartbeat after another on one stream, each answered.
async fn beat(
    controller: warren_runtime::connection::Controller,
    stop: CancellationToken,
    beats: Arc<AtomicUsize>,
) {
    let mut client = ControlClient::new(controller.channel().await.expect("a connection"));
    let (sender, outgoing) = mpsc::channel(1);
    let beat = |sequence| HeartbeatRequest { consumer: Consumer::Agent.into(), sequence };
    sender.send(beat(0)).await.expect("room");
    let mut answers = client.heartbeat(ReceiverStream::new(outgoing)).await.expect("a stream").into_inner();
    for sequence in 0.. {
        let answer = tokio::time::timeout(PATIENCE, answers.message()).await.expect("an answer in time");
        let answer = answer.expect("the stream goes on").expect("no end");
        assert_eq!(answer.sequence, sequence);
        beats.fetch_add(1, Ordering::Relaxed);
        if stop.is_cancelled() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        sender.send(beat(sequence + 1)).await.expect("room");
    }
}

/// What kubectl does, on a connection of its own each time.
async fn work(administrator: Who, stop: CancellationToken, done: Arc<AtomicUsize>) {
    while !stop.is_cancelled() {
        let answer = administrator.get("/api/v1/namespaces").await.expect("an answer");
        assert_eq!(answer.code, 200);
        done.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

struct Bystanders {
    stop: CancellationToken,
    tasks: tokio::task::JoinSet<()>,
    beats: Arc<AtomicUsize>,
    answers: Arc<AtomicUsize>,
}

impl Bystanders {
    fn start(controller: &Controller, identity: Identity) -> Self {
        let (stop, beats, answers) = (CancellationToken::new(), Arc::default(), Arc::default());
        let state = controller.state(&identity.name);
        let member =
            warren_runtime::connection::Controller::new(&controller.address.to_string(), identity, state);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(beat(member, stop.clone(), Arc::clone(&beats)));
        tasks.spawn(work(controller.administrator(), stop.clone(), Arc::clone(&answers)));
        Self { stop, tasks, beats, answers }
    }

    fn counts(&self) -> (usize, usize) {
        (self.beats.load(Ordering::Relaxed), self.answers.load(Ordering::Relaxed))
    }

    /// Both have gone on since.
    async fn still_work(&mut self, since: (usize, usize)) {
        let going_on = async {
            while self.counts().0 <= since.0 || self.counts().1 <= since.1 {
                if let Some(ended) = self.tasks.try_join_next() {
                    ended.expect("a bystander was hurt");
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, going_on)
            .await
            .expect("the member and the administrator go on working");
    }

    async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a bystander was hurt");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_controller_outlives_every_attack_and_others_go_on_working() {
    let mut controller = Controller::start(LIMIT).await;
    let (_, identity) = controller.member("bystander").await;
    let (member, _) = controller.member("mallory").await;
    let (guest, administrator) = (controller.guest(), controller.administrator());
    let served = Arc::new(api::discover(&administrator).await);
    let mut bystanders = Bystanders::start(&controller, identity);

    // These take as long as they are let; meanwhile the others come.
    let mut slow = tokio::task::JoinSet::new();
    for who in [&guest, &member, &administrator] {
        slow.spawn(calls::drip(who.clone()));
    }
    slow.spawn(api::drip(administrator.clone()));
    slow.spawn(calls::leave_unfinished(guest.clone(), 150));
    slow.spawn(calls::leave_unfinished(member.clone(), 40));

    type Attack = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
    let (paths, others) = (Arc::clone(&served), Arc::clone(&served));
    let (by_guest, by_member) = (guest.clone(), member.clone());
    let attacks: Vec<(&str, Attack)> = vec![
        ("swelling calls of a guest", Box::pin(calls::swell(guest.clone()))),
        ("swelling calls of a member", Box::pin(calls::swell(member.clone()))),
        ("swelling calls of an administrator", Box::pin(calls::swell(administrator.clone()))),
        ("joins with long names", Box::pin(calls::shout(guest.clone()))),
        ("header floods of a guest", Box::pin(api::flood_headers(guest.clone()))),
        ("header floods of a member", Box::pin(api::flood_headers(member.clone()))),
        ("the API as a guest", Box::pin(async move { api::refuse(by_guest, &paths).await })),
        ("the API as a member", Box::pin(async move { api::refuse(by_member, &others).await })),
        ("reads of a guest", Box::pin(api::read(guest.clone()))),
        ("silent connections", Box::pin(api::sit_there(guest.clone()))),
        (
            "swelling bodies of an administrator",
            Box::pin(async move { api::swell(administrator, &served).await }),
        ),
    ];
    for (name, attack) in attacks {
        let (before, started) = (bystanders.counts(), std::time::Instant::now());
        attack.await;
        controller.assert_lives();
        bystanders.still_work(before).await;
        println!("{name}: {:.1} s, peak {} MiB", started.elapsed().as_secs_f64(), controller.cgroup.peak());
    }
    while let Some(ended) = slow.join_next().await {
        ended.expect("a slow body ends");
    }
    controller.assert_lives();
    // Strangers cannot fill the log.
    let written = controller.log_length();
    assert!(written < 256 << 10, "{written} bytes of log:\n{}", controller.log());
    controller.member("latecomer").await;
    bystanders.still_work(bystanders.counts()).await;
    bystanders.end().await;
    controller.assert_lives();
}
