/**
 * Trees: nested plain objects and arrays with leaves of any kind. Parameters, optimiser states, batches and results
 * are trees of tensors; a path such as `blocks.3.attention.query.weight` names a leaf.
 *
 * @module
 */

/** Decides what counts as a leaf; plain objects and arrays that are no leaf are walked. */
export type IsLeaf = (value: unknown) => boolean;

/** A leaf and where it was found. */
export interface Leaf<T> {
  /** Keys from the root joined by dots; empty for a tree that is a leaf itself. */
  readonly path: string;
  /** What was found there. */
  readonly value: T;
}

/** Applies a function to each leaf and rebuilds the tree around the results. Key order is kept. */
export function mapTree<R = unknown>(
  tree: unknown,
  isLeaf: IsLeaf,
  fn: (value: unknown, path: string) => unknown,
): R {
  const walk = (node: unknown, path: string): unknown => {
    if (isLeaf(node) || !isBranch(node)) return fn(node, path);
    if (Array.isArray(node)) return node.map((child, i) => walk(child, join(path, i)));
    return Object.fromEntries(
      Object.entries(node).map(([key, child]) => [key, walk(child, join(path, key))]),
    );
  };
  return walk(tree, "") as R;
}

/** Lists the leaves in the order of their keys. Values that are neither leaf nor branch are listed too. */
export function flattenTree<T = unknown>(tree: unknown, isLeaf: IsLeaf): Leaf<T>[] {
  const leaves: Leaf<T>[] = [];
  mapTree(tree, isLeaf, (value, path) => leaves.push({ path, value: value as T }));
  return leaves;
}

/**
 * Rebuilds a tree of the form of `like` with leaves taken from `byPath`.
 *
 * @throws RangeError if a leaf's path is absent.
 */
export function unflattenLike<R = unknown>(
  like: unknown,
  isLeaf: IsLeaf,
  byPath: ReadonlyMap<string, unknown>,
): R {
  return mapTree<R>(like, isLeaf, (_, path) => {
    if (!byPath.has(path)) throw new RangeError(`Cannot rebuild tree: no leaf at path "${path}"`);
    return byPath.get(path);
  });
}

/** Whether a value is a plain object or an array, and so has children. */
export function isBranch(value: unknown): value is Record<string, unknown> | unknown[] {
  if (Array.isArray(value)) return true;
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function join(path: string, key: string | number): string {
  return path === "" ? String(key) : `${path}.${key}`;
}
