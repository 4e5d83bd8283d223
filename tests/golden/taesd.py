"""Writes taesd/: small tiny autoencoders in the layer numbering of TAESD, with and without pools, and their outputs.

The modules follow madebyollin/taesd (`taesd.py`) in structure and numbering, with 8 instead of 64 channels and 5 latent
channels. Weights are random and fit float16; outputs.json is computed in float64, images channels last.

Run: python3 tests/golden/taesd.py   (PyTorch 2.13.0, CPU; seed 20251121)
"""
import json
import pathlib

import torch
import torch.nn as nn

from autoencoder import nhwc, wave

SEED = 20251121
FOLDER = pathlib.Path(__file__).with_suffix("")
WIDTH, LATENT = 8, 5


def conv(cin, cout, **options):
    return nn.Conv2d(cin, cout, 3, padding=1, **options)


class Clamp(nn.Module):
    def forward(self, x):
        return 3 * torch.tanh(x / 3)


class Block(nn.Module):
    def __init__(self, c, pooled):
        super().__init__()
        self.conv = nn.Sequential(conv(c, c), nn.ReLU(), conv(c, c), nn.ReLU(), conv(c, c))
        if pooled:
            self.pool = nn.Sequential(nn.Conv2d(c, 4 * c, 1, bias=False), nn.GroupNorm(4, 4 * c), nn.ReLU(),
                                      nn.Conv2d(4 * c, c, 1, bias=False))

    def forward(self, x):
        if hasattr(self, "pool"):
            x = x + self.pool(x)
        return torch.relu(x + self.conv(x))


def encoder(pooled):
    layers = [conv(3, WIDTH), Block(WIDTH, False)]
    for at_latents in (False, False, True):
        layers += [conv(WIDTH, WIDTH, stride=2, bias=False)]
        layers += [Block(WIDTH, pooled and at_latents) for _ in range(3)]
    return nn.Sequential(*layers, conv(WIDTH, LATENT))


def decoder(pooled):
    layers = [Clamp(), conv(LATENT, WIDTH), nn.ReLU()] + [Block(WIDTH, pooled) for _ in range(3)]
    for blocks in (3, 3, 1):
        layers += [nn.Upsample(scale_factor=2), conv(WIDTH, WIDTH, bias=False)]
        layers += [Block(WIDTH, False) for _ in range(blocks)]
    return nn.Sequential(*layers, conv(WIDTH, 3))


def randomised(module):
    with torch.no_grad():
        for name, p in module.named_parameters():
            base = 1.0 if p.ndim == 1 and name.endswith("weight") else 0.0
            p.copy_((base + (0.3 if p.ndim == 1 else (p.numel() / p.shape[0]) ** -0.5) * torch.randn(p.shape)).half())
    return module


def main():
    torch.manual_seed(SEED)
    torch.set_default_dtype(torch.float64)
    FOLDER.mkdir(exist_ok=True)
    outputs = {"torch": torch.__version__}
    image = wave([2, 16, 24, 3], "x", 0.5, 0.5).permute(0, 3, 1, 2)
    latent = wave([2, 2, 3, LATENT], "z", 5.0).permute(0, 3, 1, 2)
    for name, pooled in [("plain", False), ("pooled", True)]:
        encode, decode = randomised(encoder(pooled)), randomised(decoder(pooled))
        for part, module in [("encoder", encode), ("decoder", decode)]:
            torch.save({k: v.half() for k, v in module.state_dict().items()}, FOLDER / f"{name}_{part}.pth")
        with torch.no_grad():
            outputs[name] = {"latent": nhwc(encode(image)), "image": nhwc(decode(latent))}
    (FOLDER / "outputs.json").write_text(json.dumps(outputs, separators=(",", ":")))


main()
