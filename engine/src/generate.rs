//! Generation: a prompt, then one token after the other until something ends it.

use crate::exec::cpu::{CallError, CallInputs};
use crate::ops::Phase;
use crate::sample::{SAMPLED, Sampling, append};
use crate::session::{Model, Place, Session, State};
use crate::tensor::Tensor;

/// Steps that the host enqueues before it reads the first one's token.
const AHEAD: usize = 4;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The prompt, at least one token.
    pub ids: &'a [u32],
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens that end it; the last one is not handed out.
    pub stop_ids: &'a [u32],
}

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A token of `stop_ids`.
    Token,
    /// The caller had enough.
    Caller,
    /// As many tokens as were asked for.
    Length,
    /// The context is full.
    Context,
}

/// Generates; each token goes to `take`, which returns whether to go on.
///
/// # Errors
/// A prompt that the context does not hold, a NaN among logits, the device's errors.
///
/// # Panics
/// If the prompt is empty.
pub fn generate(
    place: &mut Place<'_>,
    model: &Model,
    vocabulary: usize,
    request: &Request<'_>,
    take: &mut dyn FnMut(u32) -> bool,
) -> Result<Stop, CallError> {
    assert!(!request.ids.is_empty(), "a prompt has a token");
    let program = append(model.program(), vocabulary, &request.sampling);
    let model = model.extended(&program);
    let mut session = Session::open(place, &model)?;
    set_states(place, &model, &mut session, vocabulary, request.ids)?;
    let room = model.settings().context.saturating_sub(request.ids.len());
    let most = request.max_tokens.min(room);
    let mut told = 0;
    let mut hand_out = |id: u32| {
        if request.stop_ids.contains(&id) {
            return Some(Stop::Token);
        }
        told += 1;
        match take(id) {
            false => Some(Stop::Caller),
            true if told == request.max_tokens => Some(Stop::Length),
            true if told == most => Some(Stop::Context),
            true => None,
        }
    };
    if most == 0 {
        // Nothing fits, or nothing is wanted: the prompt alone still has to be a good one.
        let ends = if request.max_tokens == 0 { Stop::Length } else { Stop::Context };
        session.prompt(place, &model, request.ids)?;
        return Ok(ends);
    }
    let first = session.prompt(place, &model, request.ids)?;
    if let Some(stop) = hand_out(first) {
        return Ok(stop);
    }
    match place {
        Place::Cpu => on_cpu(&model, &mut session, first, &mut hand_out),
        Place::Cuda(device) => on_card(device, &model, &mut session, most - 1, &mut hand_out),
    }
}

fn set_states(
    place: &mut Place<'_>,
    model: &Model,
    session: &mut Session,
    vocabulary: usize,
    ids: &[u32],
) -> Result<(), CallError> {
    let states = states(vocabulary, ids);
    states.iter().try_for_each(|(name, tensor)| session.set(place, model, name, tensor))
}

/// What the states of sampling are before the prompt `ids`.
pub(crate) fn states(vocabulary: usize, ids: &[u32]) -> [(&'static str, Tensor); 3] {
    let mut seen = vec![0i32; vocabulary.div_ceil(32)];
    for id in ids {
        if let Some(word) = seen.get_mut(*id as usize / 32) {
            *word |= 1 << (id % 32);
        }
    }
    [
        ("length", Tensor::from_i32(&[1], &[ids.len() as i32])),
        ("draws", Tensor::from_i32(&[2], &[0, 0])),
        ("seen", Tensor::from_i32(&[seen.len()], &seen)),
    ]
}

impl Session {
    fn set(
        &mut self,
        place: &mut Place<'_>,
        model: &Model,
        name: &str,
        tensor: &Tensor,
    ) -> Result<(), CallError> {
        match (&mut self.state, place) {
            (State::Cpu(session), _) => {
                session.set(model.cpu().expect("on the CPU"), name, tensor);
            }
            (State::Cuda(session), Place::Cuda(device)) => {
                session.set(device, model.cuda().expect("on a card"), name, tensor)?;
            }
            _ => panic!("a model is asked where it is"),
        }
        Ok(())
    }

    /// The whole prompt; the token that its last row gives.
    fn prompt(
        &mut self,
        place: &mut Place<'_>,
        model: &Model,
        ids: &[u32],
    ) -> Result<u32, CallError> {
        let want = crate::session::Want {
            rows: vec![ids.len() - 1],
            slots: vec![SAMPLED.to_owned()],
            phase: Some(Phase::Prefill),
        };
        let output = self.extend(place, model, ids, &want)?;
        Ok(output.slots[SAMPLED].to_i32()[0] as u32)
    }
}

fn on_cpu(
    model: &Model,
    session: &mut Session,
    first: u32,
    hand_out: &mut dyn FnMut(u32) -> Option<Stop>,
) -> Result<Stop, CallError> {
    let State::Cpu(state) = &mut session.state else { panic!("on the CPU") };
    let model = model.cpu().expect("on the CPU");
    let mut token = first;
    loop {
        let one = |x: usize| Tensor::from_i32(&[1], &[x as i32]);
        let inputs = CallInputs::from([
            ("tokens", one(token as usize)),
            ("positions", one(session.length)),
            ("out_rows", one(0)),
        ]);
        let slots = state.call(model, &inputs, &[SAMPLED])?;
        session.length += 1;
        token = slots[SAMPLED].to_i32()[0] as u32;
        if let Some(stop) = hand_out(token) {
            return Ok(stop);
        }
    }
}

/// Steps are enqueued ahead; what they sampled is read behind them.
fn on_card(
    device: &mut crate::cuda::Device,
    model: &Model,
    session: &mut Session,
    most: usize,
    hand_out: &mut dyn FnMut(u32) -> Option<Stop>,
) -> Result<Stop, CallError> {
    let State::Cuda(state) = &mut session.state else { panic!("on a card") };
    let model = model.cuda().expect("on a card");
    // A decode step has one row, and its logits are wanted.
    state.set(device, model, "out_rows", &Tensor::from_i32(&[1], &[0]))?;
    let mut ring = state.ring(device, AHEAD)?;
    let mut enqueued = 0;
    for read in 0..most {
        while enqueued < most.min(read + AHEAD) {
            state.step(device, model, &mut ring, enqueued % AHEAD)?;
            enqueued += 1;
        }
        let token = state.token(device, &ring, read % AHEAD)?;
        if let Some(stop) = hand_out(token) {
            // Steps that are still under way end before their memory goes.
            device.synchronize()?;
            session.length += read + 1;
            return Ok(stop);
        }
    }
    unreachable!("the last token ends it")
}
