"""Golden values of the evaluation metrics, computed with PyTorch 2.13 in float64.

Run: python3 tests/golden/evaluation.py     (writes tests/golden/evaluation.json; about a second)

Inputs are not stored: both sides draw them from the generator below, seeds as given in each section.
"""
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)


def uniform(seed, *shape):
    """Numbers in [0, 1) from x <- 1664525 x + 1013904223 mod 2**32, the upper 24 bits of each."""
    x, out = seed, []
    for _ in range(math.prod(shape)):
        x = (1664525 * x + 1013904223) % 2**32
        out.append((x >> 8) / 2**24)
    return torch.tensor(out).reshape(*shape)


def features(seed, rows, cols, shift=0.0):
    """Correlated, skewed features: squares of mixed uniforms."""
    mixed = uniform(seed, rows, cols) @ (uniform(77777, cols, cols) - 0.3)
    return mixed**2 + shift


def root(matrix):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T


def frechet(a, b):
    ca, cb = torch.cov(a.T), torch.cov(b.T)
    half = root(ca)
    overlap = torch.trace(root(half @ cb @ half))
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + torch.trace(ca) + torch.trace(cb) - 2 * overlap


def ssim(a, b):
    """Images [B, C, H, W] in [0, 1]; windows within the image only, as torchmetrics leaves after cropping."""
    positions = torch.arange(11) - 5.0
    line = torch.exp(-(positions**2) / (2 * 1.5**2))
    line = line / line.sum()
    kernel = torch.outer(line, line).expand(a.shape[1], 1, 11, 11)
    mean = lambda x: F.conv2d(x, kernel, groups=x.shape[1])
    ma, mb = mean(a), mean(b)
    va, vb, vab = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    full = ((2 * ma * mb + c1) * (2 * vab + c2)) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    return full.mean(dim=(1, 2, 3))


def psnr(a, b):
    return 10 * torch.log10(1 / ((a - b) ** 2).mean(dim=(1, 2, 3)))


def kid(a, b):
    kernel = lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3
    off = lambda k: (k.sum() - k.trace()) / (len(k) * (len(k) - 1))
    return off(kernel(a, a)) + off(kernel(b, b)) - 2 * kernel(a, b).mean()


def manifold(samples, references, k):
    reach = lambda x: torch.cdist(x, x).kthvalue(k + 1, dim=1).values
    rs, rr, between = reach(samples), reach(references), torch.cdist(samples, references)
    inside = between <= rr[None, :]
    return {
        "precision": inside.any(1).double().mean().item(),
        "recall": (between <= rs[:, None]).any(0).double().mean().item(),
        "density": inside.sum().item() / (k * len(samples)),
        "coverage": inside.any(0).double().mean().item(),
    }


def inception(p):
    kl = (p * (p.log() - p.mean(0).log())).sum(1)
    return kl.mean().exp().item()


a, b = features(1001, 60, 8), features(20002, 50, 8, 0.1)
few = features(300003, 6, 8)
images, noise = uniform(4711, 3, 16, 20, 3), uniform(81500, 3, 16, 20, 3)
strength = torch.tensor([0.05, 0.3, 1.0])[:, None, None, None]
noisy = ((1 - strength) * images + strength * noise).float().double()
images = images.float().double()
chw = lambda x: x.permute(0, 3, 1, 2)
byte = lambda x: torch.floor(x * 255 + 0.5) / 255
symmetric = uniform(21, 7, 7)
symmetric = symmetric + symmetric.T
logits = 6 * uniform(31, 40, 5)
golden = {
    "torch": torch.__version__,
    "frechet": frechet(a, b).item(),
    "frechetRankDeficient": frechet(few, b).item(),
    "kid": kid(a, b).item(),
    "manifold": manifold(a, b, 3),
    "psnr": psnr(byte(chw(images)), byte(chw(noisy))).tolist(),
    "psnrFloat": psnr(chw(images), chw(noisy)).tolist(),
    "ssim": ssim(chw(images), chw(noisy)).tolist(),
    "eigenvalues": torch.linalg.eigvalsh(symmetric).flip(0).tolist(),
    "inceptionScore": inception(torch.softmax(logits, 1)),
}
path = Path(__file__).with_suffix(".json")
path.write_text(json.dumps(golden, indent=2) + "\n")
