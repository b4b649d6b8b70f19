//! q4_0: d·(q − 8); element j in the low nibble of byte j, element j + 16 in the high one.

/// Decodes one block of 18 bytes: f16 d, 16 bytes of codes.
pub(super) fn block(b: &[u8], out: &mut Vec<f64>) {
    let d = super::half_at(b, 0);
    let codes = &b[2..18];
    out.extend(codes.iter().map(|q| d * (f64::from(q & 15) - 8.0)));
    out.extend(codes.iter().map(|q| d * (f64::from(q >> 4) - 8.0)));
}
