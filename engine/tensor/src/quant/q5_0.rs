//! q5_0: d·(q − 16); nibbles as in q4_0, the fifth bit of element j in bit j of a u32.

/// Decodes one block of 22 bytes: f16 d, u32 of high bits, 16 bytes of low nibbles.
pub(super) fn block(b: &[u8], out: &mut Vec<f64>) {
    let d = super::half_at(b, 0);
    let high = u32::from_le_bytes([b[2], b[3], b[4], b[5]]);
    let codes = &b[6..22];
    let value = |low: u8, j: usize| d * (f64::from(u32::from(low) | (high >> j & 1) << 4) - 16.0);
    out.extend(codes.iter().enumerate().map(|(j, q)| value(q & 15, j)));
    out.extend(codes.iter().enumerate().map(|(j, q)| value(q >> 4, j + 16)));
}
