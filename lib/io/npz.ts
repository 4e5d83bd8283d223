/**
 * Several named arrays in one npz file, as `numpy.savez` writes and `numpy.load` reads them.
 *
 * @module
 */
import { writeFileAtomic } from "./atomic_file.ts";
import { decodeNpy, encodeNpy, type NpyArray } from "./npy.ts";
import { readBytes } from "./read_file.ts";
import { decodeZip, encodeZip } from "./zip.ts";

/**
 * Writes arrays to an npz file (uncompressed), atomically.
 *
 * @example
 * ```ts
 * import { readNpz, writeNpz } from "novae/io/mod.ts";
 * const path = await Deno.makeTempFile({ suffix: ".npz" });
 * await writeNpz(path, { labels: { dtype: "int32", shape: [2], data: Int32Array.of(3, 4) } });
 * if ((await readNpz(path)).get("labels")?.data[1] !== 4) throw new Error("not equal");
 * ```
 *
 * @throws NovaeError if it cannot be written.
 */
export async function writeNpz(
  path: string,
  arrays: ReadonlyMap<string, NpyArray> | Readonly<Record<string, NpyArray>>,
): Promise<void> {
  const named = arrays instanceof Map ? [...arrays] : Object.entries(arrays);
  const files = new Map(named.map(([name, array]) => [`${name}.npy`, encodeNpy(array)]));
  await writeFileAtomic(path, encodeZip(files));
}

/**
 * Reads all arrays of an npz file, compressed or not.
 *
 * @throws DataError if it is missing, damaged, truncated or holds a type that is not supported.
 */
export async function readNpz(path: string): Promise<Map<string, NpyArray>> {
  const files = await decodeZip(await readBytes(path), path);
  return new Map(
    [...files].map(([name, bytes]) => [name.replace(/\.npy$/, ""), decodeNpy(bytes, `${path}:${name}`)]),
  );
}
