//! q6_k: d·scale·(q − 32); four quarters of 32 a half block, two high bits each in shared bytes.

/// Decodes one block of 210 bytes: 128 of low nibbles, 64 of high bits, 16 signed scales, f16 d.
pub(super) fn block(b: &[u8], out: &mut Vec<f64>) {
    let d = super::half_at(b, 208);
    for half in 0..2 {
        let low = &b[64 * half..64 * half + 64];
        let high = &b[128 + 32 * half..128 + 32 * half + 32];
        let scales = &b[192 + 8 * half..192 + 8 * half + 8];
        for quarter in 0..4 {
            for l in 0..32 {
                let nibble = low[l + 32 * (quarter & 1)] >> (4 * (quarter >> 1)) & 15;
                let code = nibble | (high[l] >> (2 * quarter) & 3) << 4;
                let scale = f64::from(scales[l / 16 + 2 * quarter].cast_signed());
                out.push(d * scale * (f64::from(code) - 32.0));
            }
        }
    }
}
