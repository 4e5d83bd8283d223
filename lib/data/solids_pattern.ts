/**
 * Surface patterns: how much of the second colour a point shows.
 *
 * @module
 */
import type { FloorPattern, SolidsFactors, WallPattern } from "./solids_factors.ts";
import { BEAD_CENTRES, lastPart } from "./solids_geometry.ts";

const SPOT_COUNT = 34;
const SPOT_COSINE = Math.cos(0.245);
const BEAD_SCALE = 1.2;
const BOARD_TONES = Float64Array.of(1.06, 0.82, 0.94);

/** Directions spread evenly over the sphere (a Fibonacci lattice), [34, 3]. */
const SPOTS = Float64Array.from({ length: 3 * SPOT_COUNT }, (_, i) => {
  const k = Math.floor(i / 3), y = 1 - (2 * k + 1) / SPOT_COUNT, radius = Math.sqrt(1 - y * y);
  const angle = k * Math.PI * (3 - Math.sqrt(5));
  return i % 3 === 1 ? y : radius * (i % 3 === 0 ? Math.cos(angle) : Math.sin(angle));
});

/** Whether an object-space point of the solid shows the pattern's second colour. */
export type PatternAt = (x: number, y: number, z: number) => boolean;

/** The pattern of one image's solid, as a function of the surface point last found. */
export function surfacePattern(factors: SolidsFactors): PatternAt {
  const pattern = flatPattern(factors);
  if (factors.kind !== "beads") return pattern;
  // Each bead carries the pattern about its own centre, larger than life, else it would be finer than a pixel.
  return (x, y, z) => {
    const part = lastPart(), cx = BEAD_CENTRES[2 * part], cz = BEAD_CENTRES[2 * part + 1];
    return pattern((x - cx) * BEAD_SCALE, y * BEAD_SCALE, (z - cz) * BEAD_SCALE);
  };
}

function flatPattern(factors: SolidsFactors): PatternAt {
  const { patternFrequency: f, patternPhase: phase, patternDirection } = factors;
  if (factors.pattern === "plain") return () => false;
  if (factors.pattern === "stripes") {
    const sx = f * Math.sin(patternDirection), sy = f * Math.cos(patternDirection);
    return (x, y) => {
      const s = sx * x + sy * y + phase;
      return s - Math.floor(s) < 0.5;
    };
  }
  if (factors.pattern === "checks") {
    return (x, y, z) =>
      ((Math.floor(f * x + phase) + Math.floor(f * y + phase) + Math.floor(f * z + phase)) & 1) === 0;
  }
  return spots(phase);
}

/** Round caps about fixed directions from the centre, turned by the phase about the axis. */
function spots(phase: number): PatternAt {
  const cos = Math.cos(2 * Math.PI * phase), sin = Math.sin(2 * Math.PI * phase);
  return (x, y, z) => {
    const needed = SPOT_COSINE * Math.sqrt(x * x + y * y + z * z);
    const tx = cos * x + sin * z, tz = cos * z - sin * x;
    for (let i = 0; i < SPOTS.length; i += 3) {
      if (SPOTS[i] * tx + SPOTS[i + 1] * y + SPOTS[i + 2] * tz > needed) return true;
    }
    return false;
  };
}

/** The factor on the floor's colour at (x, z). */
export function floorShade(pattern: FloorPattern, x: number, z: number): number {
  if (pattern === "plain") return 1;
  if (pattern === "tiles") return ((Math.floor(x / 0.9) + Math.floor(z / 0.9)) & 1) === 0 ? 1.08 : 0.8;
  // Boards of width 0.55 along z, in three tones.
  return BOARD_TONES[((Math.floor(x / 0.55) % 3) + 3) % 3];
}

/** The factor on the wall's colour at x. */
export function wallShade(pattern: WallPattern, x: number): number {
  return pattern === "plain" || (Math.floor(x / 0.6) & 1) === 0 ? 1 : 0.86;
}
