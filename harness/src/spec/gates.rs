//! The gates as written in `specs/gates.yaml`: requirements, and the evidence for each.

use std::collections::BTreeMap;

use goldgate_tensor::DType;
use schemars::JsonSchema;

use crate::line::{Family, Role};
use crate::yaml::fields::{dtypes, gate, version};
use crate::yaml::forms;
use crate::yaml::read::{At, Fields, Reader, is_id};
use crate::yaml::tree::{Kind, Node};

/// All gates.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct GatesFile {
    /// The version of this format: 1.
    pub format: u8,
    /// The labels of the subjects that a release needs: each must meet every gate. Without it, a
    /// gate counts for whoever is asked.
    #[schemars(default, with = "Vec<String>")]
    pub release: Vec<At<String>>,
    /// What the founding documents ask, by their own numbers, and which requirement answers it.
    #[schemars(default)]
    pub founding: Vec<Founding>,
    /// The gates, in order.
    pub gates: Vec<GateSpec>,
}

/// One item of the founding documents.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Founding {
    /// Its number there.
    #[schemars(with = "String")]
    pub id: At<String>,
    /// The requirement that answers it.
    pub requirement: Option<String>,
    /// Why nothing answers it.
    pub dropped: Option<String>,
}

/// One gate.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct GateSpec {
    /// Its number.
    #[schemars(with = "u8")]
    pub gate: At<u8>,
    /// What it says, in one line.
    pub title: String,
    /// What must hold.
    pub requirements: Vec<Requirement>,
}

/// One requirement: as asked, as read, whom it concerns, what proves it.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Requirement {
    /// Its name: `G1.02`, or `K1.02` for our own.
    #[schemars(with = "String")]
    pub id: At<String>,
    /// As it was asked.
    pub asked: String,
    /// Where it was asked.
    pub from: String,
    /// As it is read, where that differs.
    pub means: Option<String>,
    /// The roles that it concerns: `engine`, `card`, `harness`, `repository`.
    #[schemars(with = "Vec<String>")]
    pub on: Vec<Role>,
    /// Whether it needs files from outside the repository.
    #[schemars(default)]
    pub field: bool,
    /// What proves it: all of it must hold.
    #[schemars(with = "Vec<EvidenceForm>")]
    pub evidence: Vec<At<Evidence>>,
}

/// One proof.
#[derive(Clone, Debug, PartialEq)]
pub enum Evidence {
    /// Cases that pass.
    Cases(CasesEvidence),
    /// Faults that are noticed.
    Faults(FaultsEvidence),
    /// Times within limits.
    Bench(BenchEvidence),
    /// A page that is there and true.
    Document(DocumentEvidence),
    /// Checks of the harness itself or of the engine as a whole.
    Checks(ChecksEvidence),
}

/// The written form of a proof: exactly one of these.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum EvidenceForm {
    /// Cases that pass.
    Cases(CasesEvidence),
    /// Faults that are noticed.
    Faults(FaultsEvidence),
    /// Times within limits.
    Bench(BenchEvidence),
    /// A page that is there and true.
    Document(DocumentEvidence),
    /// Checks of the harness itself or of the engine as a whole.
    Checks(ChecksEvidence),
}

/// Cases by pattern.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CasesEvidence {
    /// Patterns `stem`, `stem::case`, `stem::case::variant`, with `*` inside a part.
    pub select: Vec<String>,
    /// How many trials there must be on each subject.
    pub at_least: usize,
    /// Types that must be among them.
    #[schemars(default, with = "Vec<forms::Activation>")]
    pub dtypes: Vec<DType>,
    /// Families that must be among them.
    #[schemars(default, with = "Vec<FamilyForm>")]
    pub families: Vec<Family>,
    /// How many different goldens must be among them.
    pub goldens: Option<usize>,
}

/// A family of inputs.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum FamilyForm {
    /// Every partial sum is exact.
    Exact,
    /// Anything else.
    Rough,
    /// A malformed question.
    Refused,
}

/// Faults by id.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct FaultsEvidence {
    /// Mutants that must be noticed.
    pub kill: Vec<String>,
}

/// Benches by pattern, with limits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BenchEvidence {
    /// Patterns as for cases.
    pub select: Vec<String>,
    /// `<figure>_below` or `<figure>_at_least` → number; the figure's name ends in its unit.
    pub limits: BTreeMap<String, f64>,
    /// Limits of the same form on the card's own figures: other cards are not asked.
    pub cards: BTreeMap<String, f64>,
}

impl JsonSchema for BenchEvidence {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "BenchEvidence".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        // Written by hand, because limits have free names and a derived schema knows only fixed
        // ones.
        let limits = serde_json::json!({
            "^[a-z][a-z0-9_]*_(below|at_least)$": {"type": "number", "minimum": 0.0}
        });
        schemars::json_schema!({
            "description": "Benches by pattern, with limits; the limit's name ends in `_below` or \
                            `_at_least` after the figure and its unit.",
            "type": "object",
            "required": ["select"],
            "properties": {
                "select": {"type": "array", "items": {"type": "string"}},
                "cards": {
                    "type": "object", "patternProperties": limits, "additionalProperties": false
                }
            },
            "patternProperties": limits,
            "additionalProperties": false
        })
    }
}

/// A page of the repository.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct DocumentEvidence {
    /// Its path from the repository's root.
    pub path: String,
    /// A heading that it must have.
    pub heading: Option<String>,
    /// `op`: it must name every op of the vocabulary.
    pub names_every: Option<String>,
    /// Whether its console blocks are run and its yaml blocks checked.
    #[schemars(default)]
    pub runs: bool,
}

/// Checks by pattern.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ChecksEvidence {
    /// Patterns as for cases.
    pub select: Vec<String>,
    /// How many there must be.
    pub at_least: usize,
}

impl GatesFile {
    /// Whether these gates decide about a release of this program. Their folder then answers for
    /// all of it: every check is selected, and every op is covered.
    pub fn decides_release(&self) -> bool {
        !self.release.is_empty()
    }
}

/// Reads a whole file.
pub fn gates_file(r: &Reader<'_>, node: &Node) -> Option<GatesFile> {
    let mut f = r.fields(node, "")?;
    let format = f.need("format", version);
    let release = f.may("release", |r, n, p| r.list(n, p, Reader::id)).unwrap_or_default();
    // A folder of somebody else's specs answers to no founding documents.
    let founding = f.may("founding", |r, n, p| r.list(n, p, founding)).unwrap_or_default();
    let gates = f.need("gates", |r, n, p| r.list(n, p, gate_spec));
    f.done();
    Some(GatesFile { format: format?, release, founding, gates: gates? })
}

fn founding(r: &Reader<'_>, node: &Node, path: &str) -> Option<Founding> {
    let mut f = r.fields(node, path)?;
    let id = f.need("id", |r, n, p| Some(At::new(n, r.text(n, p)?)));
    let requirement = f.may("requirement", Reader::text);
    let dropped = f.may("dropped", Reader::text);
    f.done();
    // Silence about an item of the founding documents must be told apart from a decision against
    // it.
    if requirement.is_some() == dropped.is_some() {
        r.note(node, "MISSING_FIELD", path, "`requirement`, or else `dropped` with the reason");
    }
    Some(Founding { id: id?, requirement, dropped })
}

fn gate_spec(r: &Reader<'_>, node: &Node, path: &str) -> Option<GateSpec> {
    let mut f = r.fields(node, path)?;
    let number = f.need("gate", |r, n, p| Some(At::new(n, gate(r, n, p)?)));
    let title = f.need("title", Reader::text);
    let requirements = f.need("requirements", |r, n, p| r.list(n, p, requirement));
    f.done();
    Some(GateSpec { gate: number?, title: title?, requirements: requirements? })
}

fn roles(r: &Reader<'_>, node: &Node, path: &str) -> Option<Vec<Role>> {
    let words = Role::ALL.map(|role| (role.word(), role));
    r.list(node, path, |r, n, p| r.word(n, p, &words))
}

fn requirement(r: &Reader<'_>, node: &Node, path: &str) -> Option<Requirement> {
    let mut f = r.fields(node, path)?;
    let id = f.need("id", |r, n, p| {
        let text = r.text(n, p)?;
        // The letter says who asked: the founding documents (G) or we ourselves (K).
        let form = text.strip_prefix(['G', 'K']).and_then(|rest| rest.split_once('.'));
        match form {
            Some((g, n)) if is_id(g) && is_id(n) => {}
            _ => return r.fail(n, "ID_FORM", p, "as G1.02, or K1.02 for our own"),
        }
        Some(At::new(n, text))
    });
    let asked = f.need("asked", Reader::text);
    let from = f.need("from", Reader::text);
    let means = f.may("means", Reader::text);
    let on = f.need("on", roles);
    let field = f.may("field", Reader::flag).unwrap_or_default();
    let evidence = f.need("evidence", |r, n, p| r.list(n, p, evidence));
    f.done();
    Some(Requirement {
        id: id?,
        asked: asked?,
        from: from?,
        means,
        on: on?,
        field,
        evidence: evidence?,
    })
}

fn evidence(r: &Reader<'_>, node: &Node, path: &str) -> Option<At<Evidence>> {
    // The key names the kind of proof, so exactly one can be read.
    let Kind::Map(entries) = &node.kind else {
        return r.fail(node, "TYPE", path, "a mapping of one proof");
    };
    let [(key, value)] = entries.as_slice() else {
        return r.fail(node, "TYPE", path, "exactly one proof an item");
    };
    let kinds = ["cases", "faults", "bench", "document", "checks"].map(|k| (k, k));
    let kind = r.word(key, path, &kinds)?;
    let path = format!("{path}.{kind}");
    // Its limits have arbitrary names, so it is no mapping of known fields.
    if kind == "bench" {
        return Some(At::new(node, Evidence::Bench(bench(r, value, &path)?)));
    }
    let mut f = r.fields(value, &path)?;
    // From 1, because nothing at all would meet `at_least: 0`.
    let count: Count = |r, n, p| Some(r.int(n, p, 1, 1 << 20)? as usize);
    let read: Option<Evidence> = match kind {
        "cases" => cases(&mut f, count),
        "checks" => {
            let (select, at_least) = (f.need("select", patterns), f.need("at_least", count));
            let both = select.zip(at_least);
            both.map(|(select, at_least)| Evidence::Checks(ChecksEvidence { select, at_least }))
        }
        "faults" => {
            let kill = f.need("kill", |r, n, p| r.list(n, p, Reader::text));
            kill.map(|kill| Evidence::Faults(FaultsEvidence { kill }))
        }
        _ => document(&mut f),
    };
    // Called before a missing key ends the function, so that unknown keys are noted in any case.
    f.done();
    Some(At::new(node, read?))
}

type Count = fn(&Reader<'_>, &Node, &str) -> Option<usize>;

fn cases(f: &mut Fields<'_, '_>, count: Count) -> Option<Evidence> {
    let (select, at_least) = (f.need("select", patterns), f.need("at_least", count));
    let dtypes = f.may("dtypes", dtypes).unwrap_or_default();
    let families = f.may("families", families).unwrap_or_default();
    let goldens = f.may("goldens", count);
    let (select, at_least) = select.zip(at_least)?;
    Some(Evidence::Cases(CasesEvidence { select, at_least, dtypes, families, goldens }))
}

fn document(f: &mut Fields<'_, '_>) -> Option<Evidence> {
    let path = f.need("path", document_path);
    let heading = f.may("heading", Reader::text);
    let names_every =
        f.may("names_every", |r, n, p| r.word(n, p, &[("op", "op")]).map(str::to_owned));
    let runs = f.may("runs", Reader::flag).unwrap_or_default();
    Some(Evidence::Document(DocumentEvidence { path: path?, heading, names_every, runs }))
}

/// A path that stays below the repository's root.
fn document_path(r: &Reader<'_>, node: &Node, path: &str) -> Option<String> {
    let text = r.text(node, path)?;
    // Otherwise a gate could rest on a file outside the repository.
    let part = |p: &str| !p.is_empty() && p != "." && p != ".." && !p.starts_with('~');
    let odd = text.contains(['\\', '\0', ':']) || text.starts_with('/');
    if odd || !text.split('/').all(part) {
        return r.fail(node, "PATH", path, "a path below the repository's root, with `/`");
    }
    Some(text)
}

fn families(r: &Reader<'_>, node: &Node, path: &str) -> Option<Vec<Family>> {
    let all = [("exact", Family::Exact), ("rough", Family::Rough), ("refused", Family::Refused)];
    r.list(node, path, |r, n, p| r.word(n, p, &all))
}

fn patterns(r: &Reader<'_>, node: &Node, path: &str) -> Option<Vec<String>> {
    let list = r.list(node, path, |r, n, p| {
        let text = r.text(n, p)?;
        // A pattern is checked like the name it could match, so `*` is replaced by a letter.
        let part = |part: &str| is_id(&part.replace('*', "x"));
        let parts: Vec<&str> = text.split("::").collect();
        if parts.len() > 3 || !parts.iter().all(|p| part(p)) {
            return r.fail(n, "ID_FORM", p, "stem, stem::case or stem::case::variant");
        }
        Some(text)
    })?;
    // An empty selection would be proved by nothing.
    if matches!(&node.kind, Kind::List(items) if items.is_empty()) {
        return r.fail(node, "GATE_EMPTY", path, "one pattern at least");
    }
    Some(list)
}

fn bench(r: &Reader<'_>, node: &Node, path: &str) -> Option<BenchEvidence> {
    let Kind::Map(entries) = &node.kind else {
        return r.fail(node, "TYPE", path, "a mapping");
    };
    let mut evidence = BenchEvidence::default();
    for (key, value) in entries {
        let name = key.text().unwrap_or_default();
        let field = format!("{path}.{name}");
        match name {
            "select" => evidence.select = patterns(r, value, &field)?,
            "cards" => {
                for (key, limit) in r.table(value, &field, limit_value)? {
                    limit_name(r, value, &field, &key.value)?;
                    evidence.cards.insert(key.value, limit);
                }
            }
            _ => {
                limit_name(r, key, &field, name)?;
                evidence.limits.insert(name.to_owned(), limit_value(r, value, &field)?);
            }
        }
    }
    // Without a limit any time would be good enough.
    if evidence.select.is_empty() || evidence.limits.is_empty() {
        return r.fail(node, "MISSING_FIELD", path, "`select` and one limit at least");
    }
    Some(evidence)
}

fn limit_value(r: &Reader<'_>, node: &Node, path: &str) -> Option<f64> {
    // Neither zero nor infinite, because such a limit is met always or never.
    r.number_in(node, path, (0.0, false, 1e15))
}

/// The units that a figure's name may end in.
pub const UNITS: [&str; 8] = ["us", "ms", "s", "gb_s", "tflops", "bytes", "share", "tokens_s"];

/// The figure that a limit's name refers to, and whether the limit is a lower bound.
pub fn figure(name: &str) -> Option<(&str, bool)> {
    let below = name.strip_suffix("_below").map(|f| (f, false));
    let (figure, lower) = below.or_else(|| name.strip_suffix("_at_least").map(|f| (f, true)))?;
    // A limit ends in its unit, so that milliseconds are not compared with microseconds by mistake.
    let unit = |u: &str| figure == u || figure.strip_suffix(u).is_some_and(|f| f.ends_with('_'));
    UNITS.iter().any(|u| unit(u)).then_some((figure, lower))
}

fn limit_name(r: &Reader<'_>, node: &Node, path: &str, name: &str) -> Option<()> {
    match figure(name) {
        Some(_) => Some(()),
        None => {
            let expected = format!("<figure>_<unit>_below or _at_least; units {}", UNITS.join(" "));
            r.note_at(node.line, node.column, "UNKNOWN_FIELD", path, name, &expected);
            None
        }
    }
}
