//! q8_0: d·q with signed bytes.

/// Decodes one block of 34 bytes: f16 d, 32 signed codes.
pub(super) fn block(b: &[u8], out: &mut Vec<f64>) {
    let d = super::half_at(b, 0);
    out.extend(b[2..34].iter().map(|q| d * f64::from(q.cast_signed())));
}
