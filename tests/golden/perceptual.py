"""Writes lpips/ (narrow trunks and heads in the forms in which they are published) and perceptual.json (distances of
LPIPS and their gradients, in float64).

Written with PyTorch 2.13.0 (CPU), seed 0 for the weights; images are sines (`wave` of autoencoder.py). By:
    python3 tests/golden/perceptual.py

Names and order follow torchvision's `vgg16` and `alexnet`, richzhang/PerceptualSimilarity and taming-transformers.
"""
import collections
import json
import pathlib

import torch
import torch.nn.functional as F

from autoencoder import number, wave

FOLDER = pathlib.Path(__file__).parent / "lpips"
SHIFT = torch.tensor([-0.030, -0.088, -0.188]).reshape(1, 3, 1, 1)
SCALE = torch.tensor([0.458, 0.448, 0.450]).reshape(1, 3, 1, 1)

# (place in `features`, width, kernel, stride, padding, pooling before it, whether it is compared)
VGG = [
    (0, 3, 3, 1, 1, 0, False), (2, 4, 3, 1, 1, 0, True),
    (5, 4, 3, 1, 1, 2, False), (7, 5, 3, 1, 1, 0, True),
    (10, 5, 3, 1, 1, 2, False), (12, 4, 3, 1, 1, 0, False), (14, 6, 3, 1, 1, 0, True),
    (17, 6, 3, 1, 1, 2, False), (19, 4, 3, 1, 1, 0, False), (21, 5, 3, 1, 1, 0, True),
    (24, 5, 3, 1, 1, 2, False), (26, 4, 3, 1, 1, 0, False), (28, 5, 3, 1, 1, 0, True),
]
ALEX = [
    (0, 4, 11, 4, 2, 0, True), (3, 5, 5, 1, 2, 3, True), (6, 6, 3, 1, 1, 3, True),
    (8, 5, 3, 1, 1, 0, True), (10, 4, 3, 1, 1, 0, True),
]


def random_trunk(layers):
    state, before = collections.OrderedDict(), 3
    for place, width, kernel, *_ in layers:
        state[f"features.{place}.weight"] = torch.randn(width, before, kernel, kernel) * (before * kernel**2) ** -0.5
        # Above zero, so that no place is without a positive channel: there LPIPS has no gradient.
        state[f"features.{place}.bias"] = 1 + torch.rand(width)
        before = width
    return state


def random_heads(layers):
    widths = [width for _, width, *_, tap in layers if tap]
    return {f"lin{k}.model.1.weight": torch.rand(1, width, 1, 1) for k, width in enumerate(widths)}


def lpips(image, other, layers, trunk, heads):
    """Distances [B]; both [B, 3, H, W] in [-1, 1]."""
    def maps(x):
        x, taps = (x - SHIFT) / SCALE, []
        for place, _, _, stride, padding, pool, tap in layers:
            if pool:
                x = F.max_pool2d(x, pool, 2)
            weight, bias = (trunk[f"features.{place}.{part}"].to(x.dtype) for part in ("weight", "bias"))
            x = F.relu(F.conv2d(x, weight, bias, stride, padding))
            if tap:
                taps.append(x)
        return taps

    def unit(x):
        norm = torch.sqrt(torch.sum(x**2, dim=1, keepdim=True))
        assert norm.min() > 1e-3
        return x / (norm + 1e-10)

    total = 0
    for k, (f, g) in enumerate(zip(maps(image), maps(other))):
        head = heads[f"lin{k}.model.1.weight"].to(f.dtype)
        total = total + F.conv2d((unit(f) - unit(g)) ** 2, head).mean([2, 3])
    return total[:, 0]


def images(shape, name):
    return wave(shape, name).permute(0, 3, 1, 2).contiguous()


def case(shape, layers, trunk, heads):
    image, other = images(shape, "image"), images(shape, "other").requires_grad_()
    distances = lpips(image, other, layers, trunk, heads)
    distances.mean().backward()
    return {"shape": shape, "distances": number(distances), "gradient": number(other.grad.permute(0, 2, 3, 1))}


def main():
    FOLDER.mkdir(exist_ok=True)
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    vgg, vgg_heads, alex, alex_heads = random_trunk(VGG), random_heads(VGG), random_trunk(ALEX), random_heads(ALEX)
    rest = {"classifier.0.weight": torch.zeros(2, 2), "classifier.0.bias": torch.zeros(2)}
    # The published files of these two, and of the heads, are of the format before PyTorch 1.6.
    old = {"_use_new_zipfile_serialization": False}
    torch.save({**vgg, **rest}, FOLDER / "vgg16-397923af.pth", **old)
    torch.save({**alex, **rest}, FOLDER / "alexnet-owt-7be5be79.pth")
    torch.save(vgg_heads, FOLDER / "vgg.pth", **old)
    torch.save(alex_heads, FOLDER / "alex.pth", **old)

    slices = {place: 1 + sum(bool(pool) for _, _, _, _, _, pool, _ in VGG[: i + 1]) for i, (place, *_) in enumerate(VGG)}
    module = {"scaling_layer.shift": SHIFT, "scaling_layer.scale": SCALE, **vgg_heads}
    for name, tensor in vgg.items():
        _, place, part = name.split(".")
        module[f"net.slice{slices[int(place)]}.{place}.{part}"] = tensor
    state = {f"loss.perceptual_loss.{name}": tensor for name, tensor in module.items()}
    state["decoder.conv_out.weight"] = torch.zeros(1)
    torch.save({"epoch": 1, "state_dict": state}, FOLDER / "whole.ckpt")

    torch.set_default_dtype(torch.float64)
    out = {
        "torch": torch.__version__,
        "vgg16": case([2, 20, 18, 3], VGG, vgg, vgg_heads),
        "alexnet": case([1, 33, 31, 3], ALEX, alex, alex_heads),
    }
    pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(out, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
