"""The workloads of step_bench.ts in PyTorch, as one would write them there.

usage: python3 torch_step.py JSON SECONDS THREADS
JSON: {"kind": "dit-step" | "dit-sample" | "vit-forward" | "decoder-step" | "decoder-forward", "batch": …} and the sizes of a workload in workloads.ts
prints one line of JSON: median and least milliseconds a step, number of steps, peak memory in MiB
"""
import copy
import json
import math
import resource
import statistics
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

SPEC, SECONDS, THREADS = json.loads(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
BATCH, CHANNELS = SPEC["batch"], SPEC.get("latents", 72)
PUBLISHED = SPEC.get("published", False)
CLASSES, OUTPUTS = (1000, 2 * CHANNELS) if PUBLISHED else (10, CHANNELS)
WIDTH, HEADS, DEPTH = (SPEC.get(key, 0) for key in ("width", "heads", "depth"))
TOKENS = SPEC.get("grid", 0) ** 2


class Attention(nn.Module):
    def __init__(self, qk_norm):
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        head = WIDTH // HEADS
        self.q_norm = nn.LayerNorm(head) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(head) if qk_norm else nn.Identity()

    def forward(self, x, rope=None):
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = rotate(q, *rope), rotate(k, *rope)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(b, n, WIDTH))


def rotate(x, cos, sin):
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


class Mlp(nn.Module):
    def __init__(self, approximate):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.act = nn.GELU(approximate=approximate)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class DitBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.mlp = Attention(True), Mlp("tanh")

    def forward(self, x, m):
        x = x + m[2] * self.attention(modulate(x, m[0], m[1]))
        return x + m[5] * self.mlp(modulate(x, m[3], m[4]))


def modulate(x, shift, scale):
    return F.layer_norm(x, (WIDTH,), eps=1e-6) * (1 + scale) + shift


class Dit(nn.Module):
    def __init__(self, depth=DEPTH):
        super().__init__()
        self.tokens = nn.Linear(CHANNELS, WIDTH)
        self.time = nn.Sequential(nn.Linear(256, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.labels = nn.Embedding(CLASSES + 1, WIDTH)
        self.modulation = nn.Linear(WIDTH, (6 * depth + 2) * WIDTH)
        self.blocks = nn.ModuleList(DitBlock() for _ in range(depth))
        self.output = nn.Linear(WIDTH, OUTPUTS)
        self.register_buffer("positions", torch.randn(TOKENS, WIDTH))
        self.register_buffer("frequencies", 10000 ** (-torch.arange(128) / 128))

    def forward(self, z, t, labels):
        x = self.tokens(z) + self.positions
        angles = t[:, None] * self.frequencies
        c = self.time(torch.cat([angles.cos(), angles.sin()], -1)) + self.labels(labels)
        m = self.modulation(F.silu(c))[:, None].chunk(6 * len(self.blocks) + 2, -1)
        for i, block in enumerate(self.blocks):
            x = block(x, m[6 * i:6 * i + 6])
        return self.output(modulate(x, m[-2], m[-1]))[..., :CHANNELS]


class VitBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention, self.mlp = Attention(False), Mlp("none")
        self.gain1, self.gain2 = (nn.Parameter(torch.full((WIDTH,), 0.1)) for _ in range(2))

    def forward(self, x, rope):
        x = x + self.gain1 * self.attention(self.norm1(x), rope)
        return x + self.gain2 * self.mlp(self.norm2(x))


class Vit(nn.Module):
    def __init__(self, depth=DEPTH):
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, SPEC["patch"], SPEC["patch"])
        self.leading = nn.Parameter(torch.randn(1, 5, WIDTH))
        self.blocks = nn.ModuleList(VitBlock() for _ in range(depth))
        self.norm = nn.LayerNorm(WIDTH)
        angles = torch.randn(TOKENS + 5, WIDTH // HEADS)
        self.rope = (angles.cos(), angles.sin())

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.leading.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x, self.rope)
        return self.norm(x)[:, 5:]


def group_norm(channels):
    return nn.GroupNorm(min(32, channels // 4), channels, eps=1e-6)


class ResnetBlock(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm1, self.conv1 = group_norm(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = group_norm(outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x):
        y = self.conv1(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(y)))


class SpatialAttention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv, self.proj = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, c, h * w).transpose(2, 3).unbind(1)
        y = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return x + self.proj(y.transpose(1, 2).reshape(b, c, h, w))


class Decoder(nn.Module):
    """The decoder of latent diffusion with attention in the middle and at the first level."""

    def __init__(self, channels):
        super().__init__()
        first, last = channels[0], channels[-1]
        self.conv_in = nn.Conv2d(CHANNELS, first, 3, padding=1)
        self.mid = nn.Sequential(ResnetBlock(first, first), SpatialAttention(first), ResnetBlock(first, first))
        levels, before = [], first
        for level, width in enumerate(channels):
            for _ in range(3):
                levels.append(ResnetBlock(before, width))
                if level == 0:
                    levels.append(SpatialAttention(width))
                before = width
            if level < len(channels) - 1:
                levels += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1)]
        self.levels = nn.Sequential(*levels)
        self.out = nn.Sequential(group_norm(last), nn.SiLU(), nn.Conv2d(last, 3, 3, padding=1))

    def forward(self, z):
        return self.out(self.levels(self.mid(self.conv_in(z))))


def training(net, loss_of):
    ema = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.01)

    def step():
        loss = loss_of(net)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1)
        optimizer.step()
        torch._foreach_lerp_(list(ema.parameters()), list(net.parameters()), 0.001)
        return loss.item()

    return step


def decoder_step():
    latents = torch.randn(BATCH, CHANNELS, SPEC["grid"], SPEC["grid"])
    side = SPEC["grid"] * 2 ** (len(SPEC["channels"]) - 1)
    images = torch.rand(BATCH, 3, side, side) * 2 - 1
    return training(Decoder(SPEC["channels"]), lambda net: F.l1_loss(net(latents), images))


def decoder_forward():
    net = Decoder(SPEC["channels"]).eval()
    latents = torch.randn(BATCH, CHANNELS, SPEC["grid"], SPEC["grid"])

    def step():
        with torch.inference_mode():
            return net(latents)[0, 0, 0, 0].item()

    return step


def dit_step():
    data, noise = torch.randn(BATCH, TOKENS, CHANNELS), torch.randn(BATCH, TOKENS, CHANNELS)
    t, labels = torch.rand(BATCH), torch.randint(CLASSES, (BATCH,))

    def loss(net):
        return F.mse_loss(net(noise + t[:, None, None] * (data - noise), t, labels), data - noise)

    return training(Dit(), loss)


def dit_sample():
    net, steps, scale = Dit().eval(), SPEC.get("steps", 10), SPEC.get("cfgScale", 1)
    labels = torch.arange(BATCH) % CLASSES
    both = torch.cat([labels, torch.full_like(labels, CLASSES)])

    def velocity(z, t):
        if scale == 1:
            return net(z, t.expand(BATCH), labels)
        conditional, free = net(torch.cat([z, z]), t.expand(2 * BATCH), both).chunk(2)
        return free + scale * (conditional - free)

    def step():
        with torch.inference_mode():
            z, times = torch.randn(BATCH, TOKENS, CHANNELS), torch.linspace(0, 1, steps + 1)
            for t, t_next in zip(times, times[1:]):
                z = z + (t_next - t) * velocity(z, t)
            return z[0, 0, 0].item()

    return step


def vit_forward():
    net = Vit().eval()
    side = SPEC["patch"] * SPEC["grid"]
    images = torch.randn(BATCH, 3, side, side)

    def step():
        with torch.inference_mode():
            return net(images)[0, 0, 0].item()

    return step


torch.set_num_threads(THREADS)
torch.manual_seed(0)
KINDS = {
    "dit-step": dit_step,
    "dit-sample": dit_sample,
    "vit-forward": vit_forward,
    "decoder-step": decoder_step,
    "decoder-forward": decoder_forward,
}
step = KINDS[SPEC["kind"]]()
for _ in range(2):
    assert math.isfinite(step())
times, end = [], time.perf_counter() + SECONDS
while time.perf_counter() < end or len(times) < 3:
    start = time.perf_counter()
    step()
    times.append((time.perf_counter() - start) * 1e3)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"medianMs": statistics.median(times), "leastMs": min(times), "steps": len(times), "peakMiB": peak}))
