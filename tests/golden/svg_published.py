"""Golden values of SVG's autoencoder, and small checkpoints under the names of its released files.

The modules below carry those names: the residual encoder torchvision's (`VisionTransformer`), the decoder latent
diffusion's (`Decoder`), the frozen encoder Meta's (from dino_families.py). Without masks the residual encoder attends
by torch.nn.MultiheadAttention; with masks of its dropout by products written out, since PyTorch draws them itself.

Command:  python3 tests/golden/svg_published.py     (writes the folder tests/golden/svg_published)
Version:  PyTorch 2.13.0 (CPU, float64; weights and images stored as float16, which they fit, results as float32),
          seed 20251015
"""

import pathlib
import sys
import types

import torch
import torch.nn as nn
import torch.nn.functional as F
from dino_families import CASES, Vit, fill, save

SEED = 20251015
FOLDER = pathlib.Path(__file__).with_suffix("")
SIZE, PATCH, R, GROUPS, DROPOUT = 16, 4, 8, 4, 0.1
WIDTH, DEPTH, HEADS, HIDDEN = 24, 2, 3, 48
CHANNELS = [8, 12, 16]  # from the image to the latents, as latent diffusion counts
BLOCKS = 2
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def drop(x, masks, name):
    """Keeps the values of a mask and makes up for the others."""
    return x if masks is None else x * masks(name, x.shape) / (1 - DROPOUT)


class EncoderBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.ln_2 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.mlp = nn.ModuleDict({"0": nn.Linear(WIDTH, HIDDEN), "3": nn.Linear(HIDDEN, WIDTH)})

    def attend(self, n, masks, at):
        if masks is None:
            return self.self_attention(n, n, n, need_weights=False)[0]
        b, t, d = n.shape
        qkv = F.linear(n, self.self_attention.in_proj_weight, self.self_attention.in_proj_bias)
        q, k, v = (p.view(b, t, HEADS, d // HEADS).transpose(1, 2) for p in qkv.chunk(3, -1))
        weights = drop((q @ k.transpose(-1, -2) * (d // HEADS) ** -0.5).softmax(-1), masks, f"{at}.attention")
        return self.self_attention.out_proj((weights @ v).transpose(1, 2).reshape(b, t, d))

    def forward(self, x, masks, at):
        x = x + drop(self.attend(self.ln_1(x), masks, at), masks, f"{at}.attended")
        hidden = drop(F.gelu(self.mlp["0"](self.ln_2(x))), masks, f"{at}.hidden")
        return x + drop(self.mlp["3"](hidden), masks, f"{at}.added")


class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, (SIZE // PATCH) ** 2 + 1, WIDTH))
        self.layers = nn.ModuleDict({f"encoder_layer_{i}": EncoderBlock() for i in range(DEPTH)})
        self.ln = nn.LayerNorm(WIDTH, eps=1e-6)

    def forward(self, x, masks):
        x = drop(x + self.pos_embedding, masks, "tokens")
        for i, layer in enumerate(self.layers.values()):
            x = layer(x, masks, f"blocks.{i}")
        return self.ln(x)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_proj = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.class_token = nn.Parameter(torch.empty(1, 1, WIDTH))
        self.encoder = Sequence()
        self.heads = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, R))

    def forward(self, x, masks=None):
        x = self.conv_proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1)
        return self.heads(self.encoder(x, masks)[:, 1:]).transpose(1, 2)


def norm(channels):
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


class Resnet(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.norm1, self.conv1 = norm(cin), nn.Conv2d(cin, cout, 3, padding=1)
        self.norm2, self.conv2 = norm(cout), nn.Conv2d(cout, cout, 3, padding=1)
        if cin != cout:
            self.nin_shortcut = nn.Conv2d(cin, cout, 1)

    def forward(self, x):
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return getattr(self, "nin_shortcut", lambda same: same)(x) + h


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm = norm(c)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(c, c, 1) for _ in range(4))

    def forward(self, x):
        n = self.norm(x)
        q, k, v = (m(n).flatten(2).transpose(1, 2) for m in (self.q, self.k, self.v))
        return x + self.proj_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape))


class Decoder(nn.Module):
    def __init__(self, z):
        super().__init__()
        width, levels = CHANNELS[-1], []
        self.conv_in = nn.Conv2d(z, width, 3, padding=1)
        self.mid = nn.ModuleDict({"block_1": Resnet(width, width), "attn_1": Attention(width), "block_2": Resnet(width, width)})
        for i in reversed(range(len(CHANNELS))):
            lowest, level = i == len(CHANNELS) - 1, nn.Module()
            level.block = nn.ModuleList([Resnet(width if b == 0 else CHANNELS[i], CHANNELS[i]) for b in range(BLOCKS)])
            level.attn = nn.ModuleList([Attention(CHANNELS[i]) for _ in range(BLOCKS if lowest else 0)])
            if i > 0:
                level.upsample = nn.Module()
                level.upsample.conv = nn.Conv2d(CHANNELS[i], CHANNELS[i], 3, padding=1)
            width = CHANNELS[i]
            levels.insert(0, level)
        self.up = nn.ModuleList(levels)
        self.norm_out, self.conv_out = norm(width), nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, z):
        x = self.conv_in(z)
        for part in self.mid.values():
            x = part(x)
        for level in reversed(self.up):
            for b, block in enumerate(level.block):
                x = block(x)
                if len(level.attn) > 0:
                    x = level.attn[b](x)
            if hasattr(level, "upsample"):
                x = level.upsample.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
        return self.conv_out(F.silu(self.norm_out(x)))


def align(r, h):
    """r [B, R, N], h [B, D, N]: means over channels of means and deviations over the batch, all detached."""
    scalars = lambda x: (x.mean((0, 2)).mean().detach(), x.std((0, 2)).mean().detach())
    (mean_h, std_h), (mean_r, std_r) = scalars(h), scalars(r)
    return (r - mean_r) / (std_r + 1e-6) * std_h + mean_h


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        c = CASES["dinov3_plus"]
        self.registers = c["registers"]
        self.encoder, self.extra_vit = Vit(c), Residual()
        self.mask_token = nn.Parameter(torch.empty(1, R, 1))
        self.norm_vit = nn.LayerNorm(R + 32)
        self.decoder = Decoder(c["width"] + R)
        self.loss = Training()

    def forward(self, dino, flags, masks=None):
        with torch.no_grad():
            normed = torch.cat([self.encoder(image[None], None)[1][-1] for image in dino])  # made for one image
        h = normed[:, 1 + self.registers:].transpose(1, 2)
        r = self.extra_vit(dino, masks)
        flags = flags.view(-1, 1, 1)
        aligned = align(r * (1 - flags) + self.mask_token * flags, h)
        z = torch.cat([h, aligned], 1)
        side = SIZE // PATCH
        return h, r, z, self.decoder(z.view(len(z), -1, side, side))


class Training(nn.Module):
    """What a training's checkpoint holds beside the autoencoder, as small as can be."""

    def __init__(self):
        super().__init__()
        self.register_buffer("logvar", torch.zeros(()))
        self.perceptual_loss = nn.Module()
        self.perceptual_loss.scaling_layer = nn.Module()
        self.perceptual_loss.scaling_layer.register_buffer("shift", torch.ones(1, 3, 1, 1))
        self.perceptual_loss.net = nn.Module()
        self.perceptual_loss.net.slice1 = nn.Sequential(nn.Conv2d(3, 2, 3))
        self.perceptual_loss.lin0 = nn.Module()
        self.perceptual_loss.lin0.model = nn.Sequential(nn.Dropout(), nn.Conv2d(2, 1, 1, bias=False))
        self.discriminator = nn.Module()
        self.discriminator.main = nn.Sequential(nn.Conv2d(3, 2, 4), nn.LeakyReLU(0.2), nn.Conv2d(2, 2, 4), nn.BatchNorm2d(2))


def masks(name, shape):
    """About a tenth of the places are dropped, by a rule that any language can follow."""
    i = torch.arange(shape.numel(), dtype=torch.int64)
    return ((i * i * 5 + i * 3 + sum(map(ord, name))) % 97 % 10 != 0).double().reshape(shape)


def lightning(state):
    """A checkpoint as a trainer writes it: weights among optimiser states and settings of foreign classes."""
    module = sys.modules["omegaconf"] = types.ModuleType("omegaconf")
    module.DictConfig = type("DictConfig", (object,), {"__module__": "omegaconf"})
    settings = module.DictConfig()
    settings.target = "ldm.models.dino_decoder.DinoDecoder"
    moments = {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}}
    return {
        "epoch": 40, "global_step": 6, "pytorch-lightning_version": "2.4.0", "state_dict": state, "loops": {},
        "callbacks": {"ModelCheckpoint{'monitor': 'val/rec_loss'}": {"dirpath": pathlib.PurePosixPath("logs")}},
        "optimizer_states": [{"state": moments, "param_groups": []}] * 2, "lr_schedulers": [],
        "hyper_parameters": {"model": settings},
    }


def trained(model, prefix=""):
    """Gradients of what is trained, under the names of the weights."""
    names = ("extra_vit.", "mask_token", "decoder.")
    return {prefix + name: p.grad for name, p in model.named_parameters() if name.startswith(names)}


def main():
    FOLDER.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(SEED)
    model = Autoencoder().double()
    fill(model, generator)
    with torch.no_grad():
        for name, p in model.named_parameters():  # names of norms that dino_families.py does not know
            if name.endswith(".weight") and p.dim() == 1 and not name.startswith("encoder."):
                p.copy_((1 + 0.2 * torch.randn(p.shape, generator=generator, dtype=torch.float64)).half().double())
    images = (torch.randint(0, 257, (3, SIZE, SIZE, 3), generator=generator) / 256).double()
    dino = ((images - MEAN) / STD).permute(0, 3, 1, 2).contiguous()
    target, flags = 2 * images.permute(0, 3, 1, 2) - 1, torch.tensor([0.0, 1.0, 0.0]).double()
    last = lambda x: x.movedim(1, -1).contiguous()
    found = {"image.unit": images}
    for which, dropped in (("plain", None), ("dropout", masks)):
        model.zero_grad()
        features, residual, z, y = model(dino, flags, dropped)
        (10 * (y - target).abs().mean()).backward()
        found |= {f"{which}.residual": last(residual), f"{which}.z": last(z), f"{which}.y": last(y)}
        kept = trained(model) if dropped is None else {n: g for n, g in trained(model).items() if "extra_vit" in n}
        save(FOLDER / f"{which}.gradients.safetensors", kept, "F32")
    with torch.no_grad():  # evaluation: nothing is masked, the batch is aligned with itself
        features, residual, z, y = model(dino, torch.zeros(3).double())
    found |= {"features": last(features), "evaluated.z": last(z), "evaluated.y": last(y)}
    save(FOLDER / "outputs.safetensors", found, "F32")
    state = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    state["encoder.rope_embed.periods"] = state["encoder.rope_embed.periods"].float()
    torch.save(lightning(state), FOLDER / "autoencoder.ckpt")
    flat = z.transpose(1, 2).reshape(-1, z.shape[1]).float()
    stats = {"dinov3_sp_mean": flat.mean(0), "dinov3_sp_std": flat.std(0)}
    torch.save({name: value.view(1, 1, -1) for name, value in stats.items()}, FOLDER / "stats.pt")
    torch.save({name: value[:24].clone().view(1, 1, -1) for name, value in stats.items()}, FOLDER / "narrow_stats.pt")


if __name__ == "__main__":
    main()
