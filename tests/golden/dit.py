"""Golden values of the diffusion transformer: velocity, loss and gradients of a small configuration.

PyTorch 2.13.0 (CPU), float64; no random numbers: weights and inputs are sines of their index (see `wave`).
Command: python3 tests/golden/dit.py > tests/golden/dit.json
A plain restatement of DiT with adaLN-Zero as SVG uses it; the modulation of all blocks is one matrix here, block by
block in the order shift, scale, gate (attention), shift, scale, gate (perceptron), then shift, scale of the output.
"""
import json
import math

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
C = dict(channels=5, grid=3, classes=4, width=8, depth=2, heads=2, mlpRatio=2, qkNorm=True, learnSigma=True)
B, N, E, Z, A = 3, C["grid"] ** 2, C["width"], C["channels"], C["heads"]
T = [0.05, 0.5, 0.93]
LABELS = [1, 4, 3]


def wave(shape, phase, amplitude):
    i = torch.arange(math.prod(shape))
    return (amplitude * torch.sin(12.9898 * (i + 1) + 78.233 * (phase + 1))).reshape(shape)


def shapes():
    out = {"tokens.weight": (Z, E), "tokens.bias": (E,)}
    out |= {"time.fc1.weight": (256, E), "time.fc1.bias": (E,), "time.fc2.weight": (E, E), "time.fc2.bias": (E,)}
    out |= {"labels.table": (C["classes"] + 1, E)}
    rows = (6 * C["depth"] + 2) * E
    out |= {"modulation.weight": (E, rows), "modulation.bias": (rows,)}
    for b in range(C["depth"]):
        p, h = f"blocks.{b}.", E * C["mlpRatio"]
        out |= {p + "attention.qkv.weight": (E, 3 * E), p + "attention.qkv.bias": (3 * E,)}
        out |= {p + "attention.proj.weight": (E, E), p + "attention.proj.bias": (E,)}
        for n in ("qNorm", "kNorm"):
            out |= {f"{p}attention.{n}.weight": (E // A,), f"{p}attention.{n}.bias": (E // A,)}
        out |= {p + "mlp.fc1.weight": (E, h), p + "mlp.fc1.bias": (h,)}
        out |= {p + "mlp.fc2.weight": (h, E), p + "mlp.fc2.bias": (E,)}
    return out | {"output.weight": (E, 2 * Z), "output.bias": (2 * Z,)}


def sincos(dim, pos):
    omega = 1.0 / 10000 ** (torch.arange(dim // 2) / (dim / 2))
    angles = pos.reshape(-1)[:, None] * omega[None]
    return torch.cat([angles.sin(), angles.cos()], 1)


def positions():
    axis = torch.arange(C["grid"]).double()
    columns, rows = torch.meshgrid(axis, axis, indexing="xy")  # columns vary fastest
    return torch.cat([sincos(E // 2, columns), sincos(E // 2, rows)], 1)


def norm(x):
    return F.layer_norm(x, (E,), eps=1e-6)


def forward(p, z, t, y):
    lin = lambda x, name: x @ p[name + ".weight"] + p[name + ".bias"]
    x = lin(z, "tokens") + positions()
    freqs = torch.exp(-math.log(10000) * torch.arange(128) / 128)
    args = t[:, None] * freqs[None]
    c = lin(F.silu(lin(torch.cat([args.cos(), args.sin()], 1), "time.fc1")), "time.fc2") + p["labels.table"][y]
    m = lin(F.silu(c), "modulation").chunk(6 * C["depth"] + 2, dim=1)
    m = [v[:, None] for v in m]
    for b in range(C["depth"]):
        s1, c1, g1, s2, c2, g2 = m[6 * b:6 * b + 6]
        a = f"blocks.{b}.attention."
        qkv = lin(norm(x) * (1 + c1) + s1, a + "qkv").reshape(B, N, 3, A, E // A).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        q = F.layer_norm(q, (E // A,), p[a + "qNorm.weight"], p[a + "qNorm.bias"], 1e-5)
        k = F.layer_norm(k, (E // A,), p[a + "kNorm.weight"], p[a + "kNorm.bias"], 1e-5)
        o = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, E)
        x = x + g1 * lin(o, a + "proj")
        h = F.gelu(lin(norm(x) * (1 + c2) + s2, f"blocks.{b}.mlp.fc1"), approximate="tanh")
        x = x + g2 * lin(h, f"blocks.{b}.mlp.fc2")
    shift, scale = m[-2:]
    return lin(norm(x) * (1 + scale) + shift, "output")[..., :Z]


params = {}
for k, (name, shape) in enumerate(shapes().items()):
    base = 1.0 if name.endswith("Norm.weight") else 0.0
    params[name] = (base + wave(shape, k, 0.3)).requires_grad_()
data, noise = wave((B, N, Z), 101, 1.2), wave((B, N, Z), 202, 1.5)
t, y = torch.tensor(T), torch.tensor(LABELS)
z = (1 - t)[:, None, None] * noise + t[:, None, None] * data
velocity = forward(params, z, t, y)
loss = ((velocity - (data - noise)) ** 2).mean()
loss.backward()
flat = lambda x: [float(f"{v:.8g}") for v in x.reshape(-1).tolist()]
print(json.dumps({
    "generator": f"tests/golden/dit.py, PyTorch {torch.__version__}, no seed",
    "config": C, "t": T, "labels": LABELS,
    "velocity": flat(velocity.detach()), "loss": loss.item(),
    "grads": {name: flat(p.grad) for name, p in params.items()},
}))
