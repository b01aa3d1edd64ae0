//! Whatever clients and nodes do: plans converge, stay empty, survive a crash at any commit, and depend on
//! nothing but the world.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;
use warren_plan::Planner;
use warren_state::{Key, Object, Snapshot};
use warren_vocabulary::{guard::Unwatched, resources::*};

use crate::model::{Model, is_ready, rolling};

#[derive(Debug, Clone)]
pub(crate) enum Event {
    Scale {
        app: usize,
        replicas: i64,
    },
    Image {
        app: usize,
        image: u8,
    },
    Strategy {
        app: usize,
        surge: u8,
        unavailable: u8,
    },
    Recreate {
        app: usize,
    },
    Delete {
        app: usize,
    },
    Silence {
        node: usize,
        seconds: u64,
    },
    KillPod {
        which: usize,
    },
    Agents,
    Agent {
        which: usize,
    },
    /// The controller plans, and dies after this many commits.
    Crash {
        after: usize,
    },
    Lag {
        lagging: bool,
    },
    Wait {
        seconds: i64,
    },
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    let app = 0..2usize;
    prop_oneof![
        (app.clone(), 0..7i64).prop_map(|(app, replicas)| Event::Scale { app, replicas }),
        (app.clone(), 0..3u8).prop_map(|(app, image)| Event::Image { app, image }),
        (app.clone(), 0..3u8, 0..3u8).prop_map(|(app, surge, unavailable)| Event::Strategy {
            app,
            surge,
            unavailable
        }),
        app.clone().prop_map(|app| Event::Recreate { app }),
        app.prop_map(|app| Event::Delete { app }),
        (1..4usize, prop_oneof![Just(0), Just(3), Just(12)])
            .prop_map(|(node, seconds)| Event::Silence { node, seconds }),
        (0..20usize).prop_map(|which| Event::KillPod { which }),
        Just(Event::Agents),
        (0..20usize).prop_map(|which| Event::Agent { which }),
        (0..6usize).prop_map(|after| Event::Crash { after }),
        (0..40usize).prop_map(|after| Event::Crash { after }),
        any::<bool>().prop_map(|lagging| Event::Lag { lagging }),
        (1..8i64).prop_map(|seconds| Event::Wait { seconds }),
    ]
}

const APPS: [&str; 2] = ["api", "web"];

fn app_key(app: usize) -> Key {
    Key::new(DEPLOYMENTS, "default", APPS[app])
}

pub(crate) fn happen(model: &mut Model, event: &Event) {
    let change = |model: &mut Model, app: usize, change: &dyn Fn(&mut serde_json::Value)| {
        if !model.objects.contains_key(&app_key(app)) {
            model.deployment(APPS[app], 2, json!({}));
        }
        model.change(&app_key(app), change);
    };
    let nth_pod = |model: &Model, which: usize| model.pods().nth(which).map(|(key, _)| key.clone());
    match event {
        Event::Scale { app, replicas } => {
            change(model, *app, &|value| value["spec"]["replicas"] = (*replicas).into())
        }
        Event::Image { app, image } => change(model, *app, &|value| {
            value["spec"]["template"]["spec"]["containers"][0]["image"] = format!("image:{image}").into();
        }),
        Event::Strategy { app, surge, unavailable } => change(model, *app, &|value| {
            value["spec"]["strategy"] = rolling(json!(surge), json!(unavailable));
        }),
        Event::Recreate { app } => {
            change(model, *app, &|value| value["spec"]["strategy"] = json!({"type": "Recreate"}))
        }
        Event::Delete { app } => {
            if model.objects.contains_key(&app_key(*app)) {
                model.remove(&app_key(*app));
            }
        }
        Event::Silence { node, seconds } => model.hear(*node, *seconds),
        Event::KillPod { which } => {
            if let Some(key) = nth_pod(model, *which) {
                model.remove(&key);
            }
        }
        Event::Agents => drop(model.agents()),
        Event::Agent { which } => drop(nth_pod(model, *which).map(|key| model.agent(&key))),
        Event::Crash { after } => {
            for step in model.plan().steps.iter().take(*after) {
                assert!(model.commit(&step.transaction), "{}", step.why);
                model.check();
            }
        }
        Event::Lag { lagging } => model.acknowledging = !lagging,
        Event::Wait { seconds } => model.now += jiff::SignedDuration::from_secs(*seconds),
    }
}

fn heal(model: &mut Model) {
    (1..4).for_each(|node| model.hear(node, 0));
    model.acknowledging = true;
    model.acknowledged = model.revision;
    model.settle();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_history_ends_in_what_was_asked_for(events in proptest::collection::vec(event(), 1..40)) {
        let mut model = Model::new(3);
        model.service("web", "web");
        for event in &events {
            happen(&mut model, event);
        }
        heal(&mut model);
        prop_assert!(model.plan().steps.is_empty(), "stable");
        for (app, name) in APPS.iter().enumerate() {
            let wanted = model.objects.get(&app_key(app)).map_or(0, |(_, value)| value["spec"]["replicas"].as_u64().unwrap());
            let ready = model.active(name).filter(|(_, pod)| is_ready(pod)).count();
            prop_assert_eq!(ready as u64, wanted, "{}", name);
            prop_assert_eq!(model.active(name).count() as u64, wanted, "{}", name);
        }
        prop_assert_eq!(model.ready_endpoints("web"), model.active("web").count());
    }

    #[test]
    fn a_rollout_without_faults_never_leaves_its_limits(
        replicas in 1..7i64,
        surge in 0..4i64,
        unavailable in 0..4i64,
        chances in proptest::collection::vec((0..12usize, 0..30usize), 20..120),
    ) {
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
        let (min, max) = ((replicas - unavailable).max(0), replicas + surge);
        let mut model = Model::new(3);
        let key = model.deployment("web", replicas, rolling(json!(surge), json!(unavailable)));
        model.service("web", "web");
        model.settle();
        model.set_image(&key, "image:2");
        for (which, after) in chances {
            for step in model.plan().steps.iter().take(after) {
                prop_assert!(model.commit(&step.transaction), "{}", step.why);
                model.check();
                let ready = model.active("web").filter(|(_, pod)| is_ready(pod)).count() as i64;
                let all = model.active("web").count() as i64;
                prop_assert!(ready >= min, "{ready} ready, {min} wanted after {}", step.why);
                prop_assert!(all <= max, "{all} pods, {max} allowed after {}", step.why);
                prop_assert!(min == 0 || model.ready_endpoints("web") > 0, "nobody serves after {}", step.why);
            }
            let pod = model.pods().nth(which).map(|(key, _)| key.clone());
            pod.map(|key| model.agent(&key));
            model.now += jiff::SignedDuration::from_secs(1);
        }
        model.settle();
        prop_assert_eq!(model.active("web").count() as i64, replicas);
        prop_assert!(model.pods().all(|(_, pod)| pod["spec"]["containers"][0]["image"] == "image:2"));
    }

    #[test]
    fn a_plan_depends_on_the_world_alone(events in proptest::collection::vec(event(), 1..20), seed in any::<u64>()) {
        let mut model = Model::new(3);
        model.service("web", "web");
        for event in &events {
            happen(&mut model, event);
        }
        let mut shuffled: Vec<_> = model.objects.iter().collect();
        shuffled.sort_by_key(|(key, _)| {
            let text = key.to_string();
            text.bytes().fold(seed, |hash, byte| hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte))
        });
        let objects = shuffled.into_iter().map(|(key, (revision, value))| Object::new(key.clone(), *revision, value.clone()));
        // A planner that met the objects in another order, one after the other, comes to the same.
        let (mut planner, mut world, mut state) = (Planner::default(), model.world(), Snapshot::from_objects(0, []));
        let mut last = warren_plan::Plan::default();
        for object in objects {
            state.insert(Arc::new(object));
            state.revision = model.revision;
            world.snapshot = Arc::new(state.clone());
            last = planner.plan(&world, model.now, &Unwatched);
        }
        let fresh = warren_plan::plan(&world, model.now);
        prop_assert_eq!(&fresh, &model.plan());
        prop_assert_eq!(last, fresh);
    }

    #[test]
    fn equal_pods_are_placed_evenly(nodes in 1..5usize, replicas in 0..16i64) {
        let mut model = Model::new(nodes);
        model.deployment("web", replicas, json!({}));
        model.settle();
        let spread = model.spread("web");
        prop_assert!(spread.iter().max().unwrap() - spread.iter().min().unwrap() <= 1, "{:?}", spread);
    }
}
