/**
 * Arrays whose elements do not lie in row-major order.
 *
 * @module
 */
import { sizeOf } from "novae/tensor/mod.ts";

/** Any array of numbers that can be made by length. */
type Elements = { readonly length: number; [index: number]: number | bigint };

/** Whether the strides, in elements, are those of row-major order; axes of extent 1 do not count. */
export function isRowMajor(shape: readonly number[], stride: readonly number[]): boolean {
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && stride[axis] !== expected) return false;
    expected *= shape[axis];
  }
  return true;
}

/** The strides of column-major order, in elements. */
export function columnMajorStride(shape: readonly number[]): number[] {
  return shape.map((_, axis) => sizeOf(shape.slice(0, axis)));
}

/**
 * Copies elements into row-major order.
 *
 * @param shape extents, outermost first; none of them 0.
 * @param stride elements from one to the next, by axis.
 */
export function toRowMajor<T extends Elements>(
  source: T,
  shape: readonly number[],
  stride: readonly number[],
): T {
  const target = new (source.constructor as new (length: number) => T)(sizeOf(shape));
  const last = shape.length - 1, index = new Array<number>(shape.length).fill(0);
  const columns = last < 0 ? 1 : shape[last], step = last < 0 ? 0 : stride[last];
  for (let i = 0, row = 0; i < target.length;) {
    for (let j = 0; j < columns; j++) target[i++] = source[row + j * step];
    for (let axis = last - 1; axis >= 0; axis--) {
      row += stride[axis];
      if (++index[axis] < shape[axis]) break;
      row -= stride[axis] * shape[axis];
      index[axis] = 0;
    }
  }
  return target;
}
