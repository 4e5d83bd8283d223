/**
 * Where rays meet simple surfaces: the parts that the solids are made of.
 *
 * Rays are `origin + t · direction` with a direction of any length, so `t` survives scaling and rotation.
 *
 * @module
 */

/** Hits nearer than this are the surface a ray starts from. */
export const NEAREST = 1e-4;

/** Stands for 0 in divisors, so that a ray along an axis gives large numbers instead of NaN. */
export const TINY = 1e-200;

/**
 * The first `t` beyond {@link NEAREST} at which a ray (origin x, y, z, direction x, y, z) meets a surface, or Infinity.
 * The ray is an array because V8 would box six numbers at each call of a function it cannot know.
 */
export type Intersect = (ray: Float64Array) => number;

/** One solid. */
export interface Solid {
  /** Radius of a sphere about the origin that holds the solid. */
  readonly radius: number;
  /** Whether the solid cannot cast a shadow on itself. */
  readonly convex: boolean;
  /** Lean towards the camera that shows the solid at its best, in radians. */
  readonly lean: number;
  readonly intersect: Intersect;
  /** Writes the outward unit normal at a surface point; call it right after `intersect` found that point. */
  readonly normal: (x: number, y: number, z: number, out: Float64Array) => void;
  /** The reach in a unit direction: max over the solid's points p of p · direction. */
  readonly support: (dx: number, dy: number, dz: number) => number;
}

/** Writes (x, y, z) scaled to length 1. */
export function setNormal(out: Float64Array, x: number, y: number, z: number): void {
  const inverse = 1 / Math.sqrt(x * x + y * y + z * z);
  out[0] = x * inverse;
  out[1] = y * inverse;
  out[2] = z * inverse;
}

/** Nearest hit with a sphere about the origin from outside. */
export function hitSphere(
  ox: number,
  oy: number,
  oz: number,
  dx: number,
  dy: number,
  dz: number,
  radius: number,
): number {
  const a = dx * dx + dy * dy + dz * dz, b = ox * dx + oy * dy + oz * dz;
  const discriminant = b * b - a * (ox * ox + oy * oy + oz * oz - radius * radius);
  if (discriminant < 0) return Infinity;
  const t = (-b - Math.sqrt(discriminant)) / a;
  return t > NEAREST ? t : Infinity;
}

/** Nearest entry into an axis-aligned box about the origin. */
export function hitBox(
  ox: number,
  oy: number,
  oz: number,
  dx: number,
  dy: number,
  dz: number,
  hx: number,
  hy: number,
  hz: number,
): number {
  const ix = 1 / (dx || TINY), iy = 1 / (dy || TINY), iz = 1 / (dz || TINY);
  const kx = Math.abs(ix) * hx, ky = Math.abs(iy) * hy, kz = Math.abs(iz) * hz;
  const near = Math.max(-ox * ix - kx, -oy * iy - ky, -oz * iz - kz);
  const far = Math.min(-ox * ix + kx, -oy * iy + ky, -oz * iz + kz);
  return near <= far && near > NEAREST ? near : Infinity;
}

/** Writes the normal of a box's face at a point on it. */
export function boxNormal(
  x: number,
  y: number,
  z: number,
  hx: number,
  hy: number,
  hz: number,
  out: Float64Array,
): void {
  const ax = Math.abs(x) - hx, ay = Math.abs(y) - hy, az = Math.abs(z) - hz;
  out.fill(0);
  if (ax >= ay && ax >= az) out[0] = Math.sign(x);
  else if (ay >= az) out[1] = Math.sign(y);
  else out[2] = Math.sign(z);
}

/** A convex solid bounded by planes `[nx, ny, nz, offset]` (n · p ≤ offset), with its corners for the reach. */
export function polyhedron(
  planes: readonly (readonly number[])[],
  corners: readonly (readonly number[])[],
): Solid {
  const flat = Float64Array.from(planes.flatMap(([x, y, z, w]) => {
    const length = Math.hypot(x, y, z);
    return [x / length, y / length, z / length, w / length];
  }));
  return {
    radius: Math.max(...corners.map(([x, y, z]) => Math.hypot(x, y, z))),
    convex: true,
    lean: 0,
    intersect(ray) {
      const ox = ray[0], oy = ray[1], oz = ray[2], dx = ray[3], dy = ray[4], dz = ray[5];
      let near = -Infinity, far = Infinity;
      for (let i = 0; i < flat.length; i += 4) {
        const gap = flat[i + 3] - (flat[i] * ox + flat[i + 1] * oy + flat[i + 2] * oz);
        const t = gap / (flat[i] * dx + flat[i + 1] * dy + flat[i + 2] * dz);
        // Outside this plane and moving away (t ≤ 0) is a miss; a positive t there is an entry.
        if (gap < 0) {
          if (t < 0) return Infinity;
          if (t > near) near = t;
        } else if (t > 0 && t < far) far = t;
      }
      return near <= far && near > NEAREST ? near : Infinity;
    },
    normal(x, y, z, out) {
      let best = 0, highest = -Infinity;
      for (let i = 0; i < flat.length; i += 4) {
        const value = flat[i] * x + flat[i + 1] * y + flat[i + 2] * z - flat[i + 3];
        if (value > highest) [highest, best] = [value, i];
      }
      out.set(flat.subarray(best, best + 3));
    },
    support: (dx, dy, dz) => Math.max(...corners.map(([x, y, z]) => x * dx + y * dy + z * dz)),
  };
}
