"""Writes kl_vae/: a small variational autoencoder of latent diffusion as others store it, and what it computes.

    ldm.ckpt             a Lightning checkpoint, with parts of a training that are no part of the autoencoder
    diffusers/           the same weights as AutoencoderKL of diffusers saves them
    outputs.json         posterior, reconstruction and losses of a 16×16 image, and parameter counts of published ones

The modules carry the names of CompVis/latent-diffusion (`ldm/modules/diffusionmodules/model.py`,
`ldm/models/autoencoder.py`); `diffusers` renames them as the conversion scripts of diffusers do. Weights are random and
fit float16; results are computed in float64.

Run: python3 tests/golden/kl_vae.py   (PyTorch 2.13.0, CPU; seed 20251120)
"""
import json
import pathlib
import re
import struct

import torch
import torch.nn as nn
import torch.nn.functional as F

from autoencoder import nhwc, wave

SEED = 20251120
FOLDER = pathlib.Path(__file__).with_suffix("")
SMALL = dict(ch=8, mult=[1, 2], blocks=1, attention=[8], z=3, groups=4, resolution=16)


class Block(nn.Module):
    def __init__(self, cin, cout, groups):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, cin, eps=1e-6), nn.Conv2d(cin, cout, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(groups, cout, eps=1e-6), nn.Conv2d(cout, cout, 3, padding=1)
        if cin != cout:
            self.nin_shortcut = nn.Conv2d(cin, cout, 1)

    def forward(self, x):
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + h


class Attention(nn.Module):
    def __init__(self, c, groups):
        super().__init__()
        self.norm = nn.GroupNorm(groups, c, eps=1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(c, c, 1) for _ in range(4))

    def forward(self, x):
        n = self.norm(x)
        q, k, v = (m(n).flatten(2).transpose(1, 2) for m in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(y.transpose(1, 2).reshape(x.shape))


def mid(c, groups):
    m = nn.Module()
    m.block_1, m.attn_1, m.block_2 = Block(c, c, groups), Attention(c, groups), Block(c, c, groups)
    return m


def run_mid(m, x):
    return m.block_2(m.attn_1(m.block_1(x)))


class Conv(nn.Module):
    """A convolution one name deeper, as down- and up-sampling have it."""

    def __init__(self, c, stride):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, stride=stride, padding=2 - stride)


def level(cin, cout, blocks, attends, groups):
    m = nn.Module()
    m.block = nn.ModuleList([Block(cin if i == 0 else cout, cout, groups) for i in range(blocks)])
    m.attn = nn.ModuleList([Attention(cout, groups) for _ in range(blocks if attends else 0)])
    return m


def run_level(m, x):
    for i, block in enumerate(m.block):
        x = block(x)
        if len(m.attn):
            x = m.attn[i](x)
    return x


class Encoder(nn.Module):
    def __init__(self, ch, mult, blocks, attention, z, groups, resolution):
        super().__init__()
        self.conv_in = nn.Conv2d(3, ch, 3, padding=1)
        widths = [ch * m for m in mult]
        self.down = nn.ModuleList()
        for i, c in enumerate(widths):
            here = level(([ch] + widths)[i], c, blocks, resolution // 2**i in attention, groups)
            if i < len(mult) - 1:
                here.downsample = Conv(c, 2)
            self.down.append(here)
        self.mid = mid(widths[-1], groups)
        self.norm_out = nn.GroupNorm(groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], 2 * z, 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        for here in self.down:
            x = run_level(here, x)
            if hasattr(here, "downsample"):
                x = here.downsample.conv(F.pad(x, (0, 1, 0, 1)))
        return self.conv_out(F.silu(self.norm_out(run_mid(self.mid, x))))


class Decoder(nn.Module):
    def __init__(self, ch, mult, blocks, attention, z, groups, resolution):
        super().__init__()
        widths = [ch * m for m in mult]
        self.conv_in = nn.Conv2d(z, widths[-1], 3, padding=1)
        self.mid = mid(widths[-1], groups)
        up, before = [], widths[-1]
        for i in reversed(range(len(mult))):
            here = level(before, widths[i], blocks + 1, resolution // 2**i in attention, groups)
            if i > 0:
                here.upsample = Conv(widths[i], 1)
            up.insert(0, here)
            before = widths[i]
        self.up = nn.ModuleList(up)
        self.norm_out = nn.GroupNorm(groups, widths[0], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, z):
        x = run_mid(self.mid, self.conv_in(z))
        for here in reversed(self.up):
            x = run_level(here, x)
            if hasattr(here, "upsample"):
                x = here.upsample.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
        return self.conv_out(F.silu(self.norm_out(x)))


class AutoencoderKL(nn.Module):
    def __init__(self, quant=True, **dd):
        super().__init__()
        self.encoder, self.decoder, z = Encoder(**dd), Decoder(**dd), dd["z"]
        if quant:
            self.quant_conv, self.post_quant_conv = nn.Conv2d(2 * z, 2 * z, 1), nn.Conv2d(z, z, 1)


def diffusers(name, levels):
    """The name in AutoencoderKL of diffusers."""
    name = re.sub(r"decoder\.up\.(\d+)", lambda m: f"decoder.up_blocks.{levels - 1 - int(m[1])}", name)
    name = re.sub(r"encoder\.down\.(\d+)", r"encoder.down_blocks.\1", name)
    name = re.sub(r"mid\.block_(\d)", lambda m: f"mid_block.resnets.{int(m[1]) - 1}", name)
    name = name.replace("mid.attn_1", "mid_block.attentions.0").replace(".attn.", ".attentions.")
    if ".attentions." in name:
        for theirs, ours in [(".norm.", ".group_norm."), (".q.", ".to_q."), (".k.", ".to_k."), (".v.", ".to_v."),
                             (".proj_out.", ".to_out.0.")]:
            name = name.replace(theirs, ours)
    for theirs, ours in [(".block.", ".resnets."), ("norm_out", "conv_norm_out"), ("nin_shortcut", "conv_shortcut"),
                         ("downsample.conv", "downsamplers.0.conv"), ("upsample.conv", "upsamplers.0.conv")]:
        name = name.replace(theirs, ours)
    return name


def write_safetensors(path, tensors):
    header, chunks, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name, tensor in tensors.items():
        data = tensor.to(torch.float16).contiguous().numpy().tobytes()
        header[name] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [offset, offset + len(data)]}
        chunks.append(data)
        offset += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(chunks))


def count(**settings):
    with torch.device("meta"):
        return sum(p.numel() for p in AutoencoderKL(**settings).parameters())


def published():
    f8 = dict(ch=128, mult=[1, 2, 4, 4], blocks=2, attention=[], groups=32, resolution=256)
    f16 = dict(ch=128, mult=[1, 1, 2, 2, 4], blocks=2, attention=[16], groups=32, resolution=256)
    return {
        "kl-f8d4": count(z=4, **f8), "kl-f8d16": count(z=16, quant=False, **f8),
        "kl-f16d16": count(z=16, **f16), "kl-f16d32": count(z=32, **f16),
    }


def main():
    torch.manual_seed(SEED)
    torch.set_default_dtype(torch.float64)
    (FOLDER / "diffusers").mkdir(parents=True, exist_ok=True)
    model = AutoencoderKL(**SMALL)
    with torch.no_grad():
        for name, p in model.named_parameters():
            base = 1.0 if p.ndim == 1 and name.endswith("weight") else 0.0
            scale = 0.3 if p.ndim == 1 else 1.4 * (p.numel() / p.shape[0]) ** -0.5
            p.copy_((base + scale * torch.randn(p.shape)).half())
    weights = {name: tensor.half() for name, tensor in model.state_dict().items()}
    training = {"loss.logvar": torch.zeros(()).half(), "loss.discriminator.main.0.weight": torch.ones(2, 3, 4, 4).half()}
    torch.save({"epoch": 1, "global_step": 5, "state_dict": {**weights, **training},
                "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}]}, FOLDER / "ldm.ckpt")
    flat = lambda name, p: p[:, :, 0, 0] if ".attentions." in name and p.ndim == 4 else p
    renamed = {diffusers(name, 2): p for name, p in weights.items()}
    write_safetensors(FOLDER / "diffusers" / "diffusion_pytorch_model.safetensors",
                      {name: flat(name, p) for name, p in renamed.items()})
    (FOLDER / "diffusers" / "config.json").write_text(json.dumps(
        {"_class_name": "AutoencoderKL", "block_out_channels": [8, 16], "latent_channels": 3, "layers_per_block": 1,
         "norm_num_groups": 4, "scaling_factor": 0.18215}) + "\n")

    image = wave([2, 16, 16, 3], "x").permute(0, 3, 1, 2).contiguous()
    with torch.no_grad():
        mean, logvar = model.quant_conv(model.encoder(image)).chunk(2, 1)
        logvar = logvar.clamp(-30, 20)
        outputs = {
            "mean": nhwc(mean), "logVariance": nhwc(logvar),
            "reconstruction": nhwc(model.decoder(model.post_quant_conv(mean))),
            "kl": (0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(dim=[1, 2, 3])).mean().item(),
            "counts": published(),
        }
    (FOLDER / "outputs.json").write_text(json.dumps({"torch": torch.__version__, **outputs}, separators=(",", ":")))


main()
