/**
 * How long reading weights takes beyond reading their bytes: a safetensors file of 350 MB, as a ViT-B has its tensors,
 * of each type of floating-point numbers, from the page cache.
 *
 * usage: deno run -A tests/bench/load_bench.ts
 */
import { openWeights, readTensors } from "novae/io/mod.ts";

const WIDTHS = { F32: 4, BF16: 2, F16: 2 } as const, WIDTH = 768, TOTAL_BYTES = 350e6;
const SHAPES = [[4 * WIDTH, WIDTH], [WIDTH, 4 * WIDTH], [3 * WIDTH, WIDTH], [WIDTH, WIDTH], [WIDTH], [
  4 * WIDTH,
]];

if (Deno.args[0] === "--worker") {
  const before = peakMiB(), start = performance.now();
  const tensors = await readTensors((await openWeights(Deno.args[1])).tensors),
    ms = performance.now() - start;
  const heldMiB = [...tensors.values()].reduce((sum, { data }) => sum + data.byteLength, 0) / 2 ** 20;
  console.log(JSON.stringify({ ms, heldMiB, grewMiB: peakMiB() - before }));
} else {
  for (const dtype of ["F32", "BF16", "F16"] as const) await measure(dtype);
}

async function measure(dtype: keyof typeof WIDTHS): Promise<void> {
  const path = await Deno.makeTempFile({ suffix: ".safetensors" });
  try {
    await writeModel(path, dtype);
    const rounds: { ms: number; plainMs: number; heldMiB: number; grewMiB: number }[] = [];
    for (let round = 0; round < 5; round++) {
      const plainMs = await readPlainly(path),
        args = ["run", "-A", "--no-check", import.meta.filename!, "--worker", path];
      const { stdout } = await new Deno.Command(Deno.execPath(), { args, stderr: "inherit" }).output();
      rounds.push({ plainMs, ...JSON.parse(new TextDecoder().decode(stdout)) });
    }
    const median = (key: keyof typeof rounds[0]) => rounds.map((r) => r[key]).sort((a, b) => a - b)[2];
    console.log(
      `${dtype}: ${(median("ms") / 1000).toFixed(2)} s, the bytes alone ${
        (median("plainMs") / 1000).toFixed(2)
      } s; ` +
        `memory grew by ${median("grewMiB").toFixed(0)} MiB for ${
          median("heldMiB").toFixed(0)
        } MiB of tensors`,
    );
  } finally {
    await Deno.remove(path);
  }
}

async function writeModel(path: string, dtype: keyof typeof WIDTHS): Promise<void> {
  const header: Record<string, unknown> = {};
  let bytes = 0;
  for (let i = 0; bytes < TOTAL_BYTES; i++) {
    const shape = SHAPES[i % SHAPES.length], end = bytes + shape.reduce((a, b) => a * b, WIDTHS[dtype]);
    header[`blocks.${i}.weight`] = { dtype, shape, "data_offsets": [bytes, end] };
    bytes = end;
  }
  const text = new TextEncoder().encode(JSON.stringify(header)), length = new DataView(new ArrayBuffer(8));
  length.setBigUint64(0, BigInt(text.length), true);
  using file = await Deno.open(path, { write: true });
  const noise = Uint8Array.from({ length: 1 << 20 }, (_, i) => (i * 2654435761) >>> 13);
  for (const part of [new Uint8Array(length.buffer), text]) await file.write(part);
  for (let left = bytes; left > 0; left -= noise.length) {
    const part = noise.subarray(0, left);
    for (let done = 0; done < part.length;) done += await file.write(part.subarray(done));
  }
}

/** Milliseconds to read a file and drop its bytes, as `cat` does. */
async function readPlainly(path: string): Promise<number> {
  using file = await Deno.open(path);
  const piece = new Uint8Array(1 << 20), start = performance.now();
  while (file.readSync(piece) !== null);
  return performance.now() - start;
}

function peakMiB(): number {
  return Number(/VmHWM:\s+(\d+) kB/.exec(Deno.readTextFileSync("/proc/self/status"))![1]) / 1024;
}
