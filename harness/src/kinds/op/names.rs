//! Checks that an op knows the names in its file: operands, attributes, sizes, and what a case
//! refuses.
//!
//! A name that is misspelt in the head would be noted again by every case, so it is checked here
//! once.

use std::collections::BTreeSet;

use goldgate_engine::ops::signature::Signature;

use crate::kinds::op::spec::{Axis, CaseSpec, OpFile};
use crate::yaml::near::{guess, one_of};
use crate::yaml::place::{entry, value};
use crate::yaml::read::Reader;
use crate::yaml::tree::{Kind, Node};

/// Notes every name in the head that the op does not have.
pub fn head(r: &Reader<'_>, node: &Node, file: &OpFile, signature: &Signature) {
    let operands: Vec<&str> = signature.operands.iter().map(|o| o.name).collect();
    for (name, input) in &file.inputs {
        if !operands.contains(&name.value.as_str()) {
            let known = one_of(&name.value, &operands);
            let expected = format!("an operand of {}: {known}", signature.name);
            r.note_value(name, "ENUM", &format!("inputs.{}", name.value), &name.value, &expected);
        }
        // An empty axis in the head would turn every case into one that must be refused.
        if input.shape.value.contains(&Axis::Number(0)) {
            r.note_value(&input.shape, "SHAPE", "inputs", "an empty axis", "sizes from 1");
        }
    }
    // Read from the tree, because the place of each key is needed and the map no longer has it.
    if let Some(map) = value(node, "attributes") {
        attributes(r, map, "attributes", signature);
    }
    symbols(r, file);
}

/// Notes every name in cases and benches that the op does not have.
pub fn cases(r: &Reader<'_>, node: &Node, file: &OpFile, signature: &Signature) {
    for list in ["cases", "bench"] {
        let Some(Kind::List(items)) = value(node, list).map(|n| &n.kind) else { continue };
        for (i, item) in items.iter().enumerate() {
            // A case that refuses often gives an attribute that the op does not have.
            if value(item, "refuses").is_some() {
                continue;
            }
            if let Some(map) = value(item, "attributes") {
                attributes(r, map, &format!("{list}[{i}].attributes"), signature);
            }
        }
    }
    for (i, case) in file.cases.iter().enumerate().filter(|(_, c)| c.is_whole) {
        refused(r, &format!("cases[{i}].refuses.operand"), (node, file, case), signature);
    }
}

fn attributes(r: &Reader<'_>, map: &Node, path: &str, signature: &Signature) {
    let known: Vec<&str> = signature.attributes.iter().map(|a| a.name).collect();
    let Kind::Map(entries) = &map.kind else { return };
    for (key, _) in entries {
        let name = key.text().unwrap_or_default();
        if !known.contains(&name) {
            let expected = match known.is_empty() {
                true => "no attribute".to_owned(),
                false => one_of(name, &known),
            };
            let expected = format!("an attribute of {}: {expected}", signature.name);
            r.note(key, "ENUM", &format!("{path}.{name}"), &expected);
        }
    }
}

/// Notes axes that have no size in any case or bench.
fn symbols(r: &Reader<'_>, file: &OpFile) {
    // With a single case it is clearer to report the missing size of that case.
    if file.cases.len() + file.bench.len() < 2 {
        return;
    }
    let cases = file.cases.iter().flat_map(|c| &c.sizes);
    let benches = file.bench.iter().flat_map(|b| &b.sizes);
    let sizes: BTreeSet<&str> = cases.chain(benches).map(|(name, _)| name.value.as_str()).collect();
    for (name, input) in &file.inputs {
        for axis in &input.shape.value {
            let Axis::Symbol(symbol) = axis else { continue };
            if !sizes.contains(symbol.as_str()) {
                let field = format!("inputs.{}.shape", name.value);
                let near = guess(symbol, sizes.iter().copied());
                let expected = format!("a size that some case gives{near}");
                r.note_value(&input.shape, "ENUM", &field, symbol, &expected);
            }
        }
    }
}

/// Notes a case that refuses neither an operand or attribute of the op nor one that it adds itself.
fn refused(
    r: &Reader<'_>,
    field: &str,
    (node, file, case): (&Node, &OpFile, &CaseSpec),
    signature: &Signature,
) {
    let Some(refuses) = &case.refuses else { return };
    let operands = signature.operands.iter().map(|o| o.name);
    let attributes = signature.attributes.iter().map(|a| a.name);
    let results = signature.results.iter().map(|r| r.name);
    let own = case.shape.iter().map(|(name, _)| name.value.as_str());
    let given = case.attributes.keys().chain(file.attributes.keys()).map(String::as_str);
    let known: Vec<&str> =
        operands.chain(attributes).chain(results).chain(own).chain(given).collect();
    let operand = &refuses.value.operand;
    // A refusal may name an element, as `weights[3]`, or a field, as `scaling.factor`. The op only
    // has to know the operand or attribute before it.
    let whole = operand.split(['[', '.']).next().unwrap_or_default();
    if known.contains(&whole) {
        return;
    }
    let path = [("cases", Some(case.name.value.as_str())), ("refuses", None), ("operand", None)];
    let (line, column) = entry(node, &path).unwrap_or((refuses.line, refuses.column));
    let expected =
        format!("an operand or attribute of {}: {}", signature.name, one_of(whole, &known));
    r.note_at(line, column, "ENUM", field, operand, &expected);
}
