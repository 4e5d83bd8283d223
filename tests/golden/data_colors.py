"""Golden values of colour jitter and of blur: torchvision's formulas for tensors, restated in PyTorch 2.13 (CPU).

    python3 tests/golden/data_colors.py > tests/golden/data_colors.json

`blend`, the grey of `rgb_to_grayscale` and the way through HSV of `adjust_hue` are written out, with Pillow's luma
(0.299, 0.587, 0.114), as the published trainings jitter Pillow images. Blur is a depthwise convolution with reflected
edges. Seed 5.
"""
import itertools
import json

import torch
import torch.nn.functional as F

torch.manual_seed(5)
torch.set_default_dtype(torch.float64)


def gray(x):
    return 0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2]


def blend(a, b, ratio):
    return (ratio * a + (1 - ratio) * b).clamp(0, 1)


def brightness(x, factor):
    return blend(x, torch.zeros_like(x), factor)


def contrast(x, factor):
    return blend(x, gray(x).mean().expand_as(x), factor)


def saturation(x, factor):
    return blend(x, gray(x).expand_as(x), factor)


def hue(x, factor):
    r, g, b = x
    top, low = x.max(0).values, x.min(0).values
    same = top == low
    span = top - low
    sat = span / torch.where(same, torch.ones_like(top), top)
    divisor = torch.where(same, torch.ones_like(top), span)
    rc, gc, bc = (top - r) / divisor, (top - g) / divisor, (top - b) / divisor
    hr = (top == r) * (bc - gc)
    hg = ((top == g) & (top != r)) * (2.0 + rc - bc)
    hb = ((top != g) & (top != r)) * (4.0 + gc - rc)
    h = (torch.fmod((hr + hg + hb) / 6.0 + 1.0, 1.0) + factor) % 1.0
    i = torch.floor(h * 6.0)
    f = h * 6.0 - i
    i = i.int() % 6
    p, q, t = (top * (1.0 - sat)).clamp(0, 1), (top * (1.0 - sat * f)).clamp(0, 1), (top * (1.0 - sat * (1.0 - f))).clamp(0, 1)
    sixths = [(top, t, p), (q, top, p), (p, top, t), (p, q, top), (t, p, top), (top, p, q)]
    return torch.stack([sum((i == s) * sixths[s][c] for s in range(6)) for c in range(3)])


STEPS = dict(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)


def values(x):
    return [float(f"{v:.8g}") for v in x.permute(1, 2, 0).flatten().tolist()]


image = torch.rand(3, 5, 7).float().double()
image[:, 0, 0] = 0.5  # grey
image[:, 0, 1] = 0.0
image[:, 0, 2] = torch.tensor([1.0, 1.0, 0.0])
factors = dict(brightness=1.35, contrast=0.65, saturation=1.18, hue=0.08)
cases = []
for order in itertools.permutations(STEPS):
    out = image
    for name in order:
        out = STEPS[name](out, factors[name])
    cases.append(dict(order=order, change=factors, data=values(out)))
for name, factor in [("hue", -0.1), ("hue", 0.5), ("hue", -0.45), ("contrast", 1.4), ("saturation", 0.2), ("brightness", 0.6)]:
    change = dict(brightness=1, contrast=1, saturation=1, hue=0) | {name: factor}
    cases.append(dict(order=[name], change=change, data=values(STEPS[name](image, factor))))

blurs = []
large = torch.rand(3, 9, 12).float().double()
for sigma in (0.1, 0.6, 2.0):
    x = torch.linspace(-4, 4, 9)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = kernel / kernel.sum()
    square = (kernel[:, None] @ kernel[None]).expand(3, 1, 9, 9)
    out = F.conv2d(F.pad(large.unsqueeze(0), (4, 4, 4, 4), mode="reflect"), square, groups=3)[0]
    blurs.append(dict(sigma=sigma, data=values(out)))

print(json.dumps(dict(torch=torch.__version__, image=values(image), cases=cases, gray=values(gray(image).expand_as(image)),
                      large=values(large), blurs=blurs)))
