/**
 * Tensors that live on a device.
 *
 * @module
 */
import { type DType, flattenTree, type HostTensor, isHostTensor, mapTree } from "novae/tensor/mod.ts";
import type { TypedArray } from "novae/tensor/mod.ts";
import type { CompiledDevice, EagerDevice } from "./device.ts";

/** Memory on a device. */
export interface DeviceStorage {
  /** What the device's runtime works with. */
  readonly handle: unknown;
  /** Copies the values to host memory. */
  read(): Promise<TypedArray>;
  /** Releases the memory. */
  dispose(): void;
}

/**
 * A tensor that a compiled function returned. It can be fed to compiled functions of the same device without being
 * copied, and read.
 */
export class DeviceTensor {
  #storage: DeviceStorage | null;
  #fate = "";

  /** Made by compiled functions; not meant to be constructed elsewhere. */
  constructor(
    readonly dtype: DType,
    readonly shape: readonly number[],
    readonly device: CompiledDevice | EagerDevice,
    storage: DeviceStorage,
  ) {
    this.#storage = storage;
  }

  /**
   * The memory behind the tensor, for the engine.
   *
   * @throws TypeError if the tensor was disposed of or donated.
   */
  storage(purpose: string): DeviceStorage {
    if (!this.#storage) throw new TypeError(`Cannot ${purpose}: the device tensor ${this.#fate}`);
    return this.#storage;
  }

  /** Takes the memory out, for the engine; the tensor cannot be used any more. */
  release(fate: string): DeviceStorage {
    const storage = this.storage("release a tensor");
    this.#storage = null;
    this.#fate = fate;
    return storage;
  }

  /** Puts memory back that was taken out, for the engine: whoever took it failed and left it as it was. */
  restore(storage: DeviceStorage): void {
    this.#storage = storage;
  }

  /**
   * Copies the values to host memory.
   *
   * @throws TypeError if the tensor was disposed of or donated.
   */
  async read(): Promise<HostTensor> {
    return { dtype: this.dtype, shape: this.shape, data: await this.storage("read a tensor").read() };
  }

  /** Releases the memory. Doing it twice is harmless. */
  dispose(): void {
    if (this.#storage) this.release("was disposed of").dispose();
  }
}

/** A tree with `HostTensor` in place of every tensor. */
export type HostTree<T> = T extends DeviceTensor | HostTensor ? HostTensor
  : T extends object ? { [K in keyof T]: HostTree<T[K]> }
  : T;

/** Whether a value is a tensor that compiled functions take. */
export function isFeedTensor(value: unknown): value is DeviceTensor | HostTensor {
  return value instanceof DeviceTensor || isHostTensor(value);
}

/** Reads every device tensor of a tree; all other leaves pass. */
export async function read<T>(tree: T): Promise<HostTree<T>> {
  const reads = flattenTree(tree, isFeedTensor).map(async ({ value }): Promise<[unknown, unknown]> => [
    value,
    value instanceof DeviceTensor ? await value.read() : value,
  ]);
  const values = new Map(await Promise.all(reads));
  return mapTree(tree, isFeedTensor, (value) => values.get(value));
}

/** Disposes of every device tensor of a tree. */
export function disposeTree(tree: unknown): void {
  for (const { value } of flattenTree(tree, isFeedTensor)) if (value instanceof DeviceTensor) value.dispose();
}
