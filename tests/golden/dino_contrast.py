"""Writes dino_contrast.json: the contrast loss and the convolutional stem with gradients, by PyTorch in float64.

    python3 tests/golden/dino_contrast.py > tests/golden/dino_contrast.json
"""
import json

import torch
import torch.nn.functional as F

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)


def golden(x):
    return {"shape": list(x.shape), "data": [float(f"{v:.7g}") for v in x.detach().flatten().tolist()]}


def contrast(images, locals_, width, temperature):
    crops = F.normalize(torch.randn(2 + locals_, images, width), dim=-1).requires_grad_()
    own, losses = torch.arange(images), []
    for key in range(2):
        for query in range(2 + locals_):
            if query != key:
                losses.append(F.cross_entropy(crops[query] @ crops[key].T / temperature, own))
    loss = torch.stack(losses).mean()
    (grad,) = torch.autograd.grad(loss, crops)
    return {
        "locals": locals_,
        "temperature": temperature,
        "crops": golden(crops.flatten(0, 1)),
        "loss": loss.item(),
        "grad": golden(grad.flatten(0, 1)),
    }


def stem(channels, size):
    image = torch.randn(2, size, size, 3).requires_grad_()
    x, stages, before = image.permute(0, 3, 1, 2), [], 3
    for width in channels:
        stage = {}
        for i, (source, stride) in enumerate([(before, 2), (width, 1)], 1):
            kernel, bias = torch.randn(width, source, 3, 3) * 0.3, torch.randn(width) * 0.1
            gain, shift = 1 + 0.2 * torch.randn(width), 0.2 * torch.randn(width)
            # An even side and stride 2: one row and column of zeros, below and to the right.
            padded = F.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
            x = F.silu(F.group_norm(F.conv2d(padded, kernel, bias, stride), width // 8, gain, shift, 1e-6))
            stage[f"conv{i}"] = {"weight": golden(kernel.permute(2, 3, 1, 0)), "bias": golden(bias)}
            stage[f"norm{i}"] = {"weight": golden(gain), "bias": golden(shift)}
        stages.append(stage)
        before = width
    tokens = x.flatten(2).transpose(1, 2)
    along = torch.randn_like(tokens)
    (grad,) = torch.autograd.grad((tokens * along).sum(), image)
    return {
        "image": golden(image),
        "stages": stages,
        "tokens": golden(tokens),
        "along": golden(along),
        "grad": golden(grad),
    }


print(json.dumps({
    "generator": "tests/golden/dino_contrast.py",
    "torch": torch.__version__,
    "contrast": [contrast(5, 0, 6, 0.2), contrast(4, 3, 5, 0.1)],
    "stem": stem([8, 16], 8),
}))
