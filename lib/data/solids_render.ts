/**
 * Renders `solids` images: ray casting with four samples a pixel, diffuse and specular light, soft shadows and
 * contact darkening, and exact labels from the ray through each pixel's centre.
 *
 * @module
 */
import { type SolidsFactors, type SolidsSplit, solidsViewFactors } from "./solids_factors.ts";
import { floorShade, type PatternAt, surfacePattern, wallShade } from "./solids_pattern.ts";
import { buildScene, CAMERA_DISTANCE, FRAME_HALF, type Scene } from "./solids_scene.ts";

/** Values of the segmentation mask. */
export const SOLIDS_MASK = { wall: 0, floor: 1, solid: 2 } as const;

/** Depth is stored in steps of this many world units. */
export const DEPTH_STEP = 1 / 4096;

/** The buffers that an image is rendered into, each at its own offset. */
export interface RenderTarget {
  /** sRGB bytes, [H, W, 3]. */
  readonly pixels: Uint8Array;
  /** {@link SOLIDS_MASK} values, [H, W]. */
  readonly mask: Uint8Array;
  /** Distance along the camera's axis in steps of {@link DEPTH_STEP}, [H, W]. */
  readonly depth: Uint16Array;
}

// Rotated-grid sample places within a pixel, relative to its centre.
const SAMPLE_X = [-0.125, 0.375, -0.375, 0.125];
const SAMPLE_Y = [-0.375, -0.125, 0.125, 0.375];

const TONE_STEPS = 4096, TONE_RANGE = 2;

/** Linear light to sRGB bytes with a soft shoulder above 0.7, tabulated. */
const TONE = Uint8Array.from({ length: TONE_STEPS }, (_, i) => {
  const light = i * TONE_RANGE / TONE_STEPS;
  const soft = light < 0.7 ? light : 0.7 + 0.3 * (1 - Math.exp(-(light - 0.7) / 0.3));
  return Math.round(255 * soft ** (1 / 2.2));
});

/**
 * Renders image `index` of a stream.
 *
 * @param imageSize height and width in pixels.
 * @param target buffers of exactly one image.
 * @param view which picture of the image's solid; 0, the image itself, if omitted.
 */
export function renderSolid(
  seed: number,
  split: SolidsSplit,
  index: number,
  imageSize: number,
  target: RenderTarget,
  view = 0,
): void {
  new Renderer(buildScene(solidsViewFactors(seed, split, index, view)), imageSize).render(target);
}

/** What is to be rendered: `count` images of a stream from `start` on. */
export interface RenderRequest {
  readonly seed: number;
  readonly split: SolidsSplit;
  readonly start: number;
  readonly count: number;
  readonly imageSize: number;
  /** Which picture of each solid; 0 if omitted. */
  readonly view?: number;
}

/** Rendered images one after another, as in {@link RenderTarget}. */
export interface RenderedRange {
  readonly start: number;
  readonly pixels: Uint8Array<ArrayBuffer>;
  readonly mask: Uint8Array<ArrayBuffer>;
  readonly depth: Uint16Array<ArrayBuffer>;
}

/** Renders a range of images into new buffers. */
export function renderRange({ seed, split, start, count, imageSize, view }: RenderRequest): RenderedRange {
  const area = imageSize * imageSize;
  const pixels = new Uint8Array(count * area * 3), mask = new Uint8Array(count * area);
  const depth = new Uint16Array(count * area);
  for (let i = 0; i < count; i++) {
    const target = {
      pixels: pixels.subarray(i * area * 3, (i + 1) * area * 3),
      mask: mask.subarray(i * area, (i + 1) * area),
      depth: depth.subarray(i * area, (i + 1) * area),
    };
    renderSolid(seed, split, start + i, imageSize, target, view);
  }
  return { start, pixels, mask, depth };
}

/** One scene and the state of the ray in hand; fields instead of returned objects keep the inner loops quick. */
class Renderer {
  readonly #scene: Scene;
  readonly #factors: SolidsFactors;
  readonly #size: number;
  readonly #inverseRotation: Float64Array;
  readonly #pattern: PatternAt;
  readonly #radius2: number;
  readonly #normal = new Float64Array(3);
  readonly #color = new Float64Array(3);
  /** Direction (x, y, z) of the ray in hand and the `t` of what it meets. */
  readonly #ray = new Float64Array(4);
  /** A ray in the solid's own space. */
  readonly #local = new Float64Array(6);
  /** Eye, right, up and forward, [4, 3]. */
  readonly #camera: Float64Array;
  /** Width of a pixel at distance 1. */
  readonly #pixel: number;
  readonly #wallDistance: number;
  #mask = 0;

  constructor(scene: Scene, size: number) {
    this.#scene = scene;
    this.#factors = scene.factors;
    this.#size = size;
    this.#pixel = 2 * FRAME_HALF / CAMERA_DISTANCE / size;
    this.#wallDistance = scene.factors.wallDistance;
    const r = scene.rotation, k = 1 / scene.factors.size;
    this.#inverseRotation = Float64Array.of(r[0], r[3], r[6], r[1], r[4], r[7], r[2], r[5], r[8])
      .map((v) => v * k);
    this.#camera = Float64Array.of(...scene.eye, ...scene.right, ...scene.up, ...scene.forward);
    this.#pattern = surfacePattern(scene.factors);
    this.#radius2 = (scene.solid.radius * scene.factors.size) ** 2;
  }

  render({ pixels, mask, depth }: RenderTarget): void {
    const size = this.#size, color = this.#color;
    for (let row = 0, i = 0; row < size; row++) {
      for (let column = 0; column < size; column++, i++) {
        this.#cast(column + 0.5, row + 0.5);
        mask[i] = this.#mask;
        depth[i] = Math.min(65535, Math.round(this.#ray[3] / DEPTH_STEP));
        color.fill(0);
        for (let s = 0; s < 4; s++) {
          this.#cast(column + 0.5 + SAMPLE_X[s], row + 0.5 + SAMPLE_Y[s]);
          this.#shade(s);
        }
        for (let c = 0; c < 3; c++) pixels[3 * i + c] = toneMap(color[c] * 0.25);
      }
    }
  }

  /** Finds what the ray through a place of the picture meets; its direction has length 1 along the camera's axis. */
  #cast(column: number, row: number): void {
    const camera = this.#camera, ray = this.#ray;
    const scale = this.#pixel, half = this.#size / 2;
    const px = (column - half) * scale, py = (half - row) * scale;
    const dx = ray[0] = camera[9] + px * camera[3] + py * camera[6];
    const dy = ray[1] = camera[10] + px * camera[4] + py * camera[7];
    const dz = ray[2] = camera[11] + px * camera[5] + py * camera[8];
    const floor = -camera[1] / dy, wall = (-this.#wallDistance - camera[2]) / dz;
    // A ray that rises or runs away from the wall meets only the other of the two.
    const onFloor = floor > 0 && (floor < wall || wall < 0), background = onFloor ? floor : wall;
    const solid = this.#hitSolid(camera[0], camera[1], camera[2], dx, dy, dz);
    ray[3] = Math.min(solid, background);
    this.#mask = solid < background ? SOLIDS_MASK.solid : onFloor ? SOLIDS_MASK.floor : SOLIDS_MASK.wall;
  }

  /** The `t` at which a world-space ray meets the solid. */
  #hitSolid(ox: number, oy: number, oz: number, dx: number, dy: number, dz: number): number {
    const cy = oy - this.#scene.centreY;
    const along = ox * dx + cy * dy + oz * dz, d2 = dx * dx + dy * dy + dz * dz;
    const gap = ox * ox + cy * cy + oz * oz - this.#radius2;
    if (along * along < d2 * gap || (along > 0 && gap > 0)) return Infinity;
    const m = this.#inverseRotation, local = this.#local;
    local[0] = m[0] * ox + m[1] * cy + m[2] * oz;
    local[1] = m[3] * ox + m[4] * cy + m[5] * oz;
    local[2] = m[6] * ox + m[7] * cy + m[8] * oz;
    local[3] = m[0] * dx + m[1] * dy + m[2] * dz;
    local[4] = m[3] * dx + m[4] * dy + m[5] * dz;
    local[5] = m[6] * dx + m[7] * dy + m[8] * dz;
    return this.#scene.solid.intersect(local);
  }

  /** Adds the light that comes back along the ray; sample s sees the s-th point of the light. */
  #shade(s: number): void {
    const camera = this.#camera, ray = this.#ray, t = ray[3];
    const x = camera[0] + t * ray[0], y = camera[1] + t * ray[1], z = camera[2] + t * ray[2];
    if (this.#mask === SOLIDS_MASK.solid) this.#shadeSolid(x, y, z, s);
    else this.#shadeRoom(x, y, z, s);
  }

  #shadeRoom(x: number, y: number, z: number, s: number): void {
    const { lights, lightColor, ambient, centreY, floor, wall } = this.#scene;
    const onFloor = this.#mask === SOLIDS_MASK.floor;
    const lx = lights[3 * s] - x, ly = lights[3 * s + 1] - y, lz = lights[3 * s + 2] - z;
    const l2 = lx * lx + ly * ly + lz * lz, facing = Math.max(0, onFloor ? ly : lz) / Math.sqrt(l2);
    // The room darkens with the distance from the light, twice as fast as in nature: 9 is the light's distance.
    const near = 81 / l2;
    const lit = this.#hitSolid(x, y, z, lx, ly, lz) < 1 ? 0 : facing * Math.min(1.6, near * near);
    const cy = centreY - y, d2 = x * x + cy * cy + z * z, d = Math.sqrt(d2);
    const toward = onFloor ? cy / d : Math.max(0, z + this.#wallDistance) / d;
    const solidSide = onFloor ? toward : -z / d;
    const open = 1 - 0.75 * Math.min(1, Math.max(0, solidSide) * 0.7 * this.#radius2 / d2);
    const albedo = onFloor ? floor : wall;
    const shade = onFloor
      ? floorShade(this.#factors.floorPattern, x, z)
      : wallShade(this.#factors.wallPattern, x);
    for (let c = 0; c < 3; c++) {
      this.#color[c] += albedo[c] * shade * (ambient[c] * open + lightColor[c] * lit);
    }
  }

  #shadeSolid(x: number, y: number, z: number, s: number): void {
    const r = this.#scene.rotation, m = this.#inverseRotation;
    const { centreY, solid, lights, lightColor, ambient, base, accent, floor } = this.#scene;
    const cy = y - centreY;
    const px = m[0] * x + m[1] * cy + m[2] * z, py = m[3] * x + m[4] * cy + m[5] * z;
    const pz = m[6] * x + m[7] * cy + m[8] * z;
    const n = this.#normal;
    solid.normal(px, py, pz, n);
    const albedo = this.#pattern(px, py, pz) ? accent : base;
    const nx = r[0] * n[0] + r[1] * n[1] + r[2] * n[2], ny = r[3] * n[0] + r[4] * n[1] + r[5] * n[2];
    const nz = r[6] * n[0] + r[7] * n[1] + r[8] * n[2];
    let lx = lights[3 * s] - x, ly = lights[3 * s + 1] - y, lz = lights[3 * s + 2] - z;
    const facing = lx * nx + ly * ny + lz * nz, length = 1 / Math.sqrt(lx * lx + ly * ly + lz * lz);
    const e = 2e-3;
    const lit = facing > 0 &&
      (solid.convex || !(this.#hitSolid(x + e * nx, y + e * ny, z + e * nz, lx, ly, lz) < 1));
    lx *= length;
    ly *= length;
    lz *= length;
    const diffuse = lit ? facing * length : 0, shine = lit ? this.#shine(nx, ny, nz, lx, ly, lz) : 0;
    const sky = 0.5 + 0.5 * ny, open = 0.55 + 0.45 * Math.min(1, Math.max(0, y / 0.8));
    for (let c = 0; c < 3; c++) {
      const around = open * (ambient[c] * (0.45 + 0.85 * sky) + 0.25 * floor[c] * (1 - sky));
      this.#color[c] += albedo[c] * (around + 0.85 * lightColor[c] * diffuse) + 0.35 * lightColor[c] * shine;
    }
  }

  /** Blinn's highlight: (n · h)^32 by repeated squaring. */
  #shine(nx: number, ny: number, nz: number, lx: number, ly: number, lz: number): number {
    const dx = this.#ray[0], dy = this.#ray[1], dz = this.#ray[2];
    const k = -1 / Math.sqrt(dx * dx + dy * dy + dz * dz);
    const hx = lx + k * dx, hy = ly + k * dy, hz = lz + k * dz;
    let power = Math.max(0, (nx * hx + ny * hy + nz * hz) / Math.sqrt(hx * hx + hy * hy + hz * hz));
    for (let i = 0; i < 5; i++) power *= power;
    return power;
  }
}

function toneMap(light: number): number {
  return TONE[Math.min(TONE_STEPS - 1, Math.floor(light * (TONE_STEPS / TONE_RANGE)))];
}
