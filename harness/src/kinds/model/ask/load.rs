//! Loads a model, or has it refused: in which time, with how much memory, and whether as predicted.

use goldgate_wire::Call;
use goldgate_wire::call::{self, Inspect, Loaded, Memory, Open, Want};
use goldgate_wire::words::Logits;

use crate::kinds::model::ask::{Answer, Asking, Content, Route, figures};
use crate::kinds::model::case::Load;
use crate::line::{Reply, Stopped};

impl Asking<'_, '_> {
    pub(super) fn load(&mut self, load: &Load, mut ask: call::Load) -> Result<Answer, Stopped> {
        // A model that is still loaded would count as memory of this one.
        self.to.drop_model()?;
        ask.options.more.clone_from(&load.with);
        let mut used = Vec::new();
        // The first round may allocate what stays for good, so a leak shows only in the second.
        let rounds = if load.memory { 2 } else { 1 };
        let (mut loaded_once, mut refused, mut predicted) = (None, None, None);
        for _ in 0..rounds {
            match self.to.ask(&ask)? {
                Reply::Refused(answered) => {
                    let (word, field) = (answered.word().to_owned(), answered.field().to_owned());
                    refused = Some((word, field, answered.message));
                }
                Reply::Ok(loaded) => {
                    self.to.hold(&ask, &loaded);
                    self.loaded = loaded.clone();
                    if load.foretold && predicted.is_none() {
                        predicted = self.predicted_bytes(&ask, &loaded)?;
                    }
                    loaded_once = Some((loaded, self.one_token()?));
                    self.to.drop_model()?;
                }
            }
            // Asked after unloading, so that only what stays behind is counted.
            used.extend(self.used()?.filter(|_| load.memory));
        }
        if refused.is_some() {
            // A refusal counts only with a control: the subject must load the case's own file,
            // without what was wrong with the question.
            let path = self.question.path.display().to_string();
            self.hold(&call::Load { path, ..self.question.load.clone() })?;
            self.one_token()?;
        }
        let (loaded, session) = loaded_once.unwrap_or_default();
        let mut figures = figures(&loaded);
        figures.extend(session.map(|bytes| ("bytes_session".to_owned(), bytes as f64)));
        Ok(Answer {
            unasked: Vec::new(),
            activations: loaded.activations,
            ids: None,
            content: Content::Load { refused, used, predicted },
            figures,
            route: Route::default(),
        })
    }

    /// The bytes that `inspect` predicts for `load`: for the same file under the settings that are
    /// in force, as far as the subject reports them.
    fn predicted_bytes(
        &mut self,
        ask: &call::Load,
        loaded: &Loaded,
    ) -> Result<Option<f64>, Stopped> {
        if !self.to.hello().offers(Inspect::NAME) {
            return Ok(None);
        }
        let call::Load { path, mut options } = ask.clone();
        for (name, is_said) in [
            ("activations", loaded.activations.is_some()),
            ("kv", loaded.kv.is_some()),
            ("chunk", loaded.chunk.is_some()),
            ("plan", loaded.plan.is_some()),
            ("context", loaded.context.is_some()),
        ] {
            if is_said {
                // Otherwise the case's own field would override the setting that is in force.
                options.more.remove(name);
            }
        }
        options.activations = loaded.activations.or(options.activations);
        options.kv = loaded.kv.or(options.kv);
        options.chunk = loaded.chunk.or(options.chunk);
        options.plan = loaded.plan.or(options.plan);
        options.context = loaded.context.or(options.context);
        let need = self.to.call(&Inspect { path, options })?.need_bytes();
        Ok(need.map(|bytes| bytes as f64))
    }

    /// Checks that a loaded model gives logits for one token. Returns the bytes that its session
    /// took, if they are reported.
    fn one_token(&mut self) -> Result<Option<u64>, Stopped> {
        if !self.can_follow() {
            return Ok(None);
        }
        let opened = self.to.call(&Open { model: self.loaded.model })?;
        let want = Want { logits: Logits::Last, ..Want::default() };
        let answered = self.extend(opened.session, &[0], want, None)?;
        self.close(opened.session)?;
        // A model that loads and cannot compute must not pass.
        answered.result("logits")?;
        Ok(opened.bytes_session)
    }

    /// Bytes in use according to the driver, if the subject can tell.
    pub(super) fn used(&mut self) -> Result<Option<f64>, Stopped> {
        if !self.to.hello().offers(Memory::NAME) {
            return Ok(None);
        }
        Ok(self.to.call(&Memory)?.device_used.map(|bytes| bytes as f64))
    }
}
