/**
 * The ten solids in their own space (y up, inside a sphere of about radius 1): where rays meet them, surface normals
 * and how far they reach in a direction.
 *
 * @module
 */
import type { SolidKind } from "./solids_factors.ts";
import {
  boxNormal,
  hitBox,
  hitSphere,
  NEAREST,
  polyhedron,
  setNormal,
  type Solid,
  TINY,
} from "./solids_intersection.ts";

const SPHERE_RADIUS = 0.84;
const CUBE_HALF = 0.62;
const CYLINDER = { radius: 0.58, half: 0.72 };
const CONE = { radius: 0.76, apex: 0.95, base: -0.62 };
const TORUS = { ring: 0.74, tube: 0.27 };
const CAPSULE = { half: 0.55, radius: 0.47 };
const OCTAHEDRON = 1.05;
const PYRAMID = { half: 0.7, apex: 0.95, base: -0.5 };
const BEADS = { count: 8, ring: 0.77, radius: 0.255 };
const CROSS = { long: 0.96, half: 0.25 };

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
    const a = Math.max(dx * dx + dz * dz, TINY), b = ox * dx + oz * dz;
    const discriminant = b * b - a * (ox * ox + oz * oz - CYLINDER.radius ** 2);
    if (discriminant < 0) return Infinity;
    const root = Math.sqrt(discriminant), iy = 1 / (dy || TINY), ky = Math.abs(iy) * CYLINDER.half;
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
    const a = Math.max(dx * dx + dz * dz, TINY), b = ox * dx + oz * dz;
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
