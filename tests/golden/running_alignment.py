"""Golden values of the alignment by running statistics: three updates in PyTorch.

Written with PyTorch 2.13.0 (CPU); no random numbers: inputs are sines. By:
    python3 tests/golden/running_alignment.py > tests/golden/running_alignment.json

Batch renormalisation (arXiv 1702.03275) with one mean and one deviation for all channels. Tensors are [B, N, channels].
"""
import json
import math

import torch

torch.set_default_dtype(torch.float64)
MOMENTUM, EPS = 0.6, 1e-6


def wave(shape, name, amplitude=1.0, base=0.0):
    """A chirp over the index, shifted by the letters of the name: the same in any language."""
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return (base + amplitude * torch.sin(0.37 * i * i + i + sum(map(ord, name)))).reshape(shape)


def scalars(x):
    flat = x.reshape(-1, x.shape[-1])
    return flat.mean(0).mean(), flat.std(0).mean()


running, updates = torch.zeros(4), []
for step in range(3):
    h = wave([3, 10, 6], f"h{step}", 1.7, 0.4 + step)
    r = wave([3, 10, 2], f"r{step}", 0.3 + step, -2).requires_grad_()
    token = wave([2], f"t{step}").requires_grad_()
    masked = torch.cat([r[:2], token.expand(1, 10, 2)])
    (mu_h, sd_h), (mu_r, sd_r) = scalars(h), scalars(r)
    now = torch.stack([mu_h, sd_h, mu_r, sd_r]).detach()
    running = running + max(1 / (step + 1), 1 - MOMENTUM) * (now - running)
    mean_h, std_h, mean_r, std_r = running
    ratio = ((sd_r + EPS) / (std_r + EPS)).detach()
    shift = ((mu_r - mean_r) / (std_r + EPS)).detach()
    y = ((masked - mu_r) / (sd_r + EPS) * ratio + shift) * std_h + mean_h
    (y * wave([3, 10, 2], "w")).sum().backward()
    updates.append({
        "y": y.flatten().tolist(),
        "gradR": r.grad.flatten().tolist(),
        "gradToken": token.grad.tolist(),
        "stats": running.tolist(),
    })
print(json.dumps({"momentum": MOMENTUM, "updates": updates}))
