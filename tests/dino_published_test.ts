/**
 * Published weights against the values that their publishers checked them with. They are a download under a licence
 * of its own, so these tests run where `NOVAE_WEIGHTS` names a folder that holds, as on Hugging Face, e.g.
 * `dinov3-vits16plus-pretrain-lvd1689m/model.safetensors`, and COCO's `000000039769.jpg`. Unlike programs that are
 * missing, weights that are missing are no failure under `NOVAE_REQUIRE_ALL=1` unless `NOVAE_WEIGHTS` is set.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { DinoEncoder, weightSource } from "novae/dino/mod.ts";
import { decodeImage, pathExists, readJson, readSafetensors } from "novae/io/mod.ts";
import { float32, type HostTensor } from "novae/tensor/mod.ts";

const FOLDER = Deno.env.get("NOVAE_WEIGHTS");
const REQUIRED = FOLDER !== undefined && Deno.env.get("NOVAE_REQUIRE_ALL") === "1";
const IMAGE = "000000039769.jpg";

/**
 * First values of class token and first patch token. *Source*: `convert_dinov3_vit_to_hf.py` of Hugging Face's
 * transformers, with its tolerance and its preprocessing: pixels in [0, 1], antialiased bilinear to 224×224.
 */
const EXPECTED: Record<string, { cls: number[]; patch: number[] }> = {
  "dinov3-vits16-pretrain-lvd1689m": {
    cls: [0.463561, -0.415609, 0.408236, -0.126613, -0.286636],
    patch: [-0.038754, -0.250895, -0.016392, -0.455473, 0.571582],
  },
  "dinov3-vits16plus-pretrain-lvd1689m": {
    cls: [-0.471349, -1.365778, -0.317983, 0.377219, -0.769085],
    patch: [0.144551, -0.388117, -0.393433, -0.157695, -0.600380],
  },
  "dinov3-vitb16-pretrain-lvd1689m": {
    cls: [1.034643, -0.180609, -0.341018, -0.066376, -0.011383],
    patch: [-0.082523, -0.456272, -0.728029, -0.430680, -0.152880],
  },
};
const TOLERANCE = 1e-3;

for (const [name, { cls, patch }] of Object.entries(EXPECTED)) {
  const missing = await missingFor(name);
  if (missing !== undefined && !REQUIRED) console.warn(`Skipping the published ${name}: ${missing}`);
  Deno.test({
    name: `the published ${name} gives the values of its publishers`,
    ignore: missing !== undefined && !REQUIRED,
    fn: async () => {
      assert.ok(missing === undefined, missing ?? "");
      const { tensors } = await readSafetensors(join(FOLDER!, name, "model.safetensors"));
      const settings = join(FOLDER!, name, "config.json");
      const transformersConfig = await pathExists(settings) ? await readJson(settings) : undefined;
      const encoder = await DinoEncoder.fromPretrained(weightSource(tensors), {
        transformersConfig,
        device: "cpu",
        name,
      });
      const { clsBD, patchesBND } = await encoder.features(await readImage(join(FOLDER!, IMAGE), 224));
      assertNear("class token", clsBD.data, cls);
      assertNear("first patch token", patchesBND.data, patch);
      await encoder.dispose();
    },
  });
}

Deno.test("images are made smaller as by PyTorch's antialiased bilinear interpolation", () => {
  // torch.nn.functional.interpolate(torch.tensor([[[0., 1, 4, 9, 16, 25, 36]]])[..., None, :], (1, 3),
  // mode="bilinear", antialias=True), PyTorch 2.13.0
  const image = float32([0, 1, 4, 9, 16, 25, 36].flatMap((v) => [v, v, v]), [1, 7, 3]);
  assertNear(
    "row",
    resizedAlong(image, 1, 3).data.filter((_, i) => i % 3 === 0),
    [1.285714, 9.941177, 27],
    1e-5,
  );
});

async function missingFor(name: string): Promise<string | undefined> {
  if (FOLDER === undefined) return "NOVAE_WEIGHTS names no folder of weights";
  for (const path of [join(FOLDER, name, "model.safetensors"), join(FOLDER, IMAGE)]) {
    if (!await pathExists(path)) return `there is no ${path}`;
  }
}

function assertNear(
  what: string,
  got: ArrayLike<number>,
  wanted: readonly number[],
  tolerance = TOLERANCE,
): void {
  wanted.forEach((value, i) =>
    assert.ok(Math.abs(got[i] - value) <= tolerance, `${what}[${i}]: wanted ${value}, got ${got[i]}`)
  );
}

async function readImage(path: string, size: number): Promise<HostTensor> {
  const { width, height, data } = await decodeImage(path);
  const unit = float32(Float32Array.from(data, (value) => value / 255), [height, width, 3]);
  const resized = resizedAlong(resizedAlong(unit, 1, size), 0, size);
  return float32(resized.data as Float32Array, [1, size, size, 3]);
}

/** An image [H, W, 3] with another extent along one axis, by a triangle as wide as two pixels of the result. */
function resizedAlong({ shape, data }: HostTensor, axis: 0 | 1, size: number): HostTensor {
  const [height, width] = shape, from = shape[axis], step = from / size, reach = Math.max(step, 1);
  const result = axis === 0 ? [size, width, 3] : [height, size, 3];
  const out = new Float32Array(result[0] * result[1] * 3);
  for (let i = 0; i < size; i++) {
    const centre = (i + 0.5) * step;
    const weights = Array.from(
      { length: from },
      (_, j) => Math.max(0, 1 - Math.abs(j + 0.5 - centre) / reach),
    );
    const sum = weights.reduce((total, weight) => total + weight, 0);
    weights.forEach((weight, j) => {
      if (weight === 0) return;
      for (let other = 0; other < (axis === 0 ? width : height); other++) {
        const [to, at] = axis === 0
          ? [i * width + other, j * width + other]
          : [other * size + i, other * width + j];
        for (let c = 0; c < 3; c++) out[to * 3 + c] += weight / sum * data[at * 3 + c];
      }
    });
  }
  return float32(out, result);
}
