//! Verdicts on engines that are not ours: what they meet, what they do not offer, and profiles.

use super::*;

/// An engine that is not ours, in place of both of ours: a row for each trial.
fn foreign(roles: Roles) -> World {
    let mut world = perfect();
    world.rows.retain(|row| row.subject == "harness");
    let asked_of = world.plan.iter().filter(|p| p.on.asks(roles));
    world.rows.extend(asked_of.map(|p| row(p, "mine")).collect::<Vec<_>>());
    world.found.subjects = BTreeMap::from([("mine".to_owned(), asked(roles))]);
    world
}

const CPU_ENGINE: Roles = Roles { card: false, definition: false, host: true, own: false };

fn not_offered(row: &mut Row) {
    row.verdict = Verdict::NotRun { kind: NotRun::Unsupported, message: "no".into() };
}

#[test]
fn every_engine_has_a_verdict_and_a_release_is_none_of_its_business() {
    let world = foreign(Roles::UNKNOWN);
    let mine = ["G1.02 mine MET", "K1.01 mine MET", "K1.02 repository MET"];
    assert_eq!(world.states(), (State::Met, mine.map(str::to_owned).to_vec()));
    // What is asked of cards concerns no engine on a CPU.
    let world = foreign(CPU_ENGINE);
    let mine = ["G1.02 mine MET", "K1.02 repository MET"];
    assert_eq!(world.states(), (State::Met, mine.map(str::to_owned).to_vec()));
    let mut world = foreign(CPU_ENGINE);
    world.row("gate1::layernorm::one::f16::mine").verdict =
        Verdict::Fail { kind: FailKind::Load, message: "m".into() };
    let weighed = world.weigh();
    assert_eq!(weighed.gates[0].subjects["mine"], State::NotMet);
    assert_eq!(weighed.gates[0].state, State::NotMet);
}

#[test]
fn what_an_engine_does_not_offer_is_neither_met_nor_failed() {
    let mut world = foreign(CPU_ENGINE);
    world.rows.iter_mut().filter(|row| row.subject == "mine").for_each(not_offered);
    let weighed = world.weigh();
    assert_eq!(weighed.gates[0].subjects["mine"], State::NotOffered);
    assert_eq!(weighed.gates[0].requirements[0].on["mine"].state, State::NotOffered);
    assert_ne!(weighed.gates[0].state, State::Met);
    // A part that is offered and passes leaves the requirement open.
    let mut world = foreign(CPU_ENGINE);
    not_offered(world.row("gate1::layernorm::one::f16::mine"));
    let weighed = world.weigh();
    let on = &weighed.gates[0].requirements[0].on["mine"];
    assert_eq!((on.state, on.not_offered), (State::Incomplete, 1));
    assert_eq!(weighed.gates[0].subjects["mine"], State::Incomplete);
    // A profile that the user named is a promise.
    world.found.profile = Some(Profile::Kernels);
    assert_eq!(world.weigh().gates[0].subjects["mine"], State::NotMet);
}

#[test]
fn a_profile_covers_its_own_kinds_alone() {
    let mut world = foreign(CPU_ENGINE);
    world.found.profile = Some(Profile::Kernels);
    assert_eq!(world.weigh().gates[0].subjects["mine"], State::Met);
    // Nothing of this gate is about texts, so the verdict says nothing.
    world.found.profile = Some(Profile::Text);
    world.rows.retain(|row| row.subject == "harness");
    assert_ne!(world.weigh().gates[0].subjects["mine"], State::Met);
    assert_ne!(world.weigh().gates[0].state, State::Met);
}

#[test]
fn an_engine_beside_ours_must_meet_the_gate_too() {
    let mut world = perfect();
    let rows = foreign(CPU_ENGINE).rows;
    world.rows.extend(rows.into_iter().filter(|row| row.subject == "mine"));
    world.found.subjects.insert("mine".into(), asked(CPU_ENGINE));
    assert_eq!(world.states().0, State::Met);
    not_offered(world.row("gate1::layernorm::one::f16::mine"));
    assert_eq!(world.states().0, State::Incomplete);
}
