"""Writes io_images.json: small images of many kinds, and what Pillow's Image.open(...).convert("RGB") makes of them.

By name: [file as base64, width, height, RGB as base64]. "grey16" is the one exception: Pillow before 10.3 saturates
16-bit grey instead of scaling it, so its pixels are the upper bytes, which is what later versions give.
Run: /usr/bin/python3 tests/golden/io_images.py   (Pillow 9.4.0 with libjpeg-turbo 2.1.5, Python 3.11)
"""

import base64
import io
import json
import pathlib
import struct
import zlib

from PIL import Image, ImageCms

W, H = 24, 20
rgb = Image.new("RGB", (W, H))
rgb.putdata([((x * 11) % 256, (y * 13) % 256, (x * y * 3) % 256) for y in range(H) for x in range(W)])
alpha = Image.new("L", (W, H))
alpha.putdata([(x * 10 + y) % 256 for y in range(H) for x in range(W)])
grey = rgb.convert("L")
cases = {}


def b64(data):
    return base64.b64encode(data).decode()


def add(name, data, expected=None):
    image = Image.open(io.BytesIO(data))
    image = image.convert("RGB")
    cases[name] = [b64(data), *image.size, b64(expected if expected is not None else image.tobytes())]


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png(colour, depth, rows, extra=b"", interlace=0):
    """A PNG by hand, of kinds that Pillow does not write."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", W, H, depth, colour, 0, 0, interlace)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def trns(body):
    return struct.pack(">I", len(body)) + b"tRNS" + body + struct.pack(">I", zlib.crc32(b"tRNS" + body))


def deep(channels):
    return [
        [[(x * 2711 + y * 331 + c * 9973) % 65536 for c in range(channels)] for x in range(W)] for y in range(H)
    ]


def big_endian(rows):
    return [b"".join(struct.pack(">H", v) for pixel in row for v in pixel) for row in rows]


rgba = rgb.copy()
rgba.putalpha(alpha)
palette = rgb.quantize(16)
add("rgb", saved(rgb, "PNG"))
add("grey", saved(grey, "PNG"))
add("grey1", saved(grey.convert("1"), "PNG"))
add("grey_alpha", saved(Image.merge("LA", (grey, alpha)), "PNG"))
add("rgba", saved(rgba, "PNG"))
add("palette", saved(palette, "PNG"))
add("palette_transparent", saved(palette, "PNG", transparency=3))
add("palette_alphas", saved(palette, "PNG", transparency=bytes(range(0, 160, 10))))
add("rgb_key", png(2, 8, [rgb.tobytes()[y * W * 3 : (y + 1) * W * 3] for y in range(H)], trns(struct.pack(">HHH", 0, 0, 0))))
rows = deep(3)
add("rgb16", png(2, 16, big_endian(rows)))
rows = deep(4)
add("rgba16", png(6, 16, big_endian(rows)))
rows = deep(1)
add("grey16", png(0, 16, big_endian(rows)), bytes(v >> 8 for row in rows for (v,) in row for _ in range(3)))
add("pixel", saved(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG"))

add("jpeg", saved(rgb, "JPEG", quality=80))
add("jpeg_progressive", saved(rgb, "JPEG", quality=90, progressive=True, subsampling=0))
add("jpeg_grey", saved(grey, "JPEG"))
cmyk = Image.new("CMYK", (W, H))
cmyk.putdata([(x * 10, y * 12, (x + y) * 5, (x * y) % 200) for y in range(H) for x in range(W)])
add("jpeg_cmyk", saved(cmyk, "JPEG", quality=95))
exif = Image.Exif()
exif[0x0112] = 6  # "rotate by 90 degrees"
add("jpeg_exif_rotated", saved(rgb, "JPEG", exif=exif, quality=90))
profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
at = profile.index(b"para") + 12
assert struct.unpack(">i", profile[at : at + 4])[0] == round(2.4 * 65536)
profile[at : at + 4] = struct.pack(">i", round(1.2 * 65536))  # much brighter than sRGB
add("png_profile", saved(rgb, "PNG", icc_profile=bytes(profile)))
add("jpeg_profile", saved(rgb, "JPEG", quality=90, icc_profile=bytes(profile)))

other = rgb.transpose(Image.Transpose.ROTATE_180)
add("gif", saved(palette, "GIF"))
add("gif_animated", saved(palette, "GIF", save_all=True, append_images=[other.quantize(16)], duration=100))
add("webp", saved(rgb, "WEBP", lossless=True))
add("webp_alpha", saved(rgba, "WEBP", lossless=True, exact=True))
add("webp_lossy", saved(rgb, "WEBP", quality=80))
add("webp_animated", saved(rgb, "WEBP", save_all=True, append_images=[other], duration=100, lossless=True))
add("tiff", saved(rgb, "TIFF", compression="tiff_lzw"))
add("tiff_cmyk", saved(cmyk, "TIFF"))

path = pathlib.Path(__file__).with_suffix(".json")
lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items())
path.write_text("{\n" + lines + "\n}\n")
print(path, path.stat().st_size, len(cases))
