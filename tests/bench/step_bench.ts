/**
 * Compares one training step of a diffusion transformer and one forward pass of a vision transformer: compiled by
 * this project, eager in TensorFlow.js (wasm), and in PyTorch where python3 has it. Each runs in a process of its own
 * with the same number of threads; rounds are interleaved, since machines are noisy, and the median of the rounds'
 * medians counts.
 *
 * usage: deno run -A tests/bench/step_bench.ts [--quick] [--only dit-step|vit-forward] [--batch 16] [--no-eager]
 */
import { parseArgs } from "node:util";
import type { DeviceName } from "novae/engine/mod.ts";
import type { WorkloadName } from "./workloads.ts";

/** What a worker reports. */
interface Measurement {
  readonly medianMs: number;
  readonly leastMs: number;
  readonly steps: number;
  readonly peakMiB: number;
}

const ENGINES = ["compiled cpu", "PyTorch", "tfjs wasm"] as const;
type Engine = typeof ENGINES[number];

const { values: options } = parseArgs({
  args: Deno.args,
  options: {
    worker: { type: "string" },
    workload: { type: "string" },
    batch: { type: "string" },
    seconds: { type: "string" },
    quick: { type: "boolean" },
    only: { type: "string" },
    "no-eager": { type: "boolean" },
    device: { type: "string" },
  },
});

if (options.worker) {
  await work(
    options.worker as DeviceName,
    options.workload as WorkloadName,
    Number(options.batch),
    Number(options.seconds),
  );
} else {
  await compare();
}

/** Runs one workload for some seconds and prints a line of JSON. */
async function work(
  device: DeviceName,
  workload: WorkloadName,
  batch: number,
  seconds: number,
): Promise<void> {
  const { makeWorkload } = await import("./workloads.ts");
  const { run, dispose } = makeWorkload(workload, batch, device);
  const atLeast = device.startsWith("tfjs") ? 1 : 3;
  const warmUps = device.startsWith("tfjs") ? 1 : 3;
  for (let i = 0; i < warmUps; i++) {
    if (!Number.isFinite(await run())) throw new Error(`${workload} on ${device} gave no finite number`);
  }
  const times: number[] = [];
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end || times.length < atLeast) {
    const start = performance.now();
    await run();
    times.push(performance.now() - start);
  }
  const result: Measurement = {
    medianMs: median(times),
    leastMs: Math.min(...times),
    steps: times.length,
    peakMiB: peakMiB(),
  };
  await dispose();
  console.log(JSON.stringify(result));
}

/** The most memory the process ever held. */
function peakMiB(): number {
  const status = Deno.readTextFileSync("/proc/self/status");
  return Number(/VmHWM:\s*(\d+) kB/.exec(status)![1]) / 1024;
}

async function compare(): Promise<void> {
  const torch = await run("python3", ["-c", "import torch; print(torch.__version__)"]);
  console.log(
    `Deno ${Deno.version.deno}, ${navigator.hardwareConcurrency} cores, PyTorch ${
      torch?.trim() ?? "not installed"
    }`,
  );
  const workloads: WorkloadName[] = options.only
    ? [options.only as WorkloadName]
    : ["dit-step", "vit-forward"];
  const batches = options.batch ? [Number(options.batch)] : [16, 64];
  for (const workload of workloads) {
    for (const batch of batches) {
      const rounds = options.quick ? 1 : 3, seconds = options.quick ? 2 : 4;
      const found = new Map<Engine, Measurement[]>();
      for (let round = 0; round < rounds; round++) {
        for (const engine of ENGINES) {
          if (engine === "PyTorch" && torch === null) continue;
          // Eager steps take seconds; one round is enough to show the gap.
          if (engine === "tfjs wasm" && (round > 0 || options["no-eager"])) continue;
          found.set(engine, [...found.get(engine) ?? [], await measure(engine, workload, batch, seconds)]);
        }
      }
      print(workload, batch, found);
    }
  }
}

async function measure(
  engine: Engine,
  workload: WorkloadName,
  batch: number,
  seconds: number,
): Promise<Measurement> {
  const here = import.meta.dirname!;
  const threads = String(navigator.hardwareConcurrency);
  const output = engine === "PyTorch"
    ? await run("python3", [`${here}/torch_step.py`, workload, String(batch), String(seconds), threads])
    : await run(Deno.execPath(), [
      "run",
      "-A",
      `${here}/step_bench.ts`,
      "--worker",
      engine === "tfjs wasm" ? "tfjs-wasm" : options.device ?? "cpu",
      "--workload",
      workload,
      "--batch",
      String(batch),
      "--seconds",
      engine === "tfjs wasm" ? "0" : String(seconds),
    ]);
  if (output === null) throw new Error(`${engine} could not run ${workload} with batch ${batch}`);
  return JSON.parse(output.trim().split("\n").at(-1)!);
}

/** A command's output, or null if it failed. */
async function run(command: string, args: string[]): Promise<string | null> {
  try {
    const { success, stdout, stderr } = await new Deno.Command(command, { args, stderr: "piped" }).output();
    if (!success) console.error(new TextDecoder().decode(stderr));
    return success ? new TextDecoder().decode(stdout) : null;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

function print(workload: WorkloadName, batch: number, found: Map<Engine, Measurement[]>): void {
  console.log(`\n${workload}, batch ${batch}`);
  const torch = found.get("PyTorch");
  const time = (m: Measurement[]) => median(m.map((x) => x.medianMs));
  const peak = (m: Measurement[]) => median(m.map((x) => x.peakMiB));
  const rows = [...found].map(([engine, measurements]) => ({
    engine,
    "ms/step": time(measurements).toFixed(0),
    "least ms": Math.min(...measurements.map((m) => m.leastMs)).toFixed(0),
    "peak MiB": peak(measurements).toFixed(0),
    "time / PyTorch": torch ? (time(measurements) / time(torch)).toFixed(2) : "",
    "peak / PyTorch": torch ? (peak(measurements) / peak(torch)).toFixed(2) : "",
  }));
  console.table(rows, Object.keys(rows[0]).slice(0));
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
