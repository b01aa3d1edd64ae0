use serde_json::json;
use crate::model::Model;
#[test]
fn perf() {
    let mut model = Model::new(40);
    for app in 0..60 { model.deployment(&format!("app-{app}"), 50, json!({})); model.service(&format!("app-{app}"), &format!("app-{app}")); }
    for round in 0..30 {
        let world = model.world();
        let t = std::time::Instant::now(); let plan = warren_plan::plan(&world, model.now); let first = t.elapsed();
        let t = std::time::Instant::now(); let _ = warren_plan::plan(&world, model.now); let second = t.elapsed();
        eprintln!("round {round}: {} objects, {} steps, first {first:?}, cached {second:?}", model.objects.len(), plan.steps.len());
        for step in &plan.steps { assert!(model.commit(&step.transaction)); }
        let a = model.agents();
        model.now += jiff::SignedDuration::from_secs(1);
        if plan.steps.is_empty() && !a { break; }
    }
}
