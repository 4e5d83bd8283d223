/**
 * Minimisation of smooth functions by L-BFGS.
 *
 * @module
 */

/** A function's value and its gradient at a point. */
export interface ValueAndGradient {
  /** The value. */
  readonly value: number;
  /** The gradient, as long as the point. */
  readonly gradient: Float64Array;
}

/** Settings of {@linkcode minimize}. */
export interface MinimizeOptions {
  /** Steps at most. Default 100. */
  readonly maxIterations?: number;
  /** Largest absolute entry of the gradient at which the search ends. Default 1e-5. */
  readonly tolerance?: number;
  /** Steps whose curvature is remembered. Default 10. */
  readonly history?: number;
}

/** Where the search ended. */
export interface Minimum {
  /** The last point. */
  readonly point: Float64Array;
  /** The value there. */
  readonly value: number;
  /** Largest absolute entry of the gradient there. */
  readonly gradientMax: number;
  /** Steps taken. */
  readonly iterations: number;
  /** Whether the gradient is within the tolerance. */
  readonly converged: boolean;
}

/** One remembered step: change of the point, change of the gradient, and one over their inner product. */
interface Curvature {
  readonly s: Float64Array;
  readonly y: Float64Array;
  readonly rho: number;
}

/** Share of the expected decrease that a step must reach (Armijo's condition). */
const SUFFICIENT_DECREASE = 1e-4;
const MAX_HALVINGS = 20;

/**
 * Minimises a smooth function by L-BFGS with backtracking.
 *
 * *Source*: Nocedal and Wright, "Numerical Optimization", algorithm 7.5. *Differs*: the step is halved until the
 * value decreases enough, and a step without positive curvature is forgotten, which suits convex functions.
 *
 * @param fn value and gradient at a point; the search ends where rounding in the value hides further decrease.
 * @param start the first point, left as it is.
 */
export async function minimize(
  fn: (point: Float64Array) => ValueAndGradient | Promise<ValueAndGradient>,
  start: Float64Array,
  options: MinimizeOptions = {},
): Promise<Minimum> {
  const { maxIterations = 100, tolerance = 1e-5, history = 10 } = options;
  const memory: Curvature[] = [];
  let point = start.slice(), { value, gradient } = await fn(point), iterations = 0;
  for (; iterations < maxIterations && largest(gradient) > tolerance; iterations++) {
    const direction = descentDirection(gradient, memory), slope = inner(direction, gradient);
    let size = memory.length > 0 ? 1 : Math.min(1, 1 / Math.sqrt(inner(gradient, gradient)));
    let next: ValueAndGradient | undefined, moved = point;
    for (let halvings = 0; halvings < MAX_HALVINGS; halvings++, size /= 2) {
      moved = point.map((v, i) => v + size * direction[i]);
      const tried = await fn(moved);
      if (tried.value <= value + SUFFICIENT_DECREASE * size * slope) {
        next = tried;
        break;
      }
    }
    if (!next) break;
    remember(memory, difference(moved, point), difference(next.gradient, gradient), history);
    point = moved;
    ({ value, gradient } = next);
  }
  const gradientMax = largest(gradient);
  return { point, value, gradientMax, iterations, converged: gradientMax <= tolerance };
}

/** `−H·g` by the two-loop recursion, `H` being the remembered estimate of the inverse Hessian. */
function descentDirection(gradient: Float64Array, memory: readonly Curvature[]): Float64Array {
  const q = gradient.map((g) => -g), alphas: number[] = [];
  for (let i = memory.length - 1; i >= 0; i--) {
    alphas[i] = memory[i].rho * inner(memory[i].s, q);
    addScaled(q, memory[i].y, -alphas[i]);
  }
  const newest = memory.at(-1);
  if (newest) {
    const scale = 1 / (newest.rho * inner(newest.y, newest.y));
    for (let i = 0; i < q.length; i++) q[i] *= scale;
  }
  memory.forEach(({ s, y, rho }, i) => addScaled(q, s, alphas[i] - rho * inner(y, q)));
  return q;
}

function remember(memory: Curvature[], s: Float64Array, y: Float64Array, history: number): void {
  const curvature = inner(s, y);
  if (!(curvature > 1e-12 * inner(y, y))) return;
  memory.push({ s, y, rho: 1 / curvature });
  if (memory.length > history) memory.shift();
}

function inner(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

function addScaled(a: Float64Array, b: Float64Array, factor: number): void {
  for (let i = 0; i < a.length; i++) a[i] += factor * b[i];
}

function difference(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((v, i) => v - b[i]);
}

function largest(a: Float64Array): number {
  return a.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
}
