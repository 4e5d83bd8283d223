"""Golden values of the autoencoders: decoder, encoder and residual encoder in PyTorch, from the published structure.

Written with PyTorch 2.13.0 (CPU); no random numbers: weights and inputs are sines (see `wave`). By:
    python3 tests/golden/autoencoder.py > tests/golden/autoencoder.json

The modules follow CompVis/latent-diffusion (`Encoder`, `Decoder`) and torchvision's `VisionTransformer` in structure.
Weights are laid out as the library has them before they are permuted to PyTorch's order: convolutions [height, width,
in, out], linear maps [in, out]; images are channels last in the file.
"""
import json
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)


def groups(channels):
    count = max(min(32, channels // 4), 1)
    while channels % count:
        count -= 1
    return count


def norm(channels):
    return nn.GroupNorm(groups(channels), channels, eps=1e-6)


class Block(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.norm1, self.conv1 = norm(cin), nn.Conv2d(cin, cout, 3, padding=1)
        self.norm2, self.conv2 = norm(cout), nn.Conv2d(cout, cout, 3, padding=1)
        self.shortcut = nn.Conv2d(cin, cout, 1) if cin != cout else None

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return (x if self.shortcut is None else self.shortcut(x)) + h


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm = norm(c)
        self.query, self.key, self.value, self.proj = (nn.Conv2d(c, c, 1) for _ in range(4))

    def forward(self, x):
        b, c, h, w = x.shape
        n = self.norm(x)
        q, k, v = (m(n).reshape(b, c, h * w) for m in (self.query, self.key, self.value))
        weights = torch.softmax(torch.bmm(q.transpose(1, 2), k) * c ** -0.5, dim=2)
        return x + self.proj(torch.bmm(v, weights.transpose(1, 2)).reshape(b, c, h, w))


class Mid(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.block1, self.attention, self.block2 = Block(c, c), Attention(c), Block(c, c)

    def forward(self, x):
        return self.block2(self.attention(self.block1(x)))


class Level(nn.Module):
    def __init__(self, cin, cout, blocks, attention, resample):
        super().__init__()
        self.blocks = nn.ModuleList([Block(cin if i == 0 else cout, cout) for i in range(blocks)])
        self.attentions = nn.ModuleList([Attention(cout) for _ in range(blocks if attention else 0)])
        if resample:
            stride = 2 if resample == "downsample" else 1
            setattr(self, resample, nn.Conv2d(cout, cout, 3, stride=stride, padding=1 if stride == 1 else 0))

    def forward(self, x):
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i < len(self.attentions):
                x = self.attentions[i](x)
        if hasattr(self, "upsample"):
            x = self.upsample(F.interpolate(x, scale_factor=2, mode="nearest"))
        if hasattr(self, "downsample"):
            x = self.downsample(F.pad(x, (0, 1, 0, 1)))
        return x


class Decoder(nn.Module):
    def __init__(self, z, channels, blocks, attention_levels, out=3):
        super().__init__()
        last = len(channels) - 1
        self.convIn = nn.Conv2d(z, channels[0], 3, padding=1)
        self.mid = Mid(channels[0])
        self.levels = nn.ModuleList([
            Level(channels[max(i - 1, 0)], c, blocks, i < attention_levels, "upsample" if i < last else None)
            for i, c in enumerate(channels)
        ])
        self.normOut = norm(channels[-1])
        self.convOut = nn.Conv2d(channels[-1], out, 3, padding=1)

    def forward(self, x):
        x = self.mid(self.convIn(x))
        for level in self.levels:
            x = level(x)
        return self.convOut(F.silu(self.normOut(x)))


class Encoder(nn.Module):
    """`channels` from the image to the latents."""

    def __init__(self, z, channels, blocks, attention_levels, cin=3):
        super().__init__()
        last = len(channels) - 1
        self.convIn = nn.Conv2d(cin, channels[0], 3, padding=1)
        self.levels = nn.ModuleList([
            Level(channels[max(i - 1, 0)], c, blocks, last - i < attention_levels, "downsample" if i < last else None)
            for i, c in enumerate(channels)
        ])
        self.mid = Mid(channels[-1])
        self.normOut = norm(channels[-1])
        self.convOut = nn.Conv2d(channels[-1], 2 * z, 3, padding=1)

    def forward(self, x):
        x = self.convIn(x)
        for level in self.levels:
            x = level(x)
        return self.convOut(F.silu(self.normOut(self.mid(x))))


class Mlp(nn.Module):
    def __init__(self, d, hidden, out):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(d, hidden), nn.Linear(hidden, out)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class VitBlock(nn.Module):
    def __init__(self, d, heads, hidden):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d, eps=1e-6), nn.LayerNorm(d, eps=1e-6)
        self.attention = nn.MultiheadAttention(d, heads, batch_first=True)
        self.mlp = Mlp(d, hidden, d)

    def forward(self, x):
        n = self.norm1(x)
        x = x + self.attention(n, n, n, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class Residual(nn.Module):
    def __init__(self, size, patch, d, depth, heads, hidden, r):
        super().__init__()
        self.patch = nn.Conv2d(3, d, patch, stride=patch)
        self.classToken = nn.Parameter(torch.zeros(1, 1, d))
        self.positions = nn.Parameter(torch.zeros(1, (size // patch) ** 2 + 1, d))
        self.blocks = nn.ModuleList([VitBlock(d, heads, hidden) for _ in range(depth)])
        self.norm = nn.LayerNorm(d, eps=1e-6)
        self.head = Mlp(d, d, r)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.classToken.expand(len(x), -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 1:])


def align(r, h):
    """r [B, R, N], h [B, D, N], as in the paper."""
    def scalars(x):
        flat = x.transpose(0, 1).reshape(x.shape[1], -1)
        return flat.mean(1).mean().detach(), flat.std(1).mean().detach()
    (mu_h, sd_h), (mu_r, sd_r) = scalars(h), scalars(r)
    return (r - mu_r) / (sd_r + 1e-6) * sd_h + mu_h


def wave(shape, name, amplitude=1.0, base=0.0):
    """A chirp over the index, shifted by the letters of the name: full rank, and the same in any language."""
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return (base + amplitude * torch.sin(0.37 * i * i + i + sum(map(ord, name)))).reshape(shape)


def weights(path, shape):
    """Values of a parameter by path and shape, both as in the library."""
    if len(shape) == 1:
        return wave(shape, path, 0.3, 1.0 if path.endswith("weight") else 0.0)
    return wave(shape, path, (1.4 if shape[0] == 1 and len(shape) == 3 else 1.4 * math.prod(shape[:-1]) ** -0.5))


def fill(module, path=""):
    """Fills a module; names of children are those of the library."""
    with torch.no_grad():
        if isinstance(module, nn.Conv2d):
            o, i, h, w = module.weight.shape
            module.weight.copy_(weights(path + "weight", [h, w, i, o]).permute(3, 2, 0, 1))
            module.bias.copy_(weights(path + "bias", [o]))
        elif isinstance(module, nn.Linear):
            o, i = module.weight.shape
            module.weight.copy_(weights(path + "weight", [i, o]).t())
            module.bias.copy_(weights(path + "bias", [o]))
        elif isinstance(module, (nn.GroupNorm, nn.LayerNorm)):
            module.weight.copy_(weights(path + "weight", module.weight.shape))
            module.bias.copy_(weights(path + "bias", module.bias.shape))
        elif isinstance(module, nn.MultiheadAttention):
            d = module.embed_dim
            module.in_proj_weight.copy_(weights(path + "qkv.weight", [d, 3 * d]).t())
            module.in_proj_bias.copy_(weights(path + "qkv.bias", [3 * d]))
            fill(module.out_proj, path + "proj.")
        else:
            for name, p in module.named_parameters(recurse=False):
                p.copy_(weights(path + name, list(p.shape)))
            for name, child in module.named_children():
                fill(child, path + name + ".")
    return module


def number(tensor):
    flat = [float(f"{v:.8g}") for v in tensor.detach().reshape(-1).tolist()]
    return {"shape": list(tensor.shape), "data": flat}


def nhwc(x):
    return number(x.permute(0, 2, 3, 1))


def images(shape, name):
    """[B, H, W, C] waves as [B, C, H, W]."""
    return wave(shape, name).permute(0, 3, 1, 2).contiguous()


def count(module):
    return sum(p.numel() for p in module.parameters())


def main():
    out = {"torch": torch.__version__}
    out["block"] = {"y": nhwc(fill(Block(8, 4))(images([2, 6, 5, 8], "x")))}
    out["attention"] = {"y": nhwc(fill(Attention(8))(images([2, 3, 4, 8], "x")))}

    decoder, z = fill(Decoder(5, [12, 8], 1, 1)), images([2, 4, 4, 5], "z").requires_grad_()
    y = decoder(z)
    (y.abs().mean() * 10).backward()
    hwio = lambda m: number(m.weight.grad.permute(2, 3, 1, 0))
    out["decoder"] = {
        "y": nhwc(y), "gradZ": nhwc(z.grad), "gradConvIn": hwio(decoder.convIn),
        "gradUpsample": hwio(decoder.levels[0].upsample), "gradNormOut": number(decoder.normOut.weight.grad),
    }
    moments = fill(Encoder(3, [8, 12], 1, 1))(images([2, 8, 8, 3], "x"))
    mean, logvar = moments.chunk(2, 1)
    out["encoder"] = {
        "mean": nhwc(mean), "logVariance": nhwc(logvar.clamp(-30, 20)),
        "kl": (0.5 * (mean ** 2 + logvar.exp() - 1 - logvar).sum(dim=[1, 2, 3])).mean().item(),
    }
    out["residual"] = {"y": number(fill(Residual(16, 4, 12, 2, 3, 24, 3))(images([2, 16, 16, 3], "x")))}
    last = lambda shape, name, *rest: wave(shape, name, *rest).transpose(1, 2).contiguous()
    h, r = last([3, 10, 6], "h", 1.7, 0.4), last([3, 10, 2], "r", 0.3, -2.0).requires_grad_()
    aligned = align(r, h)
    (aligned * last([3, 10, 2], "w")).sum().backward()
    out["align"] = {"y": number(aligned.transpose(1, 2)), "gradR": number(r.grad.transpose(1, 2))}
    with torch.device("meta"):
        out["counts"] = {
            "publishedDecoder392": count(Decoder(392, [512, 256, 256, 128, 128], 3, 1)),
            "publishedResidual": count(Residual(256, 16, 384, 6, 8, 1536, 8)),
        }
    print(json.dumps(out, separators=(",", ":")))


if __name__ == "__main__":
    main()
