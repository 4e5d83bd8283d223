"""Writes adversarial.json and discriminator.ckpt: PatchGAN, its losses, the adaptive weight, and one whole update of an
autoencoder and its discriminator.

Written with PyTorch 2.13.0 (CPU), in float64; weights of the checkpoint from seed 0, all else from sines (`wave` of
autoencoder.py). By:
    python3 tests/golden/adversarial.py

Structure and order of operations follow CompVis/taming-transformers and CompVis/latent-diffusion, the step SVG's. Trees
of parameters are named and laid out as in the library.
"""
import json
import math
import pathlib

import torch
import torch.nn as nn
import torch.nn.functional as F

from autoencoder import Decoder, Residual, align, fill, number, wave, weights
from perceptual import FOLDER as LPIPS, VGG, lpips

HERE = pathlib.Path(__file__).parent


class Discriminator(nn.Module):
    def __init__(self, channels, layers):
        super().__init__()
        widths = [channels * min(2**n, 8) for n in range(layers + 1)]
        main = [nn.Conv2d(3, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for n in range(1, layers + 1):
            main += [
                nn.Conv2d(widths[n - 1], widths[n], 4, 2 if n < layers else 1, 1, bias=False),
                nn.BatchNorm2d(widths[n]),
                nn.LeakyReLU(0.2),
            ]
        self.main = nn.Sequential(*main, nn.Conv2d(widths[-1], 1, 4, 1, 1))

    def forward(self, x):
        return self.main(x)


def hinge(real, fake):
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def vanilla(real, fake):
    return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())


def adaptive(reconstruction, adversarial):
    return torch.clamp(torch.norm(reconstruction) / (torch.norm(adversarial) + 1e-4), 0.0, 1e4)


def hwio(x):
    return x.permute(2, 3, 1, 0)


def same(x):
    return x


def table(module, path):
    """Parameters by their path in the library, each with its way into the library's layout."""
    if isinstance(module, nn.Conv2d):
        rows = {path + "weight": (module.weight, hwio)}
        if path == "residual.patch.":
            rows = {path + "weight": (module.weight, lambda x: hwio(x).reshape(-1, x.shape[0]))}
        return rows | ({path + "bias": (module.bias, same)} if module.bias is not None else {})
    if isinstance(module, nn.Linear):
        return {path + "weight": (module.weight, torch.t), path + "bias": (module.bias, same)}
    if isinstance(module, nn.MultiheadAttention):
        return {
            path + "qkv.weight": (module.in_proj_weight, torch.t),
            path + "qkv.bias": (module.in_proj_bias, same),
            **table(module.out_proj, path + "proj."),
        }
    rows = {path + name: (p, same) for name, p in module.named_parameters(recurse=False)}
    for name, child in module.named_children():
        rows |= table(child, path + name + ".")
    return rows


def discriminator_table(net, path):
    main, rows = net.main, table(net.main[0], path + "first.")
    for i, n in enumerate(range(2, len(main) - 1, 3)):
        rows |= {path + f"blocks.{i}.kernel": (main[n].weight, hwio)}
        rows |= {path + f"blocks.{i}.norm.{part}": (getattr(main[n + 1], part), same) for part in ("weight", "bias")}
    return rows | table(main[-1], path + "last.")


def norms(net):
    return [m for m in net.main if isinstance(m, nn.BatchNorm2d)]


def fill_discriminator(net, path):
    with torch.no_grad():
        for name, (p, layout) in discriminator_table(net, path).items():
            value = weights(name, list(layout(p).shape))
            p.copy_(value.permute(3, 2, 0, 1) if p.dim() == 4 else value)
        for i, norm in enumerate(norms(net)):
            norm.running_mean.copy_(wave(norm.running_mean.shape, f"mean{i}", 0.3))
            norm.running_var.copy_(wave(norm.running_var.shape, f"variance{i}", 0.3, 1.0))


def statistics(net):
    return [{"mean": number(n.running_mean), "variance": number(n.running_var)} for n in norms(net)]


def images(shape, name):
    return wave(shape, name).permute(0, 3, 1, 2).contiguous()


def forward_case():
    """The checkpoint's discriminator on images of odd halves, in training and in evaluation."""
    torch.manual_seed(0)
    net = Discriminator(2, 3).float()
    with torch.no_grad():
        for norm in norms(net):
            for part in (norm.weight, norm.bias, norm.running_mean):
                part.add_(torch.randn_like(part), alpha=0.3)
            norm.running_var.add_(torch.rand_like(norm.running_var))
    state = {f"loss.discriminator.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"state_dict": {"decoder.conv_out.bias": torch.zeros(3), **state}}, HERE / "discriminator.ckpt")
    net, x = net.double(), images([2, 24, 29, 3], "image").requires_grad_()
    evaluated = net.eval()(x)
    logits = net.train()(x)
    (-logits.mean()).backward()
    gradients = {
        name: number(layout(p.grad)) for name, (p, layout) in discriminator_table(net, "").items() if p.dim() == 1
    }
    return {
        "evaluated": number(evaluated.permute(0, 2, 3, 1)),
        "logits": number(logits.permute(0, 2, 3, 1)),
        "statistics": statistics(net),
        "gradientImage": number(x.grad.permute(0, 2, 3, 1)),
        "gradients": gradients,
    }


def loss_case():
    out = {}
    for name, loss in (("hinge", hinge), ("vanilla", vanilla)):
        real, fake = wave([2, 3, 2, 1], "real", 2.5).requires_grad_(), wave([2, 3, 2, 1], "fake", 2.5).requires_grad_()
        value = loss(real, fake)
        value.backward()
        out[name] = {"value": value.item(), "real": number(real.grad), "fake": number(fake.grad)}
    g = wave([3, 4], "g")
    scales = [(1.0, 1.0), (5.0, 0.01), (1.0, 0.0), (0.0, 1.0), (1e3, 1e-6)]
    out["adaptive"] = [[a, b, adaptive(a * g, b * g).item()] for a, b in scales]
    return out


def set_adam(optimizer, rows, steps, path, scale):
    """Running means as after `steps` updates, of the size of the gradients, so that these count in the next update."""
    for name, (p, layout) in rows.items():
        shape = list(layout(p).shape)
        first = wave(shape, f"{path}.first.{name}", 0.5 * scale)
        second = wave(shape, f"{path}.second.{name}", 0.4 * scale**2, 0.6 * scale**2)
        optimizer.state[p] = {"step": torch.tensor(float(steps))}
        for key, value in (("exp_avg", first), ("exp_avg_sq", second)):
            if p.dim() == 4:
                o, i, h, w = p.shape
                value = value.reshape(h, w, i, o).permute(3, 2, 0, 1)
            elif layout is torch.t:
                value = value.t()
            optimizer.state[p][key] = value.contiguous()


LEARNING_RATE, DISCRIMINATOR_RATE, WEIGHT, FACTOR = 0.01, 0.02, 0.5, 0.8
SCALE, DISCRIMINATOR_SCALE = 100.0, 0.1


def step_case():
    """SVG with a masked image, L1 and LPIPS summed over an image's values, hinge loss, both of Adam's third updates."""
    decoder = fill(Decoder(9, [8, 4], 1, 0, out=12), "decoder.")
    residual = fill(Residual(16, 4, 8, 1, 2, 16, 3), "residual.")
    residual.maskToken = nn.Parameter(weights("residual.maskToken", [1, 1, 3]))
    critic = Discriminator(3, 2)
    fill_discriminator(critic, "discriminator.")
    unit, features = 0.5 + 0.5 * images([2, 16, 16, 3], "image"), wave([2, 16, 6], "features")
    dino = (unit - torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).reshape(1, 3, 1, 1)
    signed = 2 * unit - 1

    mask = torch.tensor([1.0, 0.0]).reshape(2, 1, 1)
    r = residual(dino) * (1 - mask) + residual.maskToken * mask
    aligned = align(r.transpose(1, 2), features.transpose(1, 2))
    z = torch.cat([features.transpose(1, 2), aligned], 1).reshape(2, 9, 4, 4)
    blocks = decoder(z).reshape(2, 2, 2, 3, 8, 8)  # [B, row, column, C, H / 2, W / 2]
    image = blocks.permute(0, 3, 4, 1, 5, 2).reshape(2, 3, 16, 16)

    trunk, heads = torch.load(LPIPS / "vgg16-397923af.pth"), torch.load(LPIPS / "vgg.pth")
    values = (signed - image).abs() + lpips(signed, image, VGG, trunk, heads).reshape(2, 1, 1, 1)
    nll = values.sum() / 2
    critic.train()
    g = -critic(image).mean()
    last = decoder.convOut.weight
    at_last = [torch.autograd.grad(loss, last, retain_graph=True)[0] for loss in (nll, g)]
    weight = adaptive(*at_last).detach() * WEIGHT
    loss = nll + weight * FACTOR * g

    rows = table(decoder, "decoder.") | table(residual, "residual.")
    critic_rows = discriminator_table(critic, "")
    betas = (0.5, 0.9)
    generator_adam = torch.optim.Adam([p for p, _ in rows.values()], LEARNING_RATE, betas)
    critic_adam = torch.optim.Adam([p for p, _ in critic_rows.values()], DISCRIMINATOR_RATE, betas)
    set_adam(generator_adam, rows, 2, "generator", SCALE)
    set_adam(critic_adam, critic_rows, 2, "discriminator", DISCRIMINATOR_SCALE)

    generator_adam.zero_grad()
    loss.backward()
    norm = torch.sqrt(sum((p.grad**2).sum() for p, _ in rows.values()))
    generator_adam.step()
    real, fake = critic(signed), critic(image.detach())
    d = FACTOR * hinge(real, fake)
    critic_adam.zero_grad()
    d.backward()
    critic_norm = torch.sqrt(sum((p.grad**2).sum() for p, _ in critic_rows.values()))
    critic_adam.step()
    moved = lambda rows: {name: number(layout(p)) for name, (p, layout) in rows.items()}
    first = lambda adam, rows: {name: number(layout(adam.state[p]["exp_avg"])) for name, (p, layout) in rows.items()}
    return {
        "metrics": {
            "loss": loss.item(), "reconstruction": nll.item(), "adversarialLoss": g.item(),
            "adversarialWeight": weight.item(), "gradientNorm": norm.item(), "discriminatorLoss": d.item(),
            "logitsReal": real.mean().item(), "logitsFake": fake.mean().item(),
            "discriminatorGradientNorm": critic_norm.item(),
        },
        "params": moved(rows), "discriminator": moved(critic_rows), "statistics": statistics(critic),
        "discriminatorFirst": first(critic_adam, critic_rows),
        "last": number(hwio(generator_adam.state[last]["exp_avg"])),
        "token": number(generator_adam.state[residual.maskToken]["exp_avg"]),
        "learningRate": LEARNING_RATE, "discriminatorRate": DISCRIMINATOR_RATE, "weight": WEIGHT, "factor": FACTOR,
        "scale": SCALE, "discriminatorScale": DISCRIMINATOR_SCALE,
    }


def main():
    out = {
        "torch": torch.__version__,
        "count": sum(p.numel() for p in Discriminator(64, 3).parameters()),
        "forward": forward_case(),
        "losses": loss_case(),
        "step": step_case(),
    }
    (HERE / "adversarial.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
