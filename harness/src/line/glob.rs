//! Patterns with `*`, as filters on the command line use them.

pub use goldgate_wire::globs::{glob, means};

/// Whether a filter of the command line selects a name. With `*` it is a glob over the whole name
/// or over adjacent parts of it, so `gelu*` and `gelu::*` select what they appear to; without, it
/// matches any substring of the name.
pub fn filters(filter: &str, name: &str) -> bool {
    // Without `*` a filter is a search term, as it would be for a test runner.
    if !filter.contains('*') {
        return name.contains(filter);
    }
    let (globs, parts): (Vec<&str>, Vec<&str>) =
        (filter.split("::").collect(), name.split("::").collect());
    // A filter may name a few parts from the middle of a name, so it is tried at each of them.
    let each = |window: &[&str]| globs.iter().zip(window).all(|(g, p)| glob(g, p));
    // A `*` may also reach across the parts of a name.
    glob(filter, name) || parts.windows(globs.len()).any(each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_select_what_they_look_like() {
        let name = "gate1::gelu::ragged::f16::cpu";
        for (filter, want) in [
            ("gelu", true),
            ("gelu*", true),
            ("gelu::*", true),
            ("gel*::rag*", true),
            ("gate1::gelu::ragged::f16::cpu", true),
            ("gate1::*::cpu", true),
            ("*ragged*", true),
            ("elu*", false),
            ("gelu::*::cuda", false),
            ("gelu::f16*", false),
            ("a::*::b::*::c::*", false),
        ] {
            assert_eq!(filters(filter, name), want, "{filter}");
        }
    }
}
