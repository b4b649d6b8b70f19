//! The texts that `goldgate new` writes about models.

use std::path::Path;

use goldgate_harness::yaml::read::is_id;

use crate::commands::Failure;

/// A file with one case. Its forms are those below golden/models with its name, or else a model
/// that ships.
pub fn file(name: &str, golden: &Path) -> Result<String, Failure> {
    if !is_id(name) {
        return Err(Failure::Usage(format!("{name:?} is no name of a file of cases")));
    }
    let forms_of = |stem: &str| {
        let folder = golden.join("models").join(stem);
        let files = ["f16", "q4_k_m", "q8_0"];
        let mut forms: Vec<String> = files
            .into_iter()
            .filter(|label| folder.join(format!("{label}.gguf")).is_file())
            .map(|label| format!("  {label}: {{ path: models/{stem}/{label}.gguf }}\n"))
            .collect();
        if folder.join("hf").is_dir() {
            // The forms hold the same numbers, so they share their goldens.
            let shared = if forms.is_empty() { "" } else { ", weights: f16" };
            forms.push(format!("  hf: {{ path: models/{stem}/hf{shared} }}\n"));
        }
        forms.concat()
    };
    // Without files of its own the new text names those of a model that ships, so that it can be
    // run.
    let own = forms_of(name);
    let forms = if own.is_empty() { forms_of("gpt2-tiny") } else { own };
    Ok(format!(
        "# yaml-language-server: $schema=../schema.json\nformat: 1\nmodel: {name}\ngate: 2\n\
         source: who published the architecture, and where the weights come from\n\n# A form each, \
         below golden/; every case is asked of all of them, or of those in its `files`.\n\
         files:\n{forms}# Positions of a session.\ncontext: 128\n\nloads:\n  - name: fits\n    \
         why: it loads, gives logits, and gives its memory back\n    within_s: 60\n    \
         memory: true\n"
    ))
}

/// The list for a kind of case, and a commented example.
pub fn case(kind: &str, name: &str) -> Option<(&'static str, String)> {
    let ids = "prompt: { ids: [1, 2, 3] }";
    let (list, rest) = match kind {
        "stage" => ("stages:", format!("{ids}\n    slots: [\"*\"]\n    activations: [f32]\n")),
        "logits" => ("logits:", format!("{ids}\n    ways: [whole, chunks_of_2, one_by_one]\n")),
        "generation" => ("generation:", format!("{ids}\n    max_tokens: 10\n    repeat: 2\n")),
        "perplexity" => (
            "perplexity:",
            "text: models/text/chapter-12.txt\n    tokens: 200\n    window: 64\n    within:\n      \
             relative: 1.0e-4\n      because: \"an example: the f32 class allows that much\"\n    \
             activations: [f32]\n"
                .to_owned(),
        ),
        "draws" => (
            "draws:",
            "contexts: { text: models/text/chapter-12.txt, count: 16, length: 12 }\n    \
             seeds: 64\n    sampling: { temperature: 0.8, top_k: 40 }\n"
                .to_owned(),
        ),
        _ => return None,
    };
    let why = "    # What goes wrong where this case is missing.\n    why: an example";
    Some((list, format!("  - name: {name}\n{why}\n    {rest}")))
}
