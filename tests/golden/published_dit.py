"""Small diffusion transformers under the names of published files, with their outputs and gradients.

The modules below carry the names of the checkpoints of SVG (`ln1`, tokens in and out), of DiT, SiT and LightningDiT
(`x_embedder`, images in and out) and of RAE's DiTDH (`s_embedder`, a wide head); CASES says which options each has.

Command:  python3 tests/golden/published_dit.py     (writes the folder tests/golden/published_dit)
Version:  PyTorch 2.13.0 (CPU, float64; weights and inputs stored as float16, which they fit, results as float32),
          seed 20250926
"""

import argparse
import json
import math
import pathlib

import torch
import torch.nn as nn
import torch.nn.functional as F
from dino_families import save

SEED = 20250926
FOLDER = pathlib.Path(__file__).with_suffix("")
CLASSES, BATCH = 3, 2
BASE = dict(naming="dit", channels=3, grid=3, patch=1, width=16, depth=2, heads=2, ratio=4, qk=False, sigma=True,
            rms=False, swiglu=False, rope=False, fourier=False, head=None)
CASES = {
    "svg": dict(naming="svg", channels=5, qk=True),
    "svg_plain": dict(naming="svg", channels=5, depth=1, qk=True, sigma=False),
    "dit": dict(grid=6, patch=2),
    "norm": dict(depth=1, qk=True, rms=True),
    "swiglu": dict(depth=1, swiglu=True),
    "rope": dict(depth=1, qk=True, rope=True),
    "lightning": dict(grid=4, patch=2, sigma=False, qk=True, rms=True, swiglu=True, rope=True),
    "rae": dict(naming="rae", sigma=False, rms=True, swiglu=True, rope=True, fourier=True, head=(24, 2, 3)),
    "rae_narrow": dict(naming="rae", sigma=False, qk=True, depth=1, head=(16, 2, 2)),
}


def ln(x):
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


class Rms(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * self.weight


class Rotary(nn.Module):
    """Angles of neighbouring channels: the first half of a head turns by the row, the second by the column."""

    def __init__(self, side, head_dim):
        super().__init__()
        freqs = 10000.0 ** (-torch.arange(0, head_dim // 2, 2).double() / (head_dim // 2))
        angles = (torch.arange(side).double()[:, None] * freqs).repeat_interleave(2, 1)
        rows = angles[:, None].expand(side, side, -1)
        cols = angles[None].expand(side, side, -1)
        both = torch.cat([rows, cols], -1).reshape(side * side, head_dim)
        self.register_buffer("freqs_cos", both.cos())
        self.register_buffer("freqs_sin", both.sin())

    def forward(self, x):
        even, odd = x[..., 0::2], x[..., 1::2]
        turned = torch.stack([-odd, even], -1).flatten(-2)
        return x * self.freqs_cos + turned * self.freqs_sin


class Attention(nn.Module):
    def __init__(self, c, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        if c["qk"]:
            make = Rms if c["rms"] else nn.LayerNorm
            self.q_norm, self.k_norm = make(width // heads), make(width // heads)

    def forward(self, x, rope):
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = rope(q), rope(k)
        weights = (q @ k.transpose(-1, -2) / math.sqrt(d // self.heads)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, d))


class Mlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Swiglu(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.w12, self.w3 = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x):
        gate, up = self.w12(x).chunk(2, -1)
        return self.w3(F.silu(gate) * up)


def modulation(width, count):
    return nn.Sequential(nn.SiLU(), nn.Linear(width, count * width))


class Block(nn.Module):
    def __init__(self, c, width, heads):
        super().__init__()
        hidden = int(width * c["ratio"])
        if c["rms"]:
            self.norm1, self.norm2 = Rms(width), Rms(width)
        self.attn = Attention(c, width, heads)
        self.mlp = Swiglu(width, int(2 / 3 * hidden)) if c["swiglu"] else Mlp(width, hidden)
        self.adaLN_modulation = modulation(width, 6)

    def forward(self, x, c, rope):
        b1, s1, g1, b2, s2, g2 = self.adaLN_modulation(c).chunk(6, -1)
        x = x + g1 * self.attn(getattr(self, "norm1", ln)(x) * (1 + s1) + b1, rope)
        return x + g2 * self.mlp(getattr(self, "norm2", ln)(x) * (1 + s2) + b2)


class Final(nn.Module):
    def __init__(self, c, width, outputs):
        super().__init__()
        if c["rms"]:
            self.norm_final = Rms(width)
        self.linear, self.adaLN_modulation = nn.Linear(width, outputs), modulation(width, 2)

    def forward(self, x, c):
        shift, scale = self.adaLN_modulation(c).chunk(2, -1)
        return self.linear(getattr(self, "norm_final", ln)(x) * (1 + scale) + shift)


class Times(nn.Module):
    def __init__(self, c, width):
        super().__init__()
        if c["fourier"]:
            self.W = nn.Parameter(torch.empty(256), requires_grad=False)
        self.mlp = nn.Sequential(nn.Linear(512 if c["fourier"] else 256, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t):
        if hasattr(self, "W"):
            angles = 2 * math.pi * t[:, None] * self.W
            return self.mlp(torch.cat([angles.sin(), angles.cos()], -1))
        angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(128).double() / 128)
        return self.mlp(torch.cat([angles.cos(), angles.sin()], -1))


class Labels(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embedding_table = nn.Embedding(CLASSES + 1, width)


class Patches(nn.Module):
    def __init__(self, c, width):
        super().__init__()
        self.proj = nn.Conv2d(c["channels"], width, c["patch"], stride=c["patch"])

    def forward(self, image):
        return self.proj(image).flatten(2).transpose(1, 2)


def positions(side, width):
    omega = 10000.0 ** (-torch.arange(width // 4).double() / (width // 4))
    axis = torch.arange(side).double()
    one = lambda p: torch.cat([(p[..., None] * omega).sin(), (p[..., None] * omega).cos()], -1)
    table = torch.cat([one(axis[None].expand(side, side)), one(axis[:, None].expand(side, side))], -1)
    return table.reshape(1, side * side, width)


class Dit(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, self.side = c, c["grid"] // c["patch"]
        width, heads, naming = c["width"], c["heads"], c["naming"]
        if naming == "svg":
            self.ln1 = nn.Linear(c["channels"], width)
        else:
            setattr(self, "s_embedder" if naming == "rae" else "x_embedder", Patches(c, width))
        self.t_embedder, self.y_embedder = Times(c, width), Labels(width)
        self.pos_embed = nn.Parameter(positions(self.side, width), requires_grad=False)
        self.blocks = nn.ModuleList([Block(c, width, heads) for _ in range(c["depth"])])
        if c["rope"]:
            setattr(self, "enc_feat_rope" if naming == "rae" else "feat_rope", Rotary(self.side, width // heads))
        last = width
        if naming == "rae":
            last, depth, count = c["head"]
            self.x_embedder = Patches(c, last)
            if last != width:
                self.s_projector = nn.Linear(width, last)
            self.blocks.extend([Block(c, last, count) for _ in range(depth)])
            if c["rope"]:
                self.dec_feat_rope = Rotary(self.side, last // count)
        self.final_layer = Final(c, last, c["patch"] ** 2 * c["channels"] * (2 if c["sigma"] else 1))

    def forward(self, z, t, y):
        """z [B, N, Z] in the order of rows; returns all channels of the output in that order."""
        c, g = self.c, self.c["grid"]
        image = z.transpose(1, 2).reshape(len(z), -1, g, g)
        x = self.ln1(z) if c["naming"] == "svg" else (self.s_embedder if c["naming"] == "rae" else self.x_embedder)(image)
        x, time = x + self.pos_embed, self.t_embedder(t)
        condition = (time + self.y_embedder.embedding_table(y))[:, None]
        if c["naming"] == "rae":
            s, condition = x, F.silu(condition)
            for block in self.blocks[:c["depth"]]:
                s = block(s, condition, getattr(self, "enc_feat_rope", None))
            s = getattr(self, "s_projector", lambda same: same)(F.silu(time[:, None] + s))
            x = self.x_embedder(image)
            for block in self.blocks[c["depth"]:]:
                x = block(x, s, getattr(self, "dec_feat_rope", None))
            condition = s
        else:
            for block in self.blocks:
                x = block(x, condition, getattr(self, "feat_rope", None))
        out, p, side = self.final_layer(x, condition), c["patch"], self.side
        out = out.view(len(z), side, side, p, p, -1)  # rows and columns of patches, then within them
        return out.permute(0, 1, 3, 2, 4, 5).reshape(len(z), g * g, -1)


def fill(model, generator):
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name == "pos_embed":
                continue
            drawn = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            if name.endswith("bias"):
                drawn *= 0.2
            elif p.dim() > 1 and "embedding_table" not in name:
                drawn /= math.sqrt(p[0].numel())
            elif "norm" in name:
                drawn = 1 + 0.2 * drawn
            p.copy_(drawn.half().double())


def stored(name, model):
    """What is in the file, in one of the forms that trainers write."""
    state = {key: value if key == "pos_embed" or "freqs" in key else value.half() for key, value in model.state_dict().items()}
    state = {key: value.float() if value.dtype == torch.float64 else value for key, value in state.items()}
    other = {key: torch.zeros_like(value) for key, value in state.items()}
    if name == "svg":
        return {"ema": state}
    if name == "dit":
        moments = {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}}
        return {"model": other, "ema": state, "opt": {"state": moments, "param_groups": []},
                "args": argparse.Namespace(model="DiT-S/2", image_size=256)}
    if name == "lightning":
        return {"model": {f"module.{key}": value for key, value in state.items()}}
    if name == "swiglu":  # REPA's projectors beside the transformer
        return state | {"projectors.0.0.weight": torch.zeros(4, 16).half(), "projectors.0.0.bias": torch.zeros(4).half()}
    return state


def main():
    FOLDER.mkdir(exist_ok=True)
    described = {}
    for k, (name, changes) in enumerate(CASES.items()):
        c, generator = BASE | changes, torch.Generator().manual_seed(SEED + k)
        described[name] = c
        model = Dit(c).double()
        fill(model, generator)
        draw = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64).half().double()
        z, target = draw(BATCH, c["grid"] ** 2, c["channels"]), draw(BATCH, c["grid"] ** 2, c["channels"])
        t, y = torch.tensor([0.25, 0.875]).double(), torch.tensor([1, CLASSES])
        output = model(z, t, y)
        loss = (output[..., :c["channels"]] - target).square().mean()
        loss.backward()
        torch.save(stored(name, model), FOLDER / f"{name}.pt")
        tables = {key: value for key, value in model.state_dict().items() if key == "pos_embed" or "freqs" in key}
        grads = {key: p.grad if p.grad is not None else torch.zeros_like(p) for key, p in model.named_parameters()}
        save(FOLDER / f"{name}.gradients.safetensors", grads | tables, "F32")
        results = {"z": z, "target": target, "t": t, "y": y.double(), "output": output, "loss": loss.reshape(1)}
        save(FOLDER / f"{name}.outputs.safetensors", results, "F32")
    text = json.dumps({"generator": f"tests/golden/published_dit.py, PyTorch {torch.__version__}, seed {SEED}",
                       "cases": described}, indent=1)
    (FOLDER / "cases.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
