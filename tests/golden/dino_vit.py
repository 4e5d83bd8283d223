"""Golden values of a tiny DINOv3-style vision transformer: forward pass and gradients.

A re-statement of the forward pass in plain PyTorch, with convolutional patch embedding, separate query, key and
value maps and rotation by halves, so that it shares no layout with the TypeScript code.

Command:  python3 tests/golden/dino_vit.py > tests/golden/dino_vit.json
Version:  PyTorch 2.13.0 (CPU, float64, written with 8 digits), seed 20240607
"""

import json
import math

import torch
import torch.nn.functional as F

SEED = 20240607
CONFIG = dict(patchSize=4, width=16, heads=2, mlpRatio=2, registers=2, layerScaleInit=0.1,
              ropeTheta=100, normEps=1e-5, imageSize=16)
ROWS, COLS = 2, 3


def rope(rows, cols, head_dim):
    periods = 100.0 ** (torch.arange(head_dim // 4, dtype=torch.float64) * 2 / (head_dim // 2))
    ys = (torch.arange(rows, dtype=torch.float64) + 0.5) / rows * 2 - 1
    xs = (torch.arange(cols, dtype=torch.float64) + 0.5) / cols * 2 - 1
    coords = torch.stack(torch.meshgrid(ys, xs, indexing="ij"), -1).flatten(0, 1)  # [N, 2]
    angles = (2 * math.pi * coords[:, :, None] / periods).flatten(1, 2).tile(2)  # [N, K]
    return angles.sin(), angles.cos()


def rotate(x, sin, cos):
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], -1) * sin


def forward(images, p, gated):
    d, heads, eps, prefix = CONFIG["width"], CONFIG["heads"], CONFIG["normEps"], 1 + CONFIG["registers"]
    batch, k = images.shape[0], d // heads
    x = F.conv2d(images.permute(0, 3, 1, 2), p["patch_w"], p["patch_b"], stride=CONFIG["patchSize"])
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([p["cls"].expand(batch, 1, d), p["registers"].expand(batch, -1, d), x], 1)
    sin, cos = rope(ROWS, COLS, k)
    for b in p["blocks"]:
        h = F.layer_norm(x, (d,), b["n1w"], b["n1b"], eps)
        q, key, v = h @ b["q"].T + b["qb"], h @ b["k"].T, h @ b["v"].T + b["vb"]
        q, key, v = (t.view(batch, -1, heads, k).transpose(1, 2) for t in (q, key, v))
        q = torch.cat([q[:, :, :prefix], rotate(q[:, :, prefix:], sin, cos)], 2)
        key = torch.cat([key[:, :, :prefix], rotate(key[:, :, prefix:], sin, cos)], 2)
        a = F.scaled_dot_product_attention(q, key, v).transpose(1, 2).flatten(2)
        x = x + b["ls1"] * (a @ b["o"].T + b["ob"])
        h = F.layer_norm(x, (d,), b["n2w"], b["n2b"], eps)
        if gated:
            h = F.silu(h @ b["gate"].T + b["gateb"]) * (h @ b["up"].T + b["upb"])
            h = h @ b["down"].T + b["downb"]
        else:
            h = F.gelu(h @ b["fc1"].T + b["fc1b"]) @ b["fc2"].T + b["fc2b"]
        x = x + b["ls2"] * h
    return F.layer_norm(x, (d,), p["nw"], p["nb"], eps)


def make(gated, generator):
    def n(*shape, std=0.3, mean=0.0):
        t = torch.randn(*shape, generator=generator, dtype=torch.float64) * std + mean
        return t.float().double().requires_grad_()  # exactly representable in float32

    d, size, f = CONFIG["width"], CONFIG["patchSize"], int(CONFIG["width"] * CONFIG["mlpRatio"])
    blocks = []
    for _ in range(1 if gated else 2):
        b = dict(n1w=n(d, mean=1), n1b=n(d), q=n(d, d), qb=n(d), k=n(d, d), v=n(d, d), vb=n(d), o=n(d, d), ob=n(d),
                 ls1=n(d, mean=0.5), n2w=n(d, mean=1), n2b=n(d), ls2=n(d, mean=0.5))
        if gated:
            b |= dict(gate=n(f, d), gateb=n(f), up=n(f, d), upb=n(f), down=n(d, f), downb=n(d))
        else:
            b |= dict(fc1=n(f, d), fc1b=n(f), fc2=n(d, f), fc2b=n(d))
        blocks.append(b)
    return dict(patch_w=n(d, 3, size, size), patch_b=n(d), cls=n(1, d), registers=n(CONFIG["registers"], d),
                blocks=blocks, nw=n(d, mean=1), nb=n(d))


def layout(p, gated, leaf):
    """The project's tree: maps are [in, out], patch pixels in the order row, column, channel."""
    t = lambda x: leaf(x, lambda y: y.T)
    v = lambda x: leaf(x, lambda y: y)
    blocks = []
    for b in p["blocks"]:
        if gated:
            mlp = {m: dict(weight=t(b[m]), bias=v(b[m + "b"])) for m in ("gate", "up", "down")}
        else:
            mlp = {m: dict(weight=t(b[m]), bias=v(b[m + "b"])) for m in ("fc1", "fc2")}
        blocks.append(dict(
            norm1=dict(weight=v(b["n1w"]), bias=v(b["n1b"])),
            attention=dict(qkv=leaf((b["q"], b["k"], b["v"]), lambda y: torch.cat([m.T for m in y], 1)),
                           queryBias=v(b["qb"]), valueBias=v(b["vb"]), proj=dict(weight=t(b["o"]), bias=v(b["ob"]))),
            layerScale1=v(b["ls1"]), norm2=dict(weight=v(b["n2w"]), bias=v(b["n2b"])), mlp=mlp,
            layerScale2=v(b["ls2"])))
    return dict(
        patchEmbed=dict(weight=leaf(p["patch_w"], lambda y: y.permute(2, 3, 1, 0).flatten(0, 2)), bias=v(p["patch_b"])),
        clsToken=v(p["cls"]), maskToken=dict(shape=[1, CONFIG["width"]], data=[0.0] * CONFIG["width"]),
        registers=v(p["registers"]), blocks=blocks, norm=dict(weight=v(p["nw"]), bias=v(p["nb"])))


def plain(t):
    return dict(shape=list(t.shape), data=[float(f"{x:.8g}") for x in t.detach().flatten().tolist()])


def values(x, f):
    return plain(f(x))


def grads(x, f):
    return plain(f(tuple(y.grad for y in x) if isinstance(x, tuple) else x.grad))


def case(gated):
    generator = torch.Generator().manual_seed(SEED + gated)
    p = make(gated, generator)
    size = CONFIG["patchSize"]
    images = torch.randn(2, ROWS * size, COLS * size, 3, generator=generator, dtype=torch.float64).float().double()
    tokens = forward(images, p, gated)
    probe = torch.randn(tokens.shape, generator=generator, dtype=torch.float64).float().double()
    loss = (tokens * probe).sum()
    loss.backward()
    return dict(config=dict(CONFIG, depth=len(p["blocks"]), mlp="gatedSilu" if gated else "geluErf"), images=plain(images), probe=plain(probe),
                params=layout(p, gated, values), tokens=plain(tokens), loss=loss.item(), grads=layout(p, gated, grads))


print(json.dumps(dict(generator="tests/golden/dino_vit.py", torch=torch.__version__, seed=SEED,
                      cases=[case(False), case(True)])))
