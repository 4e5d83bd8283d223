/**
 * Reads a file of weights, data or settings and prints, as JSON, what came of it and by how much the process grew.
 * Run by `io_memory_test.ts`: `deno run -A tests/io_memory_child.ts KIND FILE SMALL`, SMALL being a sound file of the
 * same kind that is read first, so that what is loaded once does not count.
 */
import { WeightsError } from "novae/tensor/mod.ts";
import { openWeights, readNpy, readNpz, readSafetensors, readTensors } from "novae/io/mod.ts";
import { parseJson } from "novae/io/read_file.ts";
import { loadCifar10 } from "novae/data/mod.ts";

const readers: Record<string, (path: string) => Promise<unknown>> = {
  safetensors: readSafetensors,
  weights: async (path) => await readTensors((await openWeights(path)).tensors),
  records: async (path) => await readTensors((await openWeights(path, { foreign: "record" })).tensors),
  npz: readNpz,
  npy: readNpy,
  cifar10: (path) => loadCifar10({ path }),
  json: async (path) => parseJson(await Deno.readFile(path), path, WeightsError),
};

/** The most memory that the process ever had, in bytes. */
function peakBytes(): number {
  const status = Deno.readTextFileSync("/proc/self/status");
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)![1]) * 1024;
}

if (import.meta.main) {
  const [kind, path, small] = Deno.args, read = readers[kind];
  await read(small).catch(() => {});
  const before = peakBytes(), start = performance.now();
  const outcome = await read(path).then(
    (value) => ({ value, said: "read" }),
    (error) => ({ said: String(error) }),
  );
  const ms = performance.now() - start, grewBytes = peakBytes() - before;
  console.log(JSON.stringify({ said: outcome.said, grewBytes, ms, held: "value" in outcome })); // alive until here
}
