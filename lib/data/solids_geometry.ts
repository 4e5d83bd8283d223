/**
 * The ten solids in their own space (y up, inside a sphere of about radius 1): where rays meet them, surface normals
 * and how far they reach in a direction.
 *
 * Rays are `origin + t · direction` with a direction of any length, so `t` survives scaling and rotation.
 *
 * @module
 */
import type { SolidKind } from "./solids_factors.ts";

/** Hits nearer than this are the surface a ray starts from. */
export const NEAREST = 1e-4;

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

const SPHERE_RADIUS = 0.84;
const CUBE_HALF = 0.62;
const CYLINDER = { radius: 0.58, half: 0.72 };
const CONE = { radius: 0.76, apex: 0.95, base: -0.62 };
const TORUS = { ring: 0.74, tube: 0.27 };
const CAPSULE = { half: 0.55, radius: 0.47 };
const OCTAHEDRON = 1.05;
const PYRAMID = { half: 0.76, apex: 0.95, base: -0.5 };
const BEADS = { count: 8, ring: 0.77, radius: 0.255 };
const CROSS = { long: 1, half: 0.25 };

/** Which part of a composite solid the last hit belongs to: a bead, or a bar of the cross. */
let hitPart = 0;

/** The part of a composite solid that the last `intersect` found. */
export function lastPart(): number {
  return hitPart;
}

/** Centres of the beads, [count, 2] as (x, z). */
export const BEAD_CENTRES: Float64Array = Float64Array.from({ length: 2 * BEADS.count }, (_, i) => {
  const angle = 2 * Math.PI * (i >> 1) / BEADS.count;
  return BEADS.ring * (i % 2 === 0 ? Math.cos(angle) : Math.sin(angle));
});

function setNormal(out: Float64Array, x: number, y: number, z: number): void {
  const inverse = 1 / Math.sqrt(x * x + y * y + z * z);
  out[0] = x * inverse;
  out[1] = y * inverse;
  out[2] = z * inverse;
}

/** Nearest hit with a sphere about (cx, cy, cz). */
function hitSphere(
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
function hitBox(
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
  const ix = 1 / dx, iy = 1 / dy, iz = 1 / dz;
  const kx = Math.abs(ix) * hx, ky = Math.abs(iy) * hy, kz = Math.abs(iz) * hz;
  const near = Math.max(-ox * ix - kx, -oy * iy - ky, -oz * iz - kz);
  const far = Math.min(-ox * ix + kx, -oy * iy + ky, -oz * iz + kz);
  return near <= far && near > NEAREST ? near : Infinity;
}

function boxNormal(
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

const sphere: Solid = {
  radius: SPHERE_RADIUS,
  convex: true,
  lean: 0,
  intersect: (ray) => hitSphere(ray[0], ray[1], ray[2], ray[3], ray[4], ray[5], SPHERE_RADIUS),
  normal: (x, y, z, out) => setNormal(out, x, y, z),
  support: () => SPHERE_RADIUS,
};

const cube: Solid = {
  radius: CUBE_HALF * Math.sqrt(3),
  convex: true,
  lean: 0,
  intersect: (ray) => hitBox(ray[0], ray[1], ray[2], ray[3], ray[4], ray[5], CUBE_HALF, CUBE_HALF, CUBE_HALF),
  normal: (x, y, z, out) => boxNormal(x, y, z, CUBE_HALF, CUBE_HALF, CUBE_HALF, out),
  support: (dx, dy, dz) => CUBE_HALF * (Math.abs(dx) + Math.abs(dy) + Math.abs(dz)),
};

const cylinder: Solid = {
  radius: Math.hypot(CYLINDER.radius, CYLINDER.half),
  convex: true,
  lean: 0,
  intersect(ray) {
    const ox = ray[0], oy = ray[1], oz = ray[2], dx = ray[3], dy = ray[4], dz = ray[5];
    const a = dx * dx + dz * dz, b = ox * dx + oz * dz;
    const discriminant = b * b - a * (ox * ox + oz * oz - CYLINDER.radius ** 2);
    if (discriminant < 0) return Infinity;
    const root = Math.sqrt(discriminant), iy = 1 / dy, ky = Math.abs(iy) * CYLINDER.half;
    const near = Math.max((-b - root) / a, -oy * iy - ky);
    const far = Math.min((-b + root) / a, -oy * iy + ky);
    return near <= far && near > NEAREST ? near : Infinity;
  },
  normal(x, y, z, out) {
    const side = Math.hypot(x, z) - CYLINDER.radius > Math.abs(y) - CYLINDER.half;
    if (side) setNormal(out, x, 0, z);
    else setNormal(out, 0, y, 0);
  },
  support: (dx, dy, dz) => CYLINDER.radius * Math.hypot(dx, dz) + CYLINDER.half * Math.abs(dy),
};

const CONE_SLOPE = CONE.radius / (CONE.apex - CONE.base);

const cone: Solid = {
  radius: Math.max(CONE.apex, Math.hypot(CONE.radius, CONE.base)),
  convex: true,
  lean: 0,
  intersect(ray) {
    const ox = ray[0], oy = ray[1], oz = ray[2], dx = ray[3], dy = ray[4], dz = ray[5];
    // x² + z² = slope² (apex − y)² on the side, x² + z² ≤ radius² on the base.
    const k = CONE_SLOPE * CONE_SLOPE, h = oy - CONE.apex;
    const a = dx * dx + dz * dz - k * dy * dy, b = ox * dx + oz * dz - k * h * dy;
    const discriminant = b * b - a * (ox * ox + oz * oz - k * h * h);
    let best = Infinity;
    if (discriminant >= 0) {
      const root = Math.sqrt(discriminant), t0 = (-b - root) / a, t1 = (-b + root) / a;
      const y0 = oy + t0 * dy, y1 = oy + t1 * dy;
      if (t0 > NEAREST && y0 >= CONE.base && y0 <= CONE.apex) best = t0;
      if (t1 > NEAREST && t1 < best && y1 >= CONE.base && y1 <= CONE.apex) best = t1;
    }
    const t = (CONE.base - oy) / dy, x = ox + t * dx, z = oz + t * dz;
    return t > NEAREST && t < best && x * x + z * z <= CONE.radius ** 2 ? t : best;
  },
  normal(x, y, z, out) {
    if (y - CONE.base < 1e-6) setNormal(out, 0, -1, 0);
    else setNormal(out, x, CONE_SLOPE * Math.hypot(x, z), z);
  },
  support: (dx, dy, dz) => Math.max(CONE.apex * dy, CONE.base * dy + CONE.radius * Math.hypot(dx, dz)),
};

const torus: Solid = {
  radius: TORUS.ring + TORUS.tube,
  convex: false,
  lean: 0.6,
  /** Sphere tracing of √((√(x² + z²) − ring)² + y²) − tube between the bounding sphere's two sides. */
  intersect(ray) {
    const ox = ray[0], oy = ray[1], oz = ray[2], dx = ray[3], dy = ray[4], dz = ray[5];
    const length = Math.sqrt(dx * dx + dy * dy + dz * dz), inverse = 1 / length;
    const ux = dx * inverse, uy = dy * inverse, uz = dz * inverse;
    const b = ox * ux + oy * uy + oz * uz, outer = TORUS.ring + TORUS.tube;
    const discriminant = b * b - (ox * ox + oy * oy + oz * oz - outer * outer);
    if (discriminant < 0) return Infinity;
    const root = Math.sqrt(discriminant), end = root - b;
    let t = Math.max(NEAREST, -b - root);
    for (let i = 0; i < 64 && t < end; i++) {
      const x = ox + t * ux, y = oy + t * uy, z = oz + t * uz, q = Math.sqrt(x * x + z * z) - TORUS.ring;
      const distance = Math.sqrt(q * q + y * y) - TORUS.tube;
      if (distance < 2e-4) return t * inverse;
      t += distance;
    }
    return Infinity;
  },
  normal(x, y, z, out) {
    const k = 1 - TORUS.ring / Math.max(Math.hypot(x, z), 1e-9);
    setNormal(out, x * k, y, z * k);
  },
  support: (dx, _dy, dz) => TORUS.ring * Math.hypot(dx, dz) + TORUS.tube,
};

const capsule: Solid = {
  radius: CAPSULE.half + CAPSULE.radius,
  convex: true,
  lean: 0,
  intersect(ray) {
    const ox = ray[0], oy = ray[1], oz = ray[2], dx = ray[3], dy = ray[4], dz = ray[5];
    const a = dx * dx + dz * dz, b = ox * dx + oz * dz;
    const discriminant = b * b - a * (ox * ox + oz * oz - CAPSULE.radius ** 2);
    if (discriminant < 0) return Infinity;
    const t = (-b - Math.sqrt(discriminant)) / a, y = oy + t * dy;
    if (Math.abs(y) <= CAPSULE.half) return t > NEAREST ? t : Infinity;
    const centre = y > 0 ? CAPSULE.half : -CAPSULE.half;
    return hitSphere(ox, oy - centre, oz, dx, dy, dz, CAPSULE.radius);
  },
  normal: (x, y, z, out) => setNormal(out, x, y - Math.max(-CAPSULE.half, Math.min(CAPSULE.half, y)), z),
  support: (_dx, dy) => CAPSULE.half * Math.abs(dy) + CAPSULE.radius,
};

/** A convex solid bounded by planes `[nx, ny, nz, offset]` (n · p ≤ offset), with its corners for the reach. */
function polyhedron(
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

const SIGNS = [-1, 1] as const;

const octahedron = polyhedron(
  SIGNS.flatMap((x) => SIGNS.flatMap((y) => SIGNS.map((z) => [x, y, z, OCTAHEDRON]))),
  SIGNS.flatMap((s) => [[s * OCTAHEDRON, 0, 0], [0, s * OCTAHEDRON, 0], [0, 0, s * OCTAHEDRON]]),
);

const PYRAMID_HEIGHT = PYRAMID.apex - PYRAMID.base;

const pyramid = polyhedron(
  [
    [0, -1, 0, -PYRAMID.base],
    ...SIGNS.flatMap((s) => [
      [s * PYRAMID_HEIGHT, PYRAMID.half, 0, PYRAMID.half * PYRAMID.apex],
      [0, PYRAMID.half, s * PYRAMID_HEIGHT, PYRAMID.half * PYRAMID.apex],
    ]),
  ],
  [
    [0, PYRAMID.apex, 0],
    ...SIGNS.flatMap((x) => SIGNS.map((z) => [x * PYRAMID.half, PYRAMID.base, z * PYRAMID.half])),
  ],
);

const beads: Solid = {
  radius: BEADS.ring + BEADS.radius,
  convex: false,
  lean: 0.6,
  intersect(ray) {
    const ox = ray[0], oy = ray[1], oz = ray[2], dx = ray[3], dy = ray[4], dz = ray[5];
    let best = Infinity;
    for (let i = 0; i < BEADS.count; i++) {
      const x = ox - BEAD_CENTRES[2 * i], z = oz - BEAD_CENTRES[2 * i + 1];
      const t = hitSphere(x, oy, z, dx, dy, dz, BEADS.radius);
      if (t < best) {
        best = t;
        hitPart = i;
      }
    }
    return best;
  },
  normal: (x, y, z, out) =>
    setNormal(out, x - BEAD_CENTRES[2 * hitPart], y, z - BEAD_CENTRES[2 * hitPart + 1]),
  support(dx, _dy, dz) {
    let reach = -Infinity;
    for (let i = 0; i < BEADS.count; i++) {
      reach = Math.max(reach, BEAD_CENTRES[2 * i] * dx + BEAD_CENTRES[2 * i + 1] * dz);
    }
    return reach + BEADS.radius;
  },
};

const cross: Solid = {
  radius: Math.hypot(CROSS.long, CROSS.half, CROSS.half),
  convex: false,
  lean: 0,
  intersect(ray) {
    const ox = ray[0], oy = ray[1], oz = ray[2], dx = ray[3], dy = ray[4], dz = ray[5];
    const { long, half } = CROSS;
    const tx = hitBox(ox, oy, oz, dx, dy, dz, long, half, half);
    const ty = hitBox(ox, oy, oz, dx, dy, dz, half, long, half);
    const tz = hitBox(ox, oy, oz, dx, dy, dz, half, half, long);
    const best = Math.min(tx, ty, tz);
    hitPart = best === tx ? 0 : best === ty ? 1 : 2;
    return best;
  },
  normal(x, y, z, out) {
    const half = (axis: number) => hitPart === axis ? CROSS.long : CROSS.half;
    boxNormal(x, y, z, half(0), half(1), half(2), out);
  },
  support(dx, dy, dz) {
    const x = Math.abs(dx), y = Math.abs(dy), z = Math.abs(dz);
    return CROSS.half * (x + y + z) + (CROSS.long - CROSS.half) * Math.max(x, y, z);
  },
};

/** All solids by class. */
export const SOLIDS: Readonly<Record<SolidKind, Solid>> = {
  sphere,
  cube,
  cylinder,
  cone,
  torus,
  capsule,
  octahedron,
  pyramid,
  beads,
  cross,
};
