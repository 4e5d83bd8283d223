/**
 * From factors to a scene in world units: the solid's place and rotation, camera, light and linear colours.
 *
 * The floor is y = 0, the wall z = −wallDistance, the solid's centre lies above the origin.
 *
 * @module
 */
import type { SolidsFactors } from "./solids_factors.ts";
import { SOLIDS } from "./solids_geometry.ts";
import type { Solid } from "./solids_intersection.ts";

/** Distance from the camera to the point it looks at, in world units. */
export const CAMERA_DISTANCE = 6;

/** Half the width of what the camera sees at that distance, in world units. */
export const FRAME_HALF = 1.56;

/** Points of the light's disc that shadows are tested against, one for each sample of a pixel. */
export const LIGHT_POINTS = 4;

/** A colour in linear light. */
export type Rgb = readonly [number, number, number];

/** What the renderer needs to know of one image. */
export interface Scene {
  readonly factors: SolidsFactors;
  readonly solid: Solid;
  /** World = centre + size · rotation · object; row-major 3 × 3. */
  readonly rotation: Float64Array;
  /** Height of the solid's centre, such that it stands on the floor. */
  readonly centreY: number;
  /** Place and axes of the camera: unit vectors to the right, up and forward. */
  readonly eye: Rgb;
  readonly right: Rgb;
  readonly up: Rgb;
  readonly forward: Rgb;
  /** Points on the light's disc, [4, 3]. */
  readonly lights: Float64Array;
  readonly lightColor: Rgb;
  readonly ambient: Rgb;
  readonly base: Rgb;
  readonly accent: Rgb;
  readonly floor: Rgb;
  readonly wall: Rgb;
}

/** Builds the scene of one image. */
export function buildScene(factors: SolidsFactors): Scene {
  const solid = SOLIDS[factors.kind];
  const rotation = solidRotation(factors, solid.lean);
  // The reach downwards is the reach of the unrotated solid in the direction R^T (0, −1, 0).
  const centreY = factors.size * solid.support(-rotation[3], -rotation[4], -rotation[5]);
  return {
    factors,
    solid,
    rotation,
    centreY,
    ...placeCamera(factors, centreY),
    ...placeLight(factors, centreY),
    ...colours(factors),
  };
}

/** Camera azimuth · lean towards the camera · tilt in a direction · yaw. */
function solidRotation(factors: SolidsFactors, lean: number): Float64Array {
  const { tiltDirection } = factors;
  let rotation = rotationY(factors.yaw - tiltDirection);
  rotation = multiply(rotationX(factors.tilt), rotation);
  rotation = multiply(rotationY(tiltDirection), rotation);
  rotation = multiply(rotationX(lean), rotation);
  return multiply(rotationY(factors.cameraAzimuth), rotation);
}

function placeCamera(
  factors: SolidsFactors,
  centreY: number,
): Pick<Scene, "eye" | "right" | "up" | "forward"> {
  const { cameraAzimuth: azimuth, cameraElevation: elevation } = factors;
  const sinA = Math.sin(azimuth), cosA = Math.cos(azimuth);
  const sinE = Math.sin(elevation), cosE = Math.cos(elevation);
  const forward: Rgb = [-sinA * cosE, -sinE, -cosA * cosE];
  const right: Rgb = [cosA, 0, -sinA];
  const up: Rgb = [-sinA * sinE, cosE, -cosA * sinE];
  const dx = -factors.frameX * FRAME_HALF, dy = -factors.frameY * FRAME_HALF;
  const eye = [0, 1, 2].map((i) =>
    (i === 1 ? centreY : 0) + dx * right[i] + dy * up[i] - CAMERA_DISTANCE * forward[i]
  );
  return { eye: [eye[0], eye[1], eye[2]], right, up, forward };
}

/** A disc of radius 0.8 at a distance of 9 that faces the solid; four points on it, a quarter turn apart. */
function placeLight(
  factors: SolidsFactors,
  centreY: number,
): Pick<Scene, "lights" | "lightColor" | "ambient"> {
  const azimuth = factors.cameraAzimuth + factors.lightAzimuth, elevation = factors.lightElevation;
  const sinA = Math.sin(azimuth), cosA = Math.cos(azimuth);
  const sinE = Math.sin(elevation), cosE = Math.cos(elevation);
  const lights = new Float64Array(LIGHT_POINTS * 3);
  for (let i = 0; i < LIGHT_POINTS; i++) {
    const angle = 0.4 + 2 * Math.PI * i / LIGHT_POINTS, u = 0.8 * Math.cos(angle), v = 0.8 * Math.sin(angle);
    lights[3 * i] = 9 * sinA * cosE + u * cosA - v * sinA * sinE;
    lights[3 * i + 1] = centreY + 9 * sinE + v * cosE;
    lights[3 * i + 2] = 9 * cosA * cosE - u * sinA - v * cosA * sinE;
  }
  const { lightPower: power, lightWarmth: warmth } = factors;
  return {
    lights,
    lightColor: [1.3 * power * (1 + 0.12 * warmth), 1.3 * power, 1.3 * power * (1 - 0.18 * warmth)],
    ambient: [0.25 - 0.03 * warmth, 0.26, 0.28 + 0.03 * warmth],
  };
}

function colours(factors: SolidsFactors): Pick<Scene, "base" | "accent" | "floor" | "wall"> {
  const base = linearColour(factors.hue, factors.saturation, factors.brightness);
  // The second colour takes the other end of the brightness range, so that every pattern can be seen.
  const light = luminance(base) < 0.26;
  const accent = linearColour(factors.accentHue, light ? 0.25 : 0.7, light ? 0.95 : 0.3);
  return {
    base,
    accent,
    floor: linearColour(factors.floorHue, factors.floorSaturation, factors.floorBrightness),
    wall: linearColour(factors.wallHue, factors.wallSaturation, factors.wallBrightness),
  };
}

function luminance([r, g, b]: Rgb): number {
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Hue, saturation and value to linear light (gamma 2.2). */
function linearColour(hue: number, saturation: number, value: number): Rgb {
  const channel = (offset: number) => {
    const k = (offset + hue * 6) % 6;
    return (value - value * saturation * Math.max(0, Math.min(k, 4 - k, 1))) ** 2.2;
  };
  return [channel(5), channel(3), channel(1)];
}

function rotationX(angle: number): Float64Array {
  const c = Math.cos(angle), s = Math.sin(angle);
  return Float64Array.of(1, 0, 0, 0, c, -s, 0, s, c);
}

function rotationY(angle: number): Float64Array {
  const c = Math.cos(angle), s = Math.sin(angle);
  return Float64Array.of(c, 0, s, 0, 1, 0, -s, 0, c);
}

function multiply(a: Float64Array, b: Float64Array): Float64Array {
  const product = new Float64Array(9);
  for (let i = 0; i < 3; i++) {
    for (let j = 0; j < 3; j++) {
      for (let k = 0; k < 3; k++) product[3 * i + j] += a[3 * i + k] * b[3 * k + j];
    }
  }
  return product;
}
