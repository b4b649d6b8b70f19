//! What a subject says about itself while it answers.

use serde_json::Value;

/// Observations of one question, in section 8 of docs/wire.md; absent is *not observed*, not
/// *intact*.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Observed {
    /// `intact`, or which guard broke.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub guards: Option<String>,
    /// `unchanged`, or which input changed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inputs: Option<String>,
    /// `overwritten`, or what was left.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub poison: Option<String>,
    /// Kernel entries that ran.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub route: Option<Vec<String>>,
    /// Most bytes held: of the device by an op, of the host by a file beyond those before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peak_bytes: Option<u64>,
    /// Largest single host allocation, bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub largest_request: Option<u64>,
    /// Processor time that a file took, µs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cpu_us: Option<u64>,
}

impl Observed {
    /// The field `observed` of an answer; nothing observed where it is absent.
    ///
    /// # Errors
    /// A field of another type.
    pub fn of(body: &Value) -> Result<Observed, String> {
        match &body["observed"] {
            Value::Null => Ok(Observed::default()),
            given => Observed::read(given),
        }
    }

    /// Reads the value of the field `observed`.
    ///
    /// # Errors
    /// A field of another type.
    pub fn read(value: &Value) -> Result<Observed, String> {
        serde_json::from_value(value.clone()).map_err(|e| format!("observed: {e}"))
    }

    /// As JSON, without what was not observed.
    pub fn json(&self) -> Value {
        // A struct of strings, lists and numbers always becomes JSON.
        serde_json::to_value(self).unwrap_or_default()
    }
}
