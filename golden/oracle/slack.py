"""The slack of each op: first-order error of a legal kernel, in units of 2^-24 (specs/README.md).

`root` is √K, or K where sequential sums are allowed; `product` is 6√K, plus K/8 on the tensor
core. M of a sum is the larger of its largest |partial sum| and of √Σ terms²; Q is √Σ terms².
"""

import math

import numpy as np

UNIT = 2.0**24
# Below 2^-126 an f32 exponential is subnormal and may be flushed: in units of 2^-24.
UNDERFLOW = 2.0**-102


def extents(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """M and Q of every x [n, k] · w [o, k] in index order: two [n, o]."""
    largest = np.empty((len(x), len(w)))
    square = np.empty_like(largest)
    for i, row in enumerate(x):
        terms = w * row
        square[i] = np.sqrt(np.einsum("ok,ok->o", terms, terms))
        np.cumsum(terms, axis=-1, out=terms)
        largest[i] = np.maximum(terms.max(-1), -terms.min(-1))
    return np.maximum(largest, square), square


def matrix(x, parts, bias, product: float) -> tuple[np.ndarray, np.ndarray]:
    """Slack and Q of linear: (product + 6)·M + |bias| + 3·√(K/32)·M for block types.

    `parts` are the weight's parts and whether it is of a block type; parts count apart in M.
    Q is that of the whole weight, for `keeps: w`.
    """
    weights, block = parts
    k = x.shape[-1]
    m = sum(extents(x, part)[0] for part in weights)
    q = extents(x, sum(weights))[1]
    factor = product + 6 + (3 * math.sqrt(k / 32) if block else 0)
    return factor * m + (0 if bias is None else np.abs(bias)), q


def layernorm(x, gamma, beta, y, eps: float, root: float) -> np.ndarray:
    """|gamma|/σ·(2√K·mean|x| + |mean| + 6|x_0 - mean|)
    + |gamma·x̂|·(√K·v/(v+eps) + 4) + |beta| + |y|.

    The kernel sums differences to the row's first element, so where that one is an outlier each
    difference and the sum carry its size. The six: the rounding of the element's own difference,
    the mean of the roundings of all, the last three levels of the tree of sums (each at most half
    an ulp of the whole; those below average out), and the division by K.
    """
    mean = x.mean(-1, keepdims=True)
    v = ((x - mean) ** 2).mean(-1, keepdims=True)
    sigma = np.sqrt(v + eps)
    size = np.abs(x).mean(-1, keepdims=True)
    first = np.abs(x[..., :1] - mean)
    centred = np.abs(gamma) / sigma * (2 * root * size + np.abs(mean) + 6 * first)
    scaled = np.abs(gamma * (x - mean) / sigma) * (root * v / (v + eps) + 4)
    return centred + scaled + np.abs(beta) + np.abs(y)


def rmsnorm(x, y, eps: float, root: float) -> np.ndarray:
    """|y|·(√K·v/(v+eps) + 5), v the mean square."""
    v = (x * x).mean(-1, keepdims=True)
    return np.abs(y) * (root * v / (v + eps) + 5)


def softmax(z, p, root: float, scaled: bool = False) -> np.ndarray:
    """p·(2√K + |z - max| + 8) + 2^-102, z scaled: an exponential may leave f32's normal range.

    Where a scale was multiplied in, each z is rounded: |z_i| + Σ p·|z| more.
    """
    allowed = 2 * root + np.abs(z - z.max(-1, keepdims=True)) + 8
    if scaled:
        allowed = allowed + np.abs(z) + (p * np.abs(z)).sum(-1, keepdims=True)
    return p * allowed + UNDERFLOW


def gelu(x, y, scale: float) -> np.ndarray:
    """4|y| + 2|x|; x with the scale of the result."""
    return 4 * np.abs(y) + 2 * np.abs(scale * x)


def swiglu(gate, up, y, slope: float | None = None) -> np.ndarray:
    """|y|·(8 + |gate|) + 2^-102·|gate·up|; with a slope 2·|slope·gate|: that product rounds too."""
    exponent = np.abs(gate) if slope is None else 2 * np.abs(slope * gate)
    return np.abs(y) * (8 + exponent) + UNDERFLOW * np.abs(gate * up)


def rope(x1, x2, angle, magnitude: float) -> np.ndarray:
    """(|x1| + |x2|)·(4 + 4·|angle|), angle not reduced: an engine may hold it in f32."""
    return magnitude * (np.abs(x1) + np.abs(x2)) * (4 + 4 * np.abs(angle))
