//! Cron jobs: when they make jobs, and which of these they keep.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::{
    jobs::{cluster, end_all, holds, running, wait},
    model::Model,
};

/// Names of the jobs.
fn jobs(model: &Model) -> Vec<String> {
    model.list(JOBS).map(|(key, _)| key.name.to_string()).collect()
}

fn at(model: &mut Model, time: &str) {
    model.now = time.parse().unwrap();
    model.settle();
}

/// What was told of an object for a reason.
fn messages(model: &Model, name: &str, reason: &str) -> Vec<String> {
    let of = |event: &Value| event["involvedObject"]["name"] == name && event["reason"] == reason;
    let all = model.list(EVENTS).filter(|(_, event)| of(event));
    all.map(|(_, event)| event["message"].as_str().unwrap().to_owned()).collect()
}

fn active(model: &Model, cron: &Key) -> usize {
    model.get(cron)["status"]["active"].as_array().map_or(0, Vec::len)
}

fn name(cron: &str, time: &str) -> String {
    let time: Timestamp = time.parse().unwrap();
    format!("{cron}-{}", time.as_second() / 60)
}

#[test]
fn a_job_is_made_whenever_it_is_time() {
    let mut model = cluster();
    let cron = model.cron_job("tick", json!({}));
    model.settle();
    assert!(jobs(&model).is_empty());
    assert_eq!(model.wake_at().to_string(), "2026-11-22T12:05:00Z");
    at(&mut model, "2026-11-22T12:05:00Z");
    let first = name("tick", "2026-11-22T12:05:00Z");
    assert_eq!(jobs(&model), std::slice::from_ref(&first));
    let job = model.get(&Key::new(JOBS, "default", &first));
    assert_eq!(
        job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"],
        "2026-11-22T12:05:00Z"
    );
    assert_eq!(
        (&job["metadata"]["labels"]["cron"], &job["spec"]["backoffLimit"]),
        (&json!("tick"), &json!(6))
    );
    assert_eq!(job["metadata"]["ownerReferences"][0]["kind"], "CronJob");
    let status = &model.get(&cron)["status"];
    assert_eq!(status["lastScheduleTime"], "2026-11-22T12:05:00Z");
    assert_eq!(status["active"][0]["uid"], job["metadata"]["uid"]);
    assert_eq!(running(&model, "tick").len(), 1);
    end_all(&mut model, "tick", 0);
    let job = model.get(&Key::new(JOBS, "default", &first));
    let status = &model.get(&cron)["status"];
    assert!(holds(job, "Complete") && status["active"].is_null());
    assert_eq!(status["lastSuccessfulTime"], job["status"]["completionTime"]);
    let told = model.told("tick");
    assert!(told.contains("SuccessfulCreate") && told.contains("SawCompletedJob"), "{told:?}");
    at(&mut model, "2026-11-22T12:10:03Z");
    assert_eq!(jobs(&model).len(), 2);
}

#[test]
fn jobs_may_run_side_by_side_or_wait_or_replace_each_other() {
    for (policy, running, all) in [("Allow", 2, 2), ("Forbid", 1, 1), ("Replace", 1, 1)] {
        let mut model = cluster();
        let cron = model.cron_job("tick", json!({"concurrencyPolicy": policy}));
        model.settle();
        at(&mut model, "2026-11-22T12:05:00Z");
        at(&mut model, "2026-11-22T12:10:00Z");
        assert_eq!((active(&model, &cron), jobs(&model).len()), (running, all), "{policy}");
        let last = if policy == "Forbid" { "2026-11-22T12:05:00Z" } else { "2026-11-22T12:10:00Z" };
        assert_eq!(jobs(&model).last(), Some(&name("tick", last)));
        let told = model.told("tick");
        assert_eq!(told.contains("JobAlreadyActive"), policy == "Forbid");
        assert_eq!(told.contains("SuccessfulDelete"), policy == "Replace");
        if policy == "Forbid" {
            // What was missed is made up for when the first one has ended.
            end_all(&mut model, "tick", 0);
            assert_eq!(jobs(&model).last(), Some(&name("tick", "2026-11-22T12:10:00Z")));
        }
    }
}

#[test]
fn what_is_too_late_is_missed() {
    let mut model = cluster();
    let cron = model.cron_job("tick", json!({"startingDeadlineSeconds": 60}));
    model.settle();
    at(&mut model, "2026-11-22T12:08:00Z");
    assert!(jobs(&model).is_empty());
    let told = messages(&model, "tick", "MissSchedule");
    assert_eq!(told, ["Missed scheduled time to start a job: Sun, 22 Nov 2026 12:05:00 +0000"]);
    at(&mut model, "2026-11-22T12:10:40Z");
    assert_eq!(jobs(&model), [name("tick", "2026-11-22T12:10:00Z")], "late, but not too late");
    assert_eq!(active(&model, &cron), 1);
}

#[test]
fn after_many_missed_times_one_job_is_made_and_it_is_told() {
    let mut model = cluster();
    let cron = model.cron_job("tick", json!({"schedule": "* * * * *"}));
    model.change(&cron, |cron| cron["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into());
    model.settle();
    assert_eq!(jobs(&model).len(), 1);
    assert!(model.told("tick").contains("TooManyMissedTimes"));
}

#[test]
fn a_suspended_cron_job_makes_nothing() {
    let mut model = cluster();
    let cron = model.cron_job("tick", json!({"suspend": true, "startingDeadlineSeconds": 10}));
    at(&mut model, "2026-11-22T13:07:00Z");
    assert!(jobs(&model).is_empty());
    model.change(&cron, |cron| cron["spec"]["suspend"] = false.into());
    model.settle();
    assert!(jobs(&model).is_empty(), "too late");
    at(&mut model, "2026-11-22T13:10:00Z");
    assert_eq!(jobs(&model).len(), 1);
}

#[test]
fn some_of_the_jobs_that_have_ended_are_kept() {
    let mut model = cluster();
    let limits = json!({"successfulJobsHistoryLimit": 2, "failedJobsHistoryLimit": 0});
    let cron = model.cron_job("tick", limits);
    model.change(&cron, |cron| cron["spec"]["jobTemplate"]["spec"]["backoffLimit"] = 0.into());
    model.settle();
    for round in 1..=5 {
        at(&mut model, &format!("2026-11-22T12:{:02}:00Z", round * 5));
        end_all(&mut model, "tick", if round == 4 { 1 } else { 0 });
    }
    let kept = ["2026-11-22T12:15:00Z", "2026-11-22T12:25:00Z"].map(|time| name("tick", time));
    assert_eq!(jobs(&model), kept);
    assert_eq!(model.pods().count(), 2, "pods go with their jobs");
}

#[test]
fn a_schedule_is_read_in_its_zone() {
    let mut model = cluster();
    let spec = json!({"schedule": "30 6 * * *", "timeZone": "Asia/Kolkata"});
    model.cron_job("zoned", spec);
    model.settle();
    at(&mut model, "2026-11-23T00:59:00Z");
    assert!(jobs(&model).is_empty());
    at(&mut model, "2026-11-23T01:00:05Z");
    let job = model.list(JOBS).next().unwrap().1;
    let annotation = &job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"];
    assert_eq!(annotation, "2026-11-23T06:30:00+05:30");
}

#[test]
fn what_cannot_be_read_is_told() {
    let mut model = Model::new(1);
    model.cron_job("bad", json!({"schedule": "never"}));
    model.cron_job("lost", json!({"timeZone": "Mars/Olympus"}));
    model.cron_job("void", json!({"schedule": "59 23 31 2 *"}));
    model.cron_job("idle", json!({"schedule": "never", "suspend": true}));
    model.settle();
    assert!(model.told("idle").is_empty(), "nothing is asked of it");
    let void = "invalid schedule: 59 23 31 2 * : time difference between two schedules is less than 1 second";
    assert_eq!(messages(&model, "void", "InvalidSchedule"), [void]);
    assert!(model.told("bad").contains("UnparseableSchedule"), "{:?}", model.told("bad"));
    assert!(model.told("lost").contains("UnknownTimeZone"));
}

#[test]
fn jobs_that_are_missing_unexpected_or_in_the_way() {
    let mut model = cluster();
    let cron = model.cron_job("tick", json!({"concurrencyPolicy": "Forbid"}));
    model.settle();
    at(&mut model, "2026-11-22T12:05:00Z");
    let first = Key::new(JOBS, "default", &jobs(&model)[0]);
    model.change(&cron, |cron| cron["status"]["active"] = json!([]));
    model.settle();
    assert!(model.told("tick").contains("UnexpectedJob"));
    model.change(&cron, |cron| {
        cron["status"]["active"] =
            json!([{"kind": "Job", "name": "lost", "namespace": "default", "uid": "u"}]);
    });
    model.settle();
    assert!(model.told("tick").contains("MissingJob") && active(&model, &cron) == 0);
    // A status that was lost is made up for by what is there.
    model.change(&cron, |cron| cron["status"] = json!({}));
    model.settle();
    assert_eq!((active(&model, &cron), jobs(&model).len()), (1, 1));
    assert_eq!(model.get(&cron)["status"]["lastScheduleTime"], "2026-11-22T12:05:00Z");
    model.remove(&first);
    model.settle();
    assert_eq!(active(&model, &cron), 0);
    let taken = name("tick", "2026-11-22T12:10:00Z");
    model.job(&taken, json!({"suspend": true}));
    at(&mut model, "2026-11-22T12:10:00Z");
    let problems = model.plan().problems;
    assert!(problems.iter().any(|problem| problem.message.contains("is in the way")), "{problems:?}");
    at(&mut model, "2026-11-22T12:15:00Z");
    assert_eq!(active(&model, &cron), 1, "the next one is made");
}

/// As `kubectl create job --from=cronjob/NAME` makes it.
fn by_hand(model: &mut Model, cron: &Key, name: &str) -> Key {
    let owner = model.get(cron)["metadata"].clone();
    let job = model.job(name, json!({}));
    model.change(&job, |job| {
        job["metadata"]["annotations"] = json!({"cronjob.kubernetes.io/instantiate": "manual"});
        job["metadata"]["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "CronJob", "controller": true,
            "name": owner["name"], "uid": owner["uid"]}]);
    });
    job
}

#[test]
fn a_job_that_is_made_by_hand_runs_beside_the_others_and_is_kept_like_them() {
    let mut model = cluster();
    let cron =
        model.cron_job("tick", json!({"concurrencyPolicy": "Forbid", "successfulJobsHistoryLimit": 1}));
    model.settle();
    let hand = by_hand(&mut model, &cron, "hand");
    model.settle();
    assert_eq!(running(&model, "hand").len(), 1);
    assert_eq!(active(&model, &cron), 0, "it was not made by its schedule");
    let told = messages(&model, "tick", "UnexpectedJob");
    assert_eq!(told, ["Saw a job that the controller did not create or forgot: hand"]);
    at(&mut model, "2026-11-22T12:05:00Z");
    assert_eq!(active(&model, &cron), 1, "it holds up nothing");
    end_all(&mut model, "hand", 0);
    let last = model.get(&hand)["status"]["completionTime"].clone();
    assert_eq!(model.get(&cron)["status"]["lastSuccessfulTime"], last);
    assert_eq!(active(&model, &cron), 1);
    end_all(&mut model, "tick", 0);
    assert_eq!(jobs(&model), [name("tick", "2026-11-22T12:05:00Z")], "the older one goes");
    assert!(messages(&model, "tick", "SuccessfulDelete").contains(&"Deleted job hand".to_owned()));
}

#[test]
fn one_that_never_began_is_the_newest() {
    let mut model = cluster();
    let cron = model.cron_job("tick", json!({"successfulJobsHistoryLimit": 1, "suspend": true}));
    let (old, void) = (by_hand(&mut model, &cron, "old"), by_hand(&mut model, &cron, "void"));
    model.change(&void, |job| {
        job["spec"]["suspend"] = true.into();
        job["spec"]["completions"] = 0.into();
    });
    model.settle();
    assert!(holds(model.get(&void), "Complete"));
    end_all(&mut model, "old", 0);
    assert!(!model.objects.contains_key(&old) && model.objects.contains_key(&void));
}

#[test]
fn a_job_that_is_deleted_runs_no_longer() {
    let mut model = cluster();
    let cron = model.cron_job("tick", json!({"concurrencyPolicy": "Forbid"}));
    model.settle();
    at(&mut model, "2026-11-22T12:05:00Z");
    let first = name("tick", "2026-11-22T12:05:00Z");
    model.remove(&Key::new(JOBS, "default", &first));
    model.settle();
    assert_eq!(active(&model, &cron), 0);
    assert_eq!(messages(&model, "tick", "MissingJob"), [format!("Active job went missing: {first}")]);
    assert!(jobs(&model).is_empty(), "that time has had its job");
    at(&mut model, "2026-11-22T12:10:00Z");
    assert_eq!(active(&model, &cron), 1);
}

#[test]
fn what_a_cron_job_tells_is_told_in_kubernetes_words() {
    let mut model = cluster();
    model.cron_job("tick", json!({"concurrencyPolicy": "Forbid"}));
    model.settle();
    at(&mut model, "2026-11-22T12:05:00Z");
    at(&mut model, "2026-11-22T12:10:00Z");
    let first = name("tick", "2026-11-22T12:05:00Z");
    end_all(&mut model, "tick", 0);
    for (reason, message) in [
        ("SuccessfulCreate", format!("Created job {first}")),
        ("SawCompletedJob", format!("Saw completed job: {first}, condition: Complete")),
        (
            "JobAlreadyActive",
            "Not starting job because prior execution is running and concurrency policy is Forbid".to_owned(),
        ),
    ] {
        assert!(messages(&model, "tick", reason).contains(&message), "{reason}");
    }
    let warned: Vec<_> =
        model.list(EVENTS).filter(|(_, event)| event["type"] == "Warning").map(|(key, _)| key).collect();
    assert!(warned.is_empty(), "{warned:?}");
}

#[test]
fn an_interval_is_counted_from_the_last_job() {
    let mut model = cluster();
    let cron = model.cron_job("every", json!({"schedule": "@every 90s"}));
    let made: Timestamp =
        model.get(&cron)["metadata"]["creationTimestamp"].as_str().unwrap().parse().unwrap();
    model.settle();
    for seconds in [90, 180] {
        let due = made + SignedDuration::from_secs(seconds);
        assert_eq!(model.wake_at(), due);
        at(&mut model, &(due + SignedDuration::from_secs(2)).to_string());
        assert_eq!(model.get(&cron)["status"]["lastScheduleTime"], due.to_string());
    }
    assert_eq!(jobs(&model).len(), 2);
}

#[test]
fn a_cron_job_that_is_deleted_takes_its_jobs_with_it() {
    let mut model = cluster();
    let cron = model.cron_job("tick", json!({}));
    model.settle();
    at(&mut model, "2026-11-22T12:05:00Z");
    model.remove(&cron);
    model.settle();
    assert_eq!((jobs(&model).len(), model.pods().count()), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 300, ..ProptestConfig::default() })]

    /// Wherever the controller dies, and however long it is away: no time gets two jobs, and those that exclude each other
    /// never run together.
    #[test]
    fn no_time_gets_two_jobs(
        policy in 0..3usize,
        events in proptest::collection::vec((0..5usize, 0..200i64, 0..4i32), 1..25),
    ) {
        let mut model = Model::new(2);
        let policy = ["Allow", "Forbid", "Replace"][policy];
        let cron = model.cron_job("tick", json!({"schedule": "* * * * *", "concurrencyPolicy": policy}));
        let mut last = None;
        for (commits, seconds, end) in events {
            for step in model.plan().steps.iter().take(commits) {
                prop_assert!(model.commit(&step.transaction), "{}", step.why);
                let status = &model.get(&cron)["status"];
                let time: Option<Timestamp> = status["lastScheduleTime"].as_str().map(|text| text.parse().unwrap());
                prop_assert!(time >= last, "times go on");
                last = time;
                let lives = |(_, job): &(&Key, &Value)| {
                    !holds(job, "Complete") && !holds(job, "Failed") && job["metadata"]["deletionTimestamp"].is_null()
                };
                let living = model.list(JOBS).filter(lives).count();
                prop_assert!(policy == "Allow" || living <= 1, "{living} jobs at a time");
            }
            if end == 0 {
                model.restart();
            } else {
                running(&model, "tick").iter().for_each(|key| model.end(key, end - 1));
            }
            model.now += SignedDuration::from_secs(seconds);
        }
        model.settle();
        wait(&mut model, 1);
        end_all(&mut model, "tick", 0);
        let ended = model.list(JOBS).filter(|(_, job)| holds(job, "Complete")).count();
        prop_assert!(ended <= 3, "{ended} are kept");
    }
}
