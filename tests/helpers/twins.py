"""Optimizers written out from their papers, in NumPy's float64; each steps one leaf."""

import numpy as np


class AdamW:
    """Adam with decoupled weight decay (arXiv:1711.05101)."""

    def __init__(self, x, *, b1, b2, eps, weight_decay):
        self.m, self.v, self.t = np.zeros_like(x), np.zeros_like(x), 0
        self.b1, self.b2, self.eps, self.weight_decay = b1, b2, eps, weight_decay

    def direction(self, g, x):
        self.t += 1
        self.m = self.b1 * self.m + (1 - self.b1) * g
        self.v = self.b2 * self.v + (1 - self.b2) * g**2
        m, v = self.m / (1 - self.b1**self.t), self.v / (1 - self.b2**self.t)
        return m / (np.sqrt(v) + self.eps) + self.weight_decay * x

    def step(self, g, x, rate):
        return x - rate * self.direction(g, x)


class Half(AdamW):
    """AdamW at half the rate."""

    def step(self, g, x, rate):
        return super().step(g, x, rate / 2)


class Lamb(AdamW):
    """LAMB (arXiv:1904.00962), without trust ratios of vectors."""

    def step(self, g, x, rate):
        u = self.direction(g, x)
        trust = np.linalg.norm(x) / np.linalg.norm(u) if x.ndim > 1 else 1.0
        return x - rate * trust * u


class AmsGrad:
    """AMSGrad (arXiv:1904.09237, algorithm 2)."""

    def __init__(self, x, *, b1, b2, eps):
        self.m, self.v, self.max = (np.zeros_like(x) for _ in range(3))
        self.b1, self.b2, self.eps = b1, b2, eps

    def step(self, g, x, rate):
        self.m = self.b1 * self.m + (1 - self.b1) * g
        self.v = self.b2 * self.v + (1 - self.b2) * g**2
        self.max = np.maximum(self.max, self.v)
        return x - rate * self.m / (np.sqrt(self.max) + self.eps)


class Muon:
    """Muon of arXiv:2502.16982, on the kernel as a matrix of its last axis.

    Both terms of Nesterov's momentum are corrected for their bias, as Optax has it.
    """

    def __init__(self, x, *, momentum, weight_decay, eps):
        self.m, self.t = np.zeros_like(x), 0
        self.momentum, self.weight_decay, self.eps = momentum, weight_decay, eps

    def step(self, g, x, rate):
        self.t += 1
        b = self.momentum
        self.m = b * self.m + (1 - b) * g
        u = b * self.m / (1 - b ** (self.t + 1)) + (1 - b) * g / (1 - b**self.t)
        u = u.reshape(-1, x.shape[-1])
        u = 0.2 * np.sqrt(max(u.shape)) * orthogonal(u, self.eps)
        return x - rate * (u.reshape(x.shape) + self.weight_decay * x)


def orthogonal(u, eps):
    """Returns Newton and Schulz's almost orthogonal matrix, by five quintic steps."""
    if u.shape[0] > u.shape[1]:
        return orthogonal(u.T, eps).T
    x = u / (np.linalg.norm(u) + eps)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return x


class ScheduleFree:
    """Schedule-Free AdamW (arXiv:2405.15682): steps y and keeps x, which is judged."""

    def __init__(self, y, *, b1, b2, eps, weight_decay):
        self.x, self.z, self.v = y, y, np.zeros_like(y)
        self.t, self.sum, self.greatest = 0, 0.0, 0.0
        self.b1, self.b2, self.eps, self.weight_decay = b1, b2, eps, weight_decay

    def step(self, g, y, rate):
        self.t += 1
        self.v = self.b2 * self.v + (1 - self.b2) * g**2
        v = self.v / (1 - self.b2**self.t)
        self.z = self.z - rate * (g / (np.sqrt(v) + self.eps) + self.weight_decay * y)
        self.greatest = max(self.greatest, rate)
        self.sum += self.greatest**2
        c = self.greatest**2 / self.sum
        self.x = (1 - c) * self.x + c * self.z
        return self.b1 * self.x + (1 - self.b1) * self.z


class Prodigy:
    """Prodigy (arXiv:2306.06101, algorithm 4) of all parameters as one vector.

    Rates are corrected for the biases of Adam's moments, as Optax has it.
    """

    def __init__(self, x, *, b1, b2, eps, initial, weight_decay):
        self.m, self.v, self.s = (np.zeros_like(x) for _ in range(3))
        self.first, self.r, self.d, self.t = x, 0.0, initial, 0
        self.b1, self.b2, self.eps, self.weight_decay = b1, b2, eps, weight_decay

    def step(self, g, x, rate):
        self.t += 1
        d, b3 = self.d, np.sqrt(self.b2)
        rate = rate * np.sqrt(1 - self.b2**self.t) / (1 - self.b1**self.t)
        self.m = self.b1 * self.m + (1 - self.b1) * d * g
        self.v = self.b2 * self.v + (1 - self.b2) * (d * g) ** 2
        self.r = b3 * self.r + (1 - b3) * rate * d**2 * (g @ (self.first - x))
        self.s = b3 * self.s + (1 - b3) * rate * d**2 * g
        self.d = max(d, self.r / np.abs(self.s).sum())
        step = self.m / (np.sqrt(self.v) + self.d * self.eps)
        return x - rate * d * (step + self.weight_decay * x)
