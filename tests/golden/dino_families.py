"""Golden values of small DINO, DINOv2 and DINOv3 transformers, with their weights under both naming schemes.

The modules below carry the names of Meta's files; `hugging_face` renames (and un-fuses) them as the conversion
scripts of transformers do. Beside the transformers: bicubic interpolation by torch.nn.functional.interpolate itself.

Command:  python3 tests/golden/dino_families.py     (writes the folder tests/golden/dino_families)
Version:  PyTorch 2.13.0 (CPU, float64; weights stored as float16, which they fit, results as float32), seed 20250814
"""

import json
import math
import pathlib
import re
import struct

import torch
import torch.nn as nn
import torch.nn.functional as F

SEED = 20250814
FOLDER = pathlib.Path(__file__).with_suffix("")

# width, heads, depth, patch, mlp ratio, registers, pretraining grid, rows and columns of the other image
CASES = {
    "dino": dict(family="dino", width=18, heads=3, depth=3, patch=4, ratio=2, registers=0, grid=4, other=(3, 6)),
    "dinov2": dict(family="dinov2", width=20, heads=2, depth=2, patch=6, ratio=2, registers=0, grid=4, other=(5, 3)),
    "dinov2_reg": dict(family="dinov2", width=24, heads=2, depth=2, patch=4, ratio=2, registers=4, grid=5, other=(3, 7)),
    "dinov2_giant": dict(family="dinov2", width=28, heads=2, depth=2, patch=4, ratio=2, registers=0, grid=4,
                         other=(2, 5), gated=True),
    "dinov3": dict(family="dinov3", width=24, heads=2, depth=2, patch=4, ratio=2, registers=4, grid=4, other=(3, 5)),
    "dinov3_plus": dict(family="dinov3", width=24, heads=2, depth=2, patch=4, ratio=2, registers=4, grid=4,
                        other=(5, 3), gated=True),
    "dinov3_7b": dict(family="dinov3", width=24, heads=3, depth=2, patch=4, ratio=2, registers=4, grid=3,
                      other=(2, 6), gated=True, biases=False),
}


class Scale(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(d))

    def forward(self, x):
        return x * self.gamma


class Plain(nn.Module):
    def __init__(self, d, f):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(d, f), nn.Linear(f, d)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Fused(nn.Module):
    """The gated perceptron of DINOv2: gate and value in one map, hidden width by the rule of two thirds."""

    def __init__(self, d, f):
        super().__init__()
        h = (int(f * 2 / 3) + 7) // 8 * 8
        self.w12, self.w3 = nn.Linear(d, 2 * h), nn.Linear(h, d)

    def forward(self, x):
        gate, value = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * value)


class Gated(nn.Module):
    def __init__(self, d, f):
        super().__init__()
        self.w1, self.w2, self.w3 = nn.Linear(d, f), nn.Linear(d, f), nn.Linear(f, d)

    def forward(self, x):
        return self.w3(F.silu(self.w1(x)) * self.w2(x))


class Qkv(nn.Linear):
    """The biases of keys are masked in DINOv3."""

    def __init__(self, d, bias, masked):
        super().__init__(d, 3 * d, bias=bias)
        if bias and masked:
            self.register_buffer("bias_mask", torch.cat([torch.ones(d), torch.zeros(d), torch.ones(d)]).double())

    def forward(self, x):
        mask = getattr(self, "bias_mask", None)
        return F.linear(x, self.weight, self.bias if mask is None else self.bias * mask)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads = c["heads"]
        self.qkv = Qkv(c["width"], c.get("biases", True), c["family"] == "dinov3")
        self.proj = nn.Linear(c["width"], c["width"])

    def forward(self, x, rope):
        b, n, d = x.shape
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (t.view(b, n, self.heads, d // self.heads).transpose(1, 2) for t in (q, k, v))
        if rope is not None:
            q, k = rotate(q, *rope), rotate(k, *rope)
        weights = ((q @ k.transpose(-1, -2)) / math.sqrt(d // self.heads)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2)), weights


def rotate(x, sin, cos):
    prefix = x.shape[2] - sin.shape[0]
    head, tail = x[:, :, :prefix], x[:, :, prefix:]
    a, b = tail.chunk(2, dim=-1)
    return torch.cat([head, tail * cos + torch.cat([-b, a], -1) * sin], 2)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, f, eps = c["width"], c["width"] * c["ratio"], eps_of(c)
        self.norm1, self.norm2 = nn.LayerNorm(d, eps=eps), nn.LayerNorm(d, eps=eps)
        self.attn = Attention(c)
        kind = Plain if not c.get("gated") else Fused if c["family"] == "dinov2" else Gated
        self.mlp = kind(d, f)
        if c["family"] != "dino":
            self.ls1, self.ls2 = Scale(d), Scale(d)

    def forward(self, x, rope):
        same = lambda y: y
        y, weights = self.attn(self.norm1(x), rope)
        x = x + getattr(self, "ls1", same)(y)
        return x + getattr(self, "ls2", same)(self.mlp(self.norm2(x))), weights


class Patches(nn.Module):
    def __init__(self, d, p):
        super().__init__()
        self.proj = nn.Conv2d(3, d, p, stride=p)


class Periods(nn.Module):
    def __init__(self, head_dim):
        super().__init__()
        n = head_dim // 4
        self.register_buffer("periods", 100.0 ** (torch.arange(n, dtype=torch.float64) * 2 / (2 * n)))


class Vit(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, d = c, c["width"]
        self.cls_token = nn.Parameter(torch.empty(1, 1, d))
        self.patch_embed = Patches(d, c["patch"])
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["depth"]))
        self.norm = nn.LayerNorm(d, eps=eps_of(c))
        if c["family"] != "dino":
            self.mask_token = nn.Parameter(torch.empty(1, d))
        if c["family"] == "dinov3":
            self.rope_embed = Periods(d // c["heads"])
            self.storage_tokens = nn.Parameter(torch.empty(1, c["registers"], d))
        else:
            self.pos_embed = nn.Parameter(torch.empty(1, 1 + c["grid"] ** 2, d))
            if c["registers"]:
                self.register_tokens = nn.Parameter(torch.empty(1, c["registers"], d))
        if not c.get("biases", True):
            self.local_cls_norm = nn.LayerNorm(d)  # of training only

    def rope(self, rows, cols):
        if self.c["family"] != "dinov3":
            return None
        ys = (torch.arange(rows, dtype=torch.float64) + 0.5) / rows * 2 - 1
        xs = (torch.arange(cols, dtype=torch.float64) + 0.5) / cols * 2 - 1
        coords = torch.stack(torch.meshgrid(ys, xs, indexing="ij"), -1).flatten(0, 1)
        angles = (2 * math.pi * coords[:, :, None] / self.rope_embed.periods).flatten(1, 2).tile(2)
        return angles.sin(), angles.cos()

    def positions(self, rows, cols, fit):
        g = self.c["grid"]
        if rows == cols == g:
            return self.pos_embed
        grid = self.pos_embed[:, 1:].reshape(1, g, g, -1).permute(0, 3, 1, 2)
        fitted = interpolate(grid, rows, cols, fit).permute(0, 2, 3, 1).flatten(1, 2)
        return torch.cat([self.pos_embed[:, :1], fitted], 1)

    def forward(self, images, fit):
        x = self.patch_embed.proj(images)
        rows, cols = x.shape[2:]
        x = torch.cat([self.cls_token, x.flatten(2).transpose(1, 2)], 1)
        registers = getattr(self, "storage_tokens", getattr(self, "register_tokens", None))
        if fit is not None:
            x = x + self.positions(rows, cols, fit)
        if registers is not None:
            x = torch.cat([x[:, :1], registers, x[:, 1:]], 1)
        streams, rope = [], self.rope(rows, cols)
        for block in self.blocks:
            x, weights = block(x, rope)
            streams.append(x)
        return streams, [self.norm(s) for s in streams], weights


def interpolate(grid, rows, cols, fit):
    g = grid.shape[-1]
    kind = dict(mode="bicubic", align_corners=False)
    if fit == "offset":
        return F.interpolate(grid, scale_factor=((rows + 0.1) / g, (cols + 0.1) / g), **kind)
    return F.interpolate(grid, size=(rows, cols), antialias=fit == "antialias", **kind)


def eps_of(c):
    return 1e-5 if c["family"] == "dinov3" else 1e-6


def fits_of(c):
    """How positions are fitted in Meta's and in Hugging Face's code."""
    if c["family"] == "dinov3":
        return {"rope": None}
    return {"antialias": "antialias"} if c["registers"] else {"offset": "offset", "size": "size"}


def fill(model, generator):
    """Draws all weights so that each matters, with values that float16 holds exactly."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            std = 0.5 if p.dim() == 1 or "token" in name or "pos" in name else 1 / math.sqrt(p[0].numel())
            mean = 1.0 if re.search(r"norm\d?\.weight|gamma", name) else 0.0
            values = torch.randn(p.shape, generator=generator, dtype=torch.float64) * std * (0.4 if mean else 1) + mean
            p.copy_(values.half().double())


def hugging_face(state, c):
    """The same weights under the names of transformers."""
    family, d, out = c["family"], c["width"], {}
    layer = "layer" if family == "dinov3" else "encoder.layer"
    top = {"cls_token": "embeddings.cls_token", "mask_token": "embeddings.mask_token",
           "pos_embed": "embeddings.position_embeddings", "register_tokens": "embeddings.register_tokens",
           "storage_tokens": "embeddings.register_tokens"}
    dropped = r"rope_embed|bias_mask|local_cls_norm"
    inner = {
        "dino": {"norm1": "layernorm_before", "norm2": "layernorm_after", "attn.proj": "attention.output.dense",
                 "mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense"},
        "dinov2": {"attn.proj": "attention.output.dense", "ls1.gamma": "layer_scale1.lambda1",
                   "ls2.gamma": "layer_scale2.lambda1", "mlp.w12": "mlp.weights_in", "mlp.w3": "mlp.weights_out"},
        "dinov3": {"attn.proj": "attention.o_proj", "ls1.gamma": "layer_scale1.lambda1",
                   "ls2.gamma": "layer_scale2.lambda1", "mlp.fc1": "mlp.up_proj", "mlp.fc2": "mlp.down_proj",
                   "mlp.w1": "mlp.gate_proj", "mlp.w2": "mlp.up_proj", "mlp.w3": "mlp.down_proj"},
    }[family]
    for name, value in state.items():
        if re.search(dropped, name):
            continue
        if name in top:
            wide = family == "dinov3" and name == "mask_token"
            out[top[name]] = value[None] if wide else value
        elif name.startswith("patch_embed.proj"):
            patches = "embeddings.patch_embeddings" + ("" if family == "dinov3" else ".projection")
            out[name.replace("patch_embed.proj", patches)] = value
        elif name.startswith("norm."):
            out[name if family == "dinov3" else name.replace("norm", "layernorm")] = value
        else:
            _, number, rest = name.split(".", 2)
            if rest.startswith("attn.qkv"):
                kind = rest.rsplit(".", 1)[1]
                for which, part in zip(("query", "key", "value"), value.split(d)):
                    if family == "dinov3" and kind == "bias" and which == "key":
                        continue
                    map_ = f"attention.{which[0]}_proj" if family == "dinov3" else f"attention.attention.{which}"
                    out[f"{layer}.{number}.{map_}.{kind}"] = part
            else:
                for ours, theirs in inner.items():
                    rest = re.sub(rf"^{re.escape(ours)}(?=\.|$)", theirs, rest)
                out[f"{layer}.{number}.{rest}"] = value
    return out


def transformers_config(c):
    shared = dict(hidden_size=c["width"], num_hidden_layers=c["depth"], num_attention_heads=c["heads"],
                  patch_size=c["patch"], image_size=c["grid"] * c["patch"], layer_norm_eps=eps_of(c), num_channels=3)
    gated = c.get("gated", False)
    if c["family"] == "dino":
        return dict(shared, model_type="vit", intermediate_size=c["width"] * c["ratio"], hidden_act="gelu", qkv_bias=True)
    if c["family"] == "dinov2":
        kind = dict(model_type="dinov2_with_registers", num_register_tokens=4) if c["registers"] else dict(model_type="dinov2")
        return dict(shared, mlp_ratio=c["ratio"], use_swiglu_ffn=gated, hidden_act="gelu", qkv_bias=True, **kind)
    biases = c.get("biases", True)
    return dict(shared, model_type="dinov3_vit", intermediate_size=c["width"] * c["ratio"], use_gated_mlp=gated,
                hidden_act="silu" if gated else "gelu", rope_theta=100.0, num_register_tokens=c["registers"],
                query_bias=biases, key_bias=False, value_bias=biases, proj_bias=True, mlp_bias=True)


def save(path, tensors, storage):
    kinds = {"F16": torch.float16, "F32": torch.float32}
    header, data = {}, b""
    for name, tensor in tensors.items():
        dtype = "F16" if name.startswith("image.") else storage
        raw = tensor.detach().to(kinds[dtype]).contiguous().numpy().tobytes()
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def outputs(model, c, images):
    """Results for the square image of the pretraining grid, and more of them for another."""
    found = {}
    for label, fit in fits_of(c).items():
        for which, image in images.items():
            streams, normed, weights = model(image, fit)
            key = f"{label}.{which}"
            found[f"{key}.tokens"] = normed[-1]
            if which == "other":
                found[f"{key}.raw"] = torch.cat(streams[-2:])
                found[f"{key}.previous"] = normed[-2]
                found[f"{key}.attention"] = weights
    return found


def main():
    FOLDER.mkdir(exist_ok=True)
    described = {}
    for index, (name, c) in enumerate(CASES.items()):
        generator = torch.Generator().manual_seed(SEED + index)
        model = Vit(c).double()
        fill(model, generator)
        p = c["patch"]
        sizes = {"square": (c["grid"], c["grid"]), "other": c["other"]}
        images = {which: torch.randn(1, 3, rows * p, cols * p, generator=generator, dtype=torch.float64).half().double()
                  for which, (rows, cols) in sizes.items()}
        with torch.no_grad():
            found = outputs(model, c, images)
        save(FOLDER / f"{name}.meta.safetensors", model.state_dict(), "F16")
        save(FOLDER / f"{name}.huggingface.safetensors", hugging_face(model.state_dict(), c), "F16")
        found |= {f"image.{which}": image.permute(0, 2, 3, 1) for which, image in images.items()}  # whole in float16 too
        save(FOLDER / f"{name}.outputs.safetensors", found, "F32")
        described[name] = dict(family=c["family"], fits=list(fits_of(c)), transformers=transformers_config(c))
    generator = torch.Generator().manual_seed(SEED - 1)
    grids = {}
    for g, sizes in {4: [(3, 6), (4, 9)], 5: [(5, 5), (11, 2), (1, 3)], 14: [(20, 9), (14, 28)], 37: [(16, 16), (39, 5)]}.items():
        grid = torch.randn(1, 1, g, g, generator=generator).double()
        grids[f"{g}"] = grid[0, 0]
        for rows, cols in sizes:
            for fit in ("size", "offset", "antialias"):
                grids[f"{g}.{rows}.{cols}.{fit}"] = interpolate(grid, rows, cols, fit)[0, 0]
    save(FOLDER / "positions.safetensors", grids, "F32")
    text = json.dumps(dict(generator="tests/golden/dino_families.py", torch=torch.__version__, seed=SEED, cases=described), indent=1)
    (FOLDER / "cases.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
