"""Golden values of VA-VAE: its two losses, and a whole training loss with the adaptive weight, with gradients.

The losses are written after arXiv 2501.01423 and the published training (hustvl/LightningDiT): latents are projected
without bias, vectors compared by cosines. Weights and inputs are the sines of autoencoder.py, whose encoder and decoder
are used.

Run: python3 tests/golden/va_vae.py > tests/golden/va_vae.json   (PyTorch 2.13.0, CPU, float64)
"""
import json

import torch
import torch.nn as nn
import torch.nn.functional as F

from autoencoder import Decoder, Encoder, fill, images, number, wave, weights


def matching(z, features, cosine_margin, distance_margin):
    """Projected latents and features [B, N, D]."""
    near = F.relu(1 - cosine_margin - F.cosine_similarity(features, z, dim=-1)).mean()
    gram = lambda x: (n := F.normalize(x, dim=-1)) @ n.transpose(1, 2)
    return near + F.relu((gram(z) - gram(features)).abs() - distance_margin).mean()


def losses(cosine_margin, distance_margin):
    z, w = wave([2, 6, 4], "z").requires_grad_(), weights("projection", [4, 5]).requires_grad_()
    loss = matching(z @ w, wave([2, 6, 5], "f"), cosine_margin, distance_margin)
    loss.backward()
    return {"loss": loss.item(), "gradZ": number(z.grad), "gradProjection": number(w.grad)}


def training(weight, cosine_margin, distance_margin, kl_weight):
    """L1 and twice the squared difference, averaged; KL summed over an image and divided by its number of values."""
    encoder, decoder = fill(Encoder(3, [8, 12], 1, 1), "encoder."), fill(Decoder(3, [12, 8], 1, 1), "decoder.")
    projection = nn.Parameter(weights("projection", [3, 5]))
    image = images([2, 8, 8, 3], "x")
    mean, logvar = encoder(image).chunk(2, 1)
    logvar = logvar.clamp(-30, 20)
    z = mean + (logvar / 2).exp() * images([2, 4, 4, 3], "noise")
    difference = decoder(z) - image
    reconstruction = difference.abs().mean() + 2 * (difference**2).mean()
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum() / len(image)
    distance = matching(z.flatten(2).transpose(1, 2) @ projection, wave([2, 16, 5], "f"), cosine_margin, distance_margin)
    last = encoder.convOut.weight
    norm = lambda loss: torch.autograd.grad(loss, last, retain_graph=True)[0].norm()
    adaptive = (weight * (norm(reconstruction) / (norm(distance) + 1e-4)).clamp(0, 1e8)).detach()
    loss = reconstruction + kl_weight * kl / (8 * 8 * 3) + adaptive * distance
    loss.backward()
    hwio = lambda m: number(m.weight.grad.permute(2, 3, 1, 0))
    return {
        "loss": loss.item(), "reconstruction": reconstruction.item(), "kl": kl.item(), "matching": distance.item(),
        "matchingWeight": adaptive.item(), "gradProjection": number(projection.grad),
        "gradEncoderIn": hwio(encoder.convIn), "gradEncoderOut": hwio(encoder.convOut),
        "gradDecoderIn": hwio(decoder.convIn), "gradNormOut": number(encoder.normOut.weight.grad),
    }


print(json.dumps({
    "torch": torch.__version__,
    "margins": losses(0.5, 0.25),
    "noMargins": losses(0, 0),
    "training": training(0.1, 0.5, 0.25, 1e-2),
}, separators=(",", ":")))
