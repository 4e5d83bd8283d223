/** Shapes at which kernels go wrong. */

/** Numbers of elements at vector widths and workgroups, and one to either side. */
const LENGTHS = [1, 7, 15, 16, 17, 63, 64, 65, 255, 256, 257];

/** Rank 0 to 3, odd extents, the lengths above, and no elements. */
export const SHAPES: readonly number[][] = [
  [],
  [3, 5],
  [2, 3, 5],
  ...LENGTHS.map((length) => [length]),
  [0],
  [2, 0, 3],
];

/** Operands that are equal, or broadcast: scalars, rows, columns, both ways, across ranks, without elements. */
export const PAIRS: readonly [number[], number[]][] = [
  [[], []],
  [[1], [1]],
  [[3, 5], [3, 5]],
  [[], [2, 3]],
  [[2, 3], []],
  [[3, 5], [5]],
  [[5], [3, 5]],
  [[3, 5], [3, 1]],
  [[3, 1], [3, 5]],
  [[1, 5], [3, 1]],
  [[3, 1], [1, 5]],
  [[2, 1, 3], [4, 1]],
  [[257], [1]],
  [[16, 17], [17]],
  [[1, 15], [17, 15]],
  [[0], [0]],
  [[0], [1]],
  [[2, 0, 3], [3]],
  [[], [2, 0, 3]],
];

/** A tensor of each rank with all extents different, so that no two axes can be mistaken for one another. */
export const RANKED: readonly number[][] = [[5], [2, 3], [2, 3, 4], [2, 3, 4, 5], [2, 3, 1, 4, 5], [
  2,
  1,
  3,
  2,
  4,
  2,
]];

/** Extents of matrices around the tiles of products. */
export const TILE = [1, 15, 16, 17];

/** A shape as part of a name. */
export const show = (shape: readonly number[]): string => `[${shape.join()}]`;

/** All subsets of the axes of a tensor that are not empty. */
export function axisSets(rank: number): number[][] {
  return Array.from(
    { length: 2 ** rank - 1 },
    (_, mask) => Array.from({ length: rank }, (_, axis) => axis).filter((axis) => (mask + 1) >> axis & 1),
  );
}

/** Every combination of one item of each list. */
export function product<T extends readonly unknown[]>(...lists: { [K in keyof T]: readonly T[K][] }): T[] {
  return lists.reduce<unknown[][]>(
    (rows, list) => rows.flatMap((row) => list.map((item) => [...row, item])),
    [[]],
  ) as unknown as T[];
}
