"""Wrong formulas of the norms and of softmax: mistakes that a golden must tell from the right one.

Each takes the question and gives the results that the mistake would give.
"""

import numpy as np

from norms import layernorm, residual_sum, rmsnorm, softmax
from signature import Question
from stored import rounded


def moments(x):
    """Mean and biased variance of the last axis."""
    mean = x.mean(-1, keepdims=True)
    return mean, ((x - mean) ** 2).mean(-1, keepdims=True)


def affine(x, mean, deviation, gamma, beta):
    """(x - mean)/deviation·gamma + beta, where 0/0 is NaN as on the device."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (x - mean) / deviation * gamma + beta


def sum_in(x, stored: str):
    """Sums of the last axis, the running sum rounded to a narrow type at each step."""
    total = np.zeros(x.shape[:-1])
    for i in range(x.shape[-1]):
        total = rounded(total + x[..., i], stored)
    return total[..., None]


def one_pass_f32(x, gamma, beta, eps):
    """E[x²] - E[x]² in f32: cancels for a large mean."""
    f = x.astype(np.float32)
    mean = f.mean(-1, keepdims=True, dtype=np.float32)
    variance = (f * f).mean(-1, keepdims=True, dtype=np.float32) - mean * mean
    with np.errstate(invalid="ignore"):
        return affine(x, mean, np.sqrt(variance + np.float32(eps)).astype(np.float64), gamma, beta)


def sums_in_f16(x, gamma, beta, eps):
    """Mean and variance summed in f16: overflows at 65,504."""
    k = x.shape[-1]
    with np.errstate(all="ignore"):
        mean = sum_in(x, "f16") / k
        variance = sum_in(rounded((x - mean) ** 2, "f16"), "f16") / k
        return affine(x, mean, np.sqrt(variance + eps), gamma, beta)


def last_left_out(x, gamma, beta, eps):
    """The last element is in neither sum; the divisor is the whole width."""
    k = x.shape[-1]
    mean = x[..., :-1].sum(-1, keepdims=True) / k
    variance = ((x - mean)[..., :-1] ** 2).sum(-1, keepdims=True) / k
    return affine(x, mean, np.sqrt(variance + eps), gamma, beta)


def previous_row(x, gamma, beta, eps):
    """Row r takes the statistics of row r - 1, the first those of the last."""
    mean, variance = (np.roll(m, 1, axis=0) for m in moments(x))
    return affine(x, mean, np.sqrt(variance + eps), gamma, beta)


def over_rows(x, gamma, beta, eps):
    """Statistics over the rows in place of the columns."""
    mean = x.mean(0, keepdims=True)
    variance = ((x - mean) ** 2).mean(0, keepdims=True)
    return affine(x, mean, np.sqrt(variance + eps), gamma, beta)


def raw_second_moment(x, gamma, beta, eps):
    """E[x²] in place of the variance."""
    mean, _ = moments(x)
    return affine(x, mean, np.sqrt((x * x).mean(-1, keepdims=True) + eps), gamma, beta)


def mean_kept(x, gamma, beta, eps):
    """The mean is not subtracted in the numerator."""
    return affine(x, 0, np.sqrt(moments(x)[1] + eps), gamma, beta)


def unbiased(x, gamma, beta, eps):
    """n - 1 in the divisor of the variance."""
    k = x.shape[-1]
    mean, variance = moments(x)
    with np.errstate(divide="ignore", invalid="ignore"):
        return affine(x, mean, np.sqrt(variance * np.divide(k, k - 1.0) + eps), gamma, beta)


def eps_outside(x, gamma, beta, eps):
    """√var + eps in place of √(var + eps)."""
    mean, variance = moments(x)
    return affine(x, mean, np.sqrt(variance) + eps, gamma, beta)


LAYERNORM = {
    "bf16_statistics": lambda x, g, b, eps: affine(
        x, *(rounded(m, "bf16") for m in (moments(x)[0], np.sqrt(moments(x)[1] + eps))), g, b
    ),
    "eps_outside_root": eps_outside,
    "gamma_plus_one": lambda x, g, b, eps: layernorm(x, g + 1, b, eps),
    "last_element_left_out": last_left_out,
    "mean_not_subtracted": mean_kept,
    "n_minus_1_divisor": unbiased,
    "no_eps": lambda x, g, b, eps: affine(x, moments(x)[0], np.sqrt(moments(x)[1]), g, b),
    "no_gamma": lambda x, g, b, eps: layernorm(x, 1, b, eps),
    "one_pass_f32": one_pass_f32,
    "over_rows": over_rows,
    "raw_second_moment": raw_second_moment,
    "statistics_of_previous_row": previous_row,
    "sums_in_f16": sums_in_f16,
}


def mean_square(x):
    """The mean square of the last axis."""
    return (x * x).mean(-1, keepdims=True)


def no_eps(x, gamma, eps):
    """eps left out: a zero row is 0/0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return x / np.sqrt(mean_square(x)) * gamma


def rms_sums_in_f16(x, gamma, eps):
    """Squares summed in f16: overflows at 65,504."""
    with np.errstate(all="ignore"):
        v = sum_in(rounded(x * x, "f16"), "f16") / x.shape[-1]
        return x / np.sqrt(v + eps) * gamma


def rounded_before_gamma(x, gamma, eps, stored):
    """The normalised row is rounded to D before gamma."""
    return rounded(rmsnorm(x, 1, eps), stored) * gamma


RMSNORM = {
    "eps_outside_root": lambda x, g, eps: x / (np.sqrt(mean_square(x)) + eps) * g,
    "gamma_plus_one": lambda x, g, eps: rmsnorm(x, g + 1, eps),
    "last_element_left_out": lambda x, g, eps: x
    / np.sqrt((x[..., :-1] ** 2).sum(-1, keepdims=True) / x.shape[-1] + eps)
    * g,
    "mean_subtracted": lambda x, g, eps: layernorm(x, g, 0, eps),
    "no_eps": no_eps,
    "no_gamma": lambda x, g, eps: rmsnorm(x, 1, eps),
    "over_rows": lambda x, g, eps: x / np.sqrt((x * x).mean(0, keepdims=True) + eps) * g,
    "rounded_to_bf16_before_gamma": lambda x, g, eps: rounded_before_gamma(x, g, eps, "bf16"),
    "rounded_to_f16_before_gamma": lambda x, g, eps: rounded_before_gamma(x, g, eps, "f16"),
    "statistics_of_previous_row": lambda x, g, eps: x
    / np.sqrt(np.roll(mean_square(x), 1, axis=0) + eps)
    * g,
    "sum_for_mean": lambda x, g, eps: x / np.sqrt((x * x).sum(-1, keepdims=True) + eps) * g,
    "sums_in_f16": rms_sums_in_f16,
}


def of_x(formula, *operands):
    """A wrong norm of operand x."""

    def wrong(q: Question) -> dict:
        return {"y": formula(q["x"], *(q[name] for name in operands), q.attr["eps"])}

    return wrong


def of_sum(formula, *operands):
    """A wrong norm of x + residual, with the right sum beside it."""

    def wrong(q: Question) -> dict:
        total = residual_sum(q)
        return {"y": formula(total, *(q[name] for name in operands), q.attr["eps"]), "sum": total}

    return wrong


def residual_mistakes(norm, *operands) -> dict:
    """Mistakes of the fused addition: left out, taken twice, not rounded, other operand out."""

    def of(total, sum_as=None):
        def wrong(q: Question) -> dict:
            t = total(q)
            y = norm(t, *(q[name] for name in operands), q.attr["eps"])
            return {"y": y, "sum": t if sum_as is None else sum_as(q)}

        return wrong

    def in_type(value, q):
        return rounded(value, q.stored("residual"))

    return {
        "norm_of_residual_alone": of(lambda q: q["residual"], residual_sum),
        "norm_of_unrounded_sum": of(lambda q: q["x"] + q["residual"], residual_sum),
        "norm_of_x_alone": of(lambda q: q["x"], residual_sum),
        "residual_left_out": of(lambda q: q["x"]),
        "residual_twice": of(lambda q: in_type(q["x"] + 2 * q["residual"], q)),
        "sum_is_x": of(residual_sum, lambda q: q["x"]),
    }


def block_softmax(z, block: int = 256):
    """Each 256 columns normalised by themselves."""
    cut = [softmax(z[..., i : i + block]) for i in range(0, z.shape[-1], block)]
    return np.concatenate(cut, axis=-1)


def softmax_without_max(z):
    """exp in f32 without the maximum: overflows at 89."""
    with np.errstate(over="ignore", invalid="ignore"):
        e = np.exp(z.astype(np.float32))
        return (e / e.sum(-1, keepdims=True)).astype(np.float64)


def softmax_mistake(formula):
    """A wrong softmax of scale·x."""
    return lambda q: {"y": formula(q.attr["scale"] * q["x"])}


def tail_left_out(z):
    """The last column is not in the denominator."""
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e[..., :-1].sum(-1, keepdims=True)


def padded(z):
    """Rows padded to 64 columns with zeros that take part in maximum and sum."""
    pad = -z.shape[-1] % 64
    wide = np.concatenate([z, np.zeros((*z.shape[:-1], pad))], axis=-1)
    return softmax(wide)[..., : z.shape[-1]]


def clamped_exponent(z):
    """Differences below -20 flushed to zero."""
    d = z - z.max(-1, keepdims=True)
    e = np.where(d < -20, 0, np.exp(d))
    return e / e.sum(-1, keepdims=True)


def sum_in_f16(z):
    """The denominator summed in f16: stops growing at 2048."""
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / sum_in(rounded(e, "f16"), "f16")


WRONG = {
    "layernorm": {k: of_x(f, "gamma", "beta") for k, f in LAYERNORM.items()},
    "layernorm_residual": {
        **{k: of_sum(f, "gamma", "beta") for k, f in LAYERNORM.items()},
        **residual_mistakes(layernorm, "gamma", "beta"),
    },
    "rmsnorm": {k: of_x(f, "gamma") for k, f in RMSNORM.items()},
    "rmsnorm_residual": {
        **{k: of_sum(f, "gamma") for k, f in RMSNORM.items()},
        **residual_mistakes(rmsnorm, "gamma"),
    },
    "softmax": {
        "block_of_256_alone": softmax_mistake(block_softmax),
        "far_terms_flushed": softmax_mistake(clamped_exponent),
        "last_column_left_out": softmax_mistake(tail_left_out),
        "over_rows": lambda q: {"y": softmax((q.attr["scale"] * q["x"]).T).T},
        "padding_counted": softmax_mistake(padded),
        "scale_left_out": lambda q: {"y": softmax(q["x"])},
        "sum_in_f16": softmax_mistake(sum_in_f16),
        "without_max": softmax_mistake(softmax_without_max),
    },
}
