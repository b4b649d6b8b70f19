//! What a question about a model needs of a subject. No kind needs more than it uses: a subject
//! that only completes texts is asked for texts.

use goldgate_wire::call::{Extend, Fork, Generate, Load, Open};
use goldgate_wire::words::{Claim, Logits};
use goldgate_wire::{Call, Hello};

use crate::kinds::model::ask::{Asking, Put};
use crate::kinds::model::case::Way;
use crate::line::Stopped;

impl Asking<'_, '_> {
    /// Ends the trial unless the subject offers what the question cannot do without.
    pub(super) fn needs(&self) -> Result<(), Stopped> {
        self.to.need::<Load>()?;
        let format = match self.question.load.path.ends_with(".gguf") {
            true => "gguf",
            false => "safetensors",
        };
        if !self.to.hello().reads(format) {
            return Err(self.to.unsupported(&format!("reads no {format}")));
        }
        match &self.question.put {
            // Whether it loads can be seen without a session.
            Put::Load(_) => Ok(()),
            Put::Stage { .. } => {
                self.sessions(Logits::None)?;
                let hello = self.to.hello().json();
                if hello["trace"].is_null() && hello["trace_mode"].is_null() {
                    return Err(self.to.unsupported("keeps no slots"));
                }
                Ok(())
            }
            Put::Logits { .. } => self.sessions(Logits::All),
            Put::Perplexity(_) => {
                let compact = self.to.hello().returns(Logits::Compact);
                self.sessions(if compact { Logits::Compact } else { Logits::All })
            }
            Put::Draws { forms, .. } => {
                self.to.need::<Generate>()?;
                if *forms {
                    self.to.need_claim(Claim::Run)?;
                }
                Ok(())
            }
            Put::Generation { generation, forms, .. } => {
                self.to.need::<Generate>()?;
                if *forms && generation.repeat > 1 {
                    self.to.need_claim(Claim::Run)?;
                }
                if *forms && generation.beside > 0 {
                    self.to.need_claim(Claim::Batch)?;
                }
                // A subject without batches need not load for nothing.
                self.require_sequences(generation)
            }
        }
    }

    fn sessions(&self, logits: Logits) -> Result<(), Stopped> {
        self.to.need::<Open>()?;
        self.to.need::<Extend>()?;
        match self.to.hello().returns(logits) {
            true => Ok(()),
            false => Err(self.to.unsupported(&format!("returns no logits as {:?}", logits.name()))),
        }
    }

    /// Whether logits along a text can be asked for.
    pub(super) fn can_follow(&self) -> bool {
        let hello = self.to.hello();
        hello.offers(Open::NAME) && hello.offers(Extend::NAME) && hello.returns(Logits::All)
    }

    /// The ways of cutting a prompt that the subject can go. With `forms` their bits are compared,
    /// so only ways that it claims count, and there must be two.
    pub(super) fn offered(&mut self, ways: &[Way], forms: bool) -> Result<Vec<Way>, Stopped> {
        let can = |hello: &Hello, way: &Way| match way {
            Way::Prefix(_) => hello.offers(Fork::NAME),
            Way::Whole | Way::Chunks(_) | Way::OneByOne => true,
        };
        let claimed = |hello: &Hello, way: &Way| match way {
            Way::Prefix(_) => hello.claims(Claim::Prefix),
            Way::Chunks(_) => hello.claims(Claim::Chunk),
            Way::Whole | Way::OneByOne => true,
        };
        let hello = self.to.hello();
        let fits = |way: &&Way| can(hello, way) && (!forms || claimed(hello, way));
        let kept: Vec<Way> = ways.iter().filter(fits).copied().collect();
        let left: Vec<String> =
            ways.iter().filter(|way| !fits(way)).map(|way| way.name()).collect();
        if kept.is_empty() || forms && kept.len() < 2 {
            return Err(self.to.unsupported(&format!("does not claim {}", left.join(", "))));
        }
        if !left.is_empty() {
            self.unasked.push(format!("not offered: {}", left.join(", ")));
        }
        Ok(kept)
    }
}
