"""Values and gradients of the engine's fused operations, from PyTorch 2.13.0 (CPU), seed 0.

command: python3 tests/golden/engine_fused.py > tests/golden/engine_fused.json
Each case: inputs, output, and the gradients of sum(output * weight) for the inputs, all float32.
"""
import json

import torch
import torch.nn.functional as F

torch.manual_seed(0)


def pack(t):
    return {"shape": list(t.shape), "data": [float(f"{v:.9g}") for v in t.detach().flatten().tolist()]}


def case(fn, *shapes, scale=1.0):
    inputs = [(torch.randn(s) * scale).requires_grad_() for s in shapes]
    output = fn(*inputs)
    weight = torch.randn(output.shape)
    grads = torch.autograd.grad((output * weight).sum(), inputs)
    return {"inputs": [pack(t) for t in inputs], "output": pack(output), "weight": pack(weight),
            "grads": [pack(t) for t in grads]}


def group_norm(x, weight, bias):
    return F.group_norm(x.permute(0, 3, 1, 2), 2, weight, bias, 1e-6).permute(0, 2, 3, 1)


def modulated(x, shift, scale):
    return F.layer_norm(x, (6,), None, None, 1e-6) * (1 + scale) + shift


def cross_entropy(logits):
    targets = torch.linspace(0, 1, logits.numel()).reshape(logits.shape)
    return -(targets * F.log_softmax(logits, -1)).sum(-1)


print(json.dumps({
    "layerNorm": case(lambda x, w, b: F.layer_norm(x, (6,), w, b, 1e-6), (2, 3, 6), (6,), (6,)),
    "layerNormPlain": case(lambda x: F.layer_norm(x, (6,), None, None, 1e-6), (2, 3, 6)),
    "gelu": case(lambda x: F.gelu(x, approximate="tanh"), (4, 5), scale=3.0),
    "geluErf": case(lambda x: F.gelu(x), (4, 5), scale=3.0),
    "silu": case(F.silu, (4, 5), scale=3.0),
    "attention": case(lambda q, k, v: F.scaled_dot_product_attention(q, k, v), (2, 2, 5, 4), (2, 2, 3, 4), (2, 2, 3, 4)),
    "attentionScaled": case(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.3), (1, 2, 4, 4), (1, 2, 4, 4),
                            (1, 2, 4, 4)),
    "softmaxCrossEntropy": case(cross_entropy, (3, 4)),
    "groupNorm": case(group_norm, (2, 3, 2, 4), (4,), (4,)),
    "modulatedLayerNorm": case(modulated, (2, 3, 6), (2, 1, 6), (2, 1, 6)),
    "rmsNorm": case(lambda x, w: F.rms_norm(x, (6,), w, 1e-6), (2, 3, 6), (6,)),
    "rmsNormPlain": case(lambda x: F.rms_norm(x, (6,), None, 1e-6), (2, 3, 6)),
}))
