//! The generated files: schema.json from the types that read specs, and the table of gates in
//! README.md.

use std::path::{Path, PathBuf};

use goldgate_harness::report::text::line;
use goldgate_harness::spec::gates::GatesFile;
use goldgate_harness::spec::{Specs, schema};
use goldgate_harness::store::manifest::replace;
use goldgate_harness::yaml::Problem;
use goldgate_tensor::foreign::{Bounds, LARGEST_TEXT, read_foreign_text};

use crate::commands::Failure;

/// The line before the table of gates.
pub const BEGIN: &str = "<!-- gates: written by `goldgate check --write` -->";

/// The line after it.
pub const END: &str = "<!-- end of gates -->";

/// Problems for generated files that differ from what the program generates.
pub fn problems(root: &Path, specs: &Specs) -> Vec<Problem> {
    let expected = "goldgate check --write";
    let of = |file: &str, found: &str| Problem::of_file("GENERATED", file, found, expected);
    let mut problems =
        match read_foreign_text(&root.join("schema.json"), Bounds::of_user(LARGEST_TEXT)) {
            Ok(text) if text == schema::text() => Vec::new(),
            Ok(_) => vec![of("schema.json", "another text")],
            // Editors need it; somebody's own folder of a few cases can do without.
            Err(_) if !specs.gates.decides_release() => Vec::new(),
            Err(_) => vec![of("schema.json", "no file")],
        };
    // Gates that could not be read would make another table, whose cause is reported already.
    if !specs.broken.has_gates()
        && let Some((_, text)) = readme(root)
        && with_table(&text, &specs.gates).is_some_and(|new| new != text)
    {
        problems.push(of("../README.md", "another table of gates"));
    }
    problems
}

/// Writes schema.json.
///
/// # Errors
/// The folder cannot be written.
pub fn write_schema(specs: &Path) -> Result<(), Failure> {
    Ok(replace(&specs.join("schema.json"), schema::text().as_bytes())?)
}

/// Writes the table of gates into the README.md next to the specs, if it has a place for it.
///
/// # Errors
/// The file cannot be written.
pub fn write_table(specs: &Path, gates: &GatesFile) -> Result<(), Failure> {
    if let Some((path, text)) = readme(specs)
        && let Some(new) = with_table(&text, gates)
    {
        replace(&path, new.as_bytes())?;
    }
    Ok(())
}

fn readme(specs: &Path) -> Option<(PathBuf, String)> {
    let path = specs.canonicalize().ok()?.parent()?.join("README.md");
    let text = read_foreign_text(&path, Bounds::of_user(LARGEST_TEXT)).ok()?;
    Some((path, text))
}

/// The text with the table between the two marker lines; none if they are missing.
fn with_table(text: &str, gates: &GatesFile) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    // Without its second mark the table has no end, and the rest of the page would be lost.
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n{END}{after}", table(gates)))
}

/// One row per gate. Numbers that change with every case are left out, so that two people who add
/// cases do not conflict here.
fn table(gates: &GatesFile) -> String {
    let mut table =
        String::from("| gate | says | must hold on | requirements |\n|---|---|---|---|\n");
    let release: Vec<&str> = gates.release.iter().map(|label| label.value.as_str()).collect();
    for gate in &gates.gates {
        table += &format!(
            "| {} | {} | {} | {} |\n",
            gate.gate.value,
            line(&gate.title).replace('|', "\\|"),
            release.join(", "),
            gate.requirements.len(),
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_between_its_lines_and_nothing_else_changes() {
        let none = GatesFile::default();
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let new = with_table(&text, &none).expect("a place");
        assert!(new.starts_with(&format!("a\n{BEGIN}\n\n| gate |")), "{new}");
        assert!(new.ends_with(&format!("\n{END}\nb\n")) && !new.contains("\nold\n"), "{new}");
        assert_eq!(with_table(&new, &none), Some(new.clone()));
        assert_eq!(with_table("a\n", &none), None);
        assert_eq!(with_table(END, &none), None);
    }
}
