//! What a subject is: its roles decide which trials it is asked and which requirements concern it.
//! Nothing that plans, weighs or reports knows a subject by its label.

use serde::{Deserialize, Serialize};

/// Labels that no command may have, because rows of our own use them.
pub const TAKEN: [&str; 6] = ["cpu", "cuda", "oracle", "golden", "harness", "repository"];

/// Whether a label may name a subject: a small letter, then at most 30 of a-z, 0-9 and -.
pub fn is_label(label: &str) -> bool {
    let small = |b: u8| b.is_ascii_lowercase();
    let fine = |b: u8| small(b) || b.is_ascii_digit() || b == b'-';
    label.bytes().next().is_some_and(small) && label.len() <= 31 && label.bytes().all(fine)
}

/// Whom a requirement concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Every engine that is asked.
    Engine,
    /// Every engine that computes on a card.
    Card,
    /// The harness itself.
    Harness,
    /// The repository: pages that exist and hold.
    Repository,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 4] = [Role::Engine, Role::Card, Role::Harness, Role::Repository];

    /// The word used in gates.yaml, which is also the label of those that are no engines.
    pub const fn word(self) -> &'static str {
        match self {
            Role::Engine => "engine",
            Role::Card => "card",
            Role::Harness => "harness",
            Role::Repository => "repository",
        }
    }
}

/// The roles of one engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roles {
    /// It computes on a card.
    #[serde(default)]
    pub card: bool,
    /// Its answers are those of the definitions, so a case that the definition judges says nothing
    /// about it.
    #[serde(default)]
    pub definition: bool,
    /// It is asked about files and texts. Not so for a subject that reads them by the very code of
    /// another one in the same release.
    #[serde(default)]
    pub host: bool,
    /// It is our own engine, which checks itself on request and must report more about itself.
    #[serde(default)]
    pub own: bool,
}

impl Roles {
    /// An engine about which nothing is known yet: it is asked everything, and its hello says what
    /// it does not offer.
    pub const UNKNOWN: Roles = Roles { card: true, definition: false, host: true, own: false };

    /// Whether a requirement on `roles` concerns this engine.
    pub fn any_of(self, roles: &[Role]) -> bool {
        roles.contains(&Role::Engine) || self.card && roles.contains(&Role::Card)
    }
}

/// The subjects that are asked a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Every engine.
    Engines,
    /// Every engine but one whose answers are those of the definition that judges the trial.
    NotDefinition,
    /// Every engine that is asked about files and texts.
    Host,
    /// Engines on a card.
    Cards,
    /// Our own engine, by what it checks itself.
    Own,
    /// Our own engine on a card.
    OwnCards,
    /// The harness.
    Harness,
}

impl On {
    /// Whether an engine with these roles is asked.
    pub fn asks(self, roles: Roles) -> bool {
        match self {
            On::Engines => true,
            On::NotDefinition => !roles.definition,
            On::Host => roles.host,
            On::Cards => roles.card,
            On::Own => roles.own,
            On::OwnCards => roles.own && roles.card,
            // The harness checks itself, so no engine is started for such a trial.
            On::Harness => false,
        }
    }
}

/// A subject as a report records it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedSubject {
    /// Its roles: those of our own subjects are known, those of others follow from their hello.
    pub roles: Roles,
    /// Whether this run asked it. A subject that a release needs is recorded even if it was not.
    pub asked: bool,
    /// The option that selects it on a command line, with a space before it; empty if it is a
    /// default.
    #[serde(default)]
    pub option: String,
    /// Where it declared that it rounds: its verdicts hold for that arithmetic.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub declared: String,
}
