/**
 * The factors of variation of the `solids` images and how they are drawn.
 *
 * @module
 */
import { Rng } from "novae/tensor/mod.ts";

/** The ten classes, in the order of their labels. */
export const SOLID_KINDS = [
  "sphere",
  "cube",
  "cylinder",
  "cone",
  "torus",
  "capsule",
  "octahedron",
  "pyramid",
  "beads",
  "cross",
] as const;

/** Surface patterns of the solid. */
export const SOLID_PATTERNS = ["plain", "stripes", "checks", "spots"] as const;

/** Patterns of the floor. */
export const FLOOR_PATTERNS = ["plain", "tiles", "boards"] as const;

/** Patterns of the wall. */
export const WALL_PATTERNS = ["plain", "panels"] as const;

/** One of the ten classes; `beads` is the ring of beads. */
export type SolidKind = typeof SOLID_KINDS[number];

/** One of the surface patterns. */
export type SolidPattern = typeof SOLID_PATTERNS[number];

/** One of the floor patterns. */
export type FloorPattern = typeof FLOOR_PATTERNS[number];

/** One of the wall patterns. */
export type WallPattern = typeof WALL_PATTERNS[number];

/** The two streams of images. */
export type SolidsSplit = "train" | "test";

/** Everything that decides one image; angles in radians, hues as fractions of a turn, lengths in world units. */
export interface SolidsFactors {
  /** Class, from the index: image i shows kind i mod 10. */
  readonly kind: SolidKind;
  /** Surface pattern of the solid. */
  readonly pattern: SolidPattern;
  /** Scale of the solid, 0.82 to 1.15; its bounding sphere has about this radius. */
  readonly size: number;
  /** Turn about the solid's own axis, 0 to 2π. */
  readonly yaw: number;
  /** Lean away from the upright pose, 0 to 0.5. */
  readonly tilt: number;
  /** Horizontal direction of the lean, 0 to 2π. */
  readonly tiltDirection: number;
  /** Place of the solid's centre to the right of the frame's centre, ±0.16 of half the frame's width. */
  readonly frameX: number;
  /** Place of the solid's centre above the frame's centre, ±0.16 of half the frame's width. */
  readonly frameY: number;
  /** Hue of the solid. */
  readonly hue: number;
  /** Saturation of the solid's colour (HSV), 0.55 to 0.95. */
  readonly saturation: number;
  /** Value of the solid's colour (HSV), 0.55 to 0.95. */
  readonly brightness: number;
  /** Hue of the pattern's second colour, which is light on dark solids and dark on light ones. */
  readonly accentHue: number;
  /** Periods of the pattern over a length of 1 in the solid's own space, 1.5 to 2.3. */
  readonly patternFrequency: number;
  /** Shift of the pattern in periods, 0 to 1. */
  readonly patternPhase: number;
  /** Angle between the stripes' direction and the solid's axis, ±0.8. */
  readonly patternDirection: number;
  /** Direction of the light about the vertical, relative to the camera's, ±1.2. */
  readonly lightAzimuth: number;
  /** Height of the light above the horizon, 0.6 to 1.2. */
  readonly lightElevation: number;
  /** Brightness of the light, 0.8 to 1.15. */
  readonly lightPower: number;
  /** Colour of the light from −1 (cool) to 1 (warm). */
  readonly lightWarmth: number;
  /** Direction of the camera about the vertical, ±0.5 from facing the wall. */
  readonly cameraAzimuth: number;
  /** Height of the camera above the horizon, 0.3 to 0.68. */
  readonly cameraElevation: number;
  /** Distance of the wall behind the solid's centre, 1.9 to 3.2. */
  readonly wallDistance: number;
  /** Pattern of the floor. */
  readonly floorPattern: FloorPattern;
  /** Hue of the floor. */
  readonly floorHue: number;
  /** Saturation of the floor's colour (HSV), 0.05 to 0.5. */
  readonly floorSaturation: number;
  /** Value of the floor's colour (HSV), 0.4 to 0.9. */
  readonly floorBrightness: number;
  /** Pattern of the wall. */
  readonly wallPattern: WallPattern;
  /** Hue of the wall. */
  readonly wallHue: number;
  /** Saturation of the wall's colour (HSV), 0.05 to 0.5. */
  readonly wallSaturation: number;
  /** Value of the wall's colour (HSV), 0.4 to 0.9. */
  readonly wallBrightness: number;
}

/** The label of an image: its index modulo the ten classes, so that any ten images in a row hold each class once. */
export function solidsLabel(index: number): number {
  return index % SOLID_KINDS.length;
}

/**
 * Draws the factors of another picture of the solid that an image shows: same kind and size; pose, paint, camera, light
 * and room are drawn anew.
 *
 * @param index of the image whose solid is shown, from 0.
 * @param view number of the picture; 0 is the image itself, {@link solidsFactors}.
 */
export function solidsViewFactors(
  seed: number,
  split: SolidsSplit,
  index: number,
  view: number,
): SolidsFactors {
  const own = solidsFactors(seed, split, index);
  if (view === 0) return own;
  const { kind, size } = own, rng = new Rng(seed).split("solids", split, index, "view", view);
  return { ...drawFactors(rng, kind), size };
}

/**
 * Draws the factors of one image, each uniform in its range and independent of all others.
 *
 * They depend on `(seed, split, index)` alone, so any image can be made at any time by any worker.
 *
 * @param seed any integer.
 * @param split the stream: training and test images of the same seed never share random numbers.
 * @param index of the image, from 0.
 */
export function solidsFactors(seed: number, split: SolidsSplit, index: number): SolidsFactors {
  const rng = new Rng(seed).split("solids", split, index);
  return drawFactors(rng, SOLID_KINDS[solidsLabel(index)]);
}

function drawFactors(rng: Rng, kind: SolidKind): SolidsFactors {
  const pick = <T>(list: readonly T[]): T => list[rng.int(list.length)];
  return {
    kind,
    pattern: pick(SOLID_PATTERNS),
    size: rng.range(0.82, 1.15),
    yaw: rng.range(0, 2 * Math.PI),
    tilt: rng.range(0, 0.5),
    tiltDirection: rng.range(0, 2 * Math.PI),
    frameX: rng.range(-0.16, 0.16),
    frameY: rng.range(-0.16, 0.16),
    hue: rng.next(),
    saturation: rng.range(0.55, 0.95),
    brightness: rng.range(0.55, 0.95),
    accentHue: rng.next(),
    patternFrequency: rng.range(1.5, 2.3),
    patternPhase: rng.next(),
    patternDirection: rng.range(-0.8, 0.8),
    lightAzimuth: rng.range(-1.2, 1.2),
    lightElevation: rng.range(0.6, 1.2),
    lightPower: rng.range(0.8, 1.15),
    lightWarmth: rng.range(-1, 1),
    cameraAzimuth: rng.range(-0.5, 0.5),
    cameraElevation: rng.range(0.3, 0.68),
    wallDistance: rng.range(1.9, 3.2),
    floorPattern: pick(FLOOR_PATTERNS),
    floorHue: rng.next(),
    floorSaturation: rng.range(0.05, 0.5),
    floorBrightness: rng.range(0.4, 0.9),
    wallPattern: pick(WALL_PATTERNS),
    wallHue: rng.next(),
    wallSaturation: rng.range(0.05, 0.5),
    wallBrightness: rng.range(0.4, 0.9),
  };
}
