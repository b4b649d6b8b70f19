//! What a subject reports about itself while it answers.

use serde_json::Value;

/// Observations for one question (section 8 of docs/wire.md). Absent means *not observed*, and not
/// *intact*.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Observed {
    /// `intact`, or the guard that was overwritten.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub guards: Option<String>,
    /// `unchanged`, or the input that was changed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inputs: Option<String>,
    /// `overwritten`, or what was left unwritten.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub poison: Option<String>,
    /// The kernel entries that ran.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub route: Option<Vec<String>>,
    /// The most bytes held: on the device for an op; for a file, on the host beyond those held
    /// before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peak_bytes: Option<u64>,
    /// The largest single allocation on the host, in bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub largest_request: Option<u64>,
    /// The processor time for a file, in µs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cpu_us: Option<u64>,
}

impl Observed {
    /// The field `observed` of an answer; if absent, nothing was observed.
    ///
    /// # Errors
    /// A field has the wrong type.
    pub fn from_answer(body: &Value) -> Result<Observed, String> {
        match &body["observed"] {
            // Absent means that nothing was observed, which is no error.
            Value::Null => Ok(Observed::default()),
            given => Observed::read(given),
        }
    }

    /// Reads the value of the field `observed`.
    ///
    /// # Errors
    /// A field has the wrong type.
    pub fn read(value: &Value) -> Result<Observed, String> {
        // Fields of another name are ignored, so that later subjects may observe more.
        serde_json::from_value(value.clone()).map_err(|e| format!("observed: {e}"))
    }

    /// The observations as JSON, without those that are absent.
    pub fn json(&self) -> Value {
        // Cannot fail: a struct of strings, lists and numbers always becomes JSON.
        serde_json::to_value(self).unwrap_or_default()
    }
}
