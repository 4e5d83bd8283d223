/**
 * Compares training steps and forward passes: compiled by this project, eager in TensorFlow.js (wasm), and in PyTorch
 * where python3 has it; and the encoding of `svg` with that of its frozen encoder alone. Each runs in a process of its
 * own with the same number of threads; rounds are interleaved, since machines are noisy, and the median of the rounds'
 * medians counts.
 *
 * usage: deno task bench [--quick] [--only TEXT] [--no-eager] [--device NAME] [--json FILE]
 *
 * --quick      one short round instead of three
 * --only TEXT  only workloads whose name holds TEXT
 * --no-eager   leave eager TensorFlow.js out, which takes most of the time
 * --device     device of the compiled column (default cpu)
 * --json FILE  write the numbers to a file too
 */
import { parseArgs } from "node:util";
import type { DeviceName } from "novae/engine/mod.ts";
import { describeEnvironment, TextTable } from "novae/experiment/mod.ts";
import type { WorkloadSpec } from "./workload.ts";
import { type ComparedWorkload, WORKLOADS } from "./workloads.ts";

/** What a worker reports. */
interface Measurement {
  readonly medianMs: number;
  readonly leastMs: number;
  readonly steps: number;
  readonly peakMiB: number;
  readonly compileSec?: number;
}

const ENGINES = ["compiled", "peer", "tfjs wasm"] as const;
type Engine = typeof ENGINES[number];
/** Measurements of the rounds by engine. */
type Rounds = Map<Engine, Measurement[]>;

const { values: options } = parseArgs({
  args: Deno.args,
  options: {
    worker: { type: "string" },
    spec: { type: "string" },
    seconds: { type: "string" },
    quick: { type: "boolean" },
    only: { type: "string", default: "" },
    "no-eager": { type: "boolean" },
    device: { type: "string", default: "cpu" },
    json: { type: "string" },
  },
});

if (options.worker) {
  await work(options.worker as DeviceName, JSON.parse(options.spec!), Number(options.seconds));
} else {
  await compare();
}

/** Runs one workload for some seconds and prints a line of JSON. */
async function work(device: DeviceName, spec: WorkloadSpec, seconds: number): Promise<void> {
  const { makeWorkload } = await import("./workloads.ts");
  const { run, compileSec, dispose } = makeWorkload(spec, device);
  const eager = device.startsWith("tfjs"), atLeast = eager ? 1 : 3;
  for (let i = 0; i < atLeast; i++) {
    if (!Number.isFinite(await run())) throw new Error(`${spec.kind} on ${device} gave no finite number`);
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
    compileSec: eager ? undefined : compileSec?.(),
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
  const torch = await run("python3", ["-c", "import torch; print(torch.__version__)"], true);
  const machine = await describeEnvironment({ device: options.device, reason: "asked for" }, 0);
  console.log(
    `Deno ${Deno.version.deno}, ${navigator.hardwareConcurrency} cores of ${machine.cpu}, PyTorch ${
      torch?.trim() ?? "not installed"
    }`,
  );
  const table = new TextTable([
    "workload",
    { title: "ms", digits: 1 },
    { title: "of peer", digits: 2 },
    { title: "wanted", digits: 2 },
    { title: "peak MiB", digits: 0 },
    { title: "of peer's", digits: 2 },
    { title: "wanted ", digits: 1 },
    { title: "of wasm", digits: 3 },
    { title: "compile s", digits: 2 },
  ]);
  const numbers: Record<string, unknown> = {};
  for (const [name, workload] of Object.entries(WORKLOADS)) {
    const { time, memory, peer } = workload;
    if (!name.includes(options.only)) continue;
    console.error(name);
    const found = await measureAll(workload, torch !== null);
    const [own, other, eager] = ENGINES.map((engine) => summary(found.get(engine)));
    numbers[name] = { compiled: own, [peer ? "encoder" : "pytorch"]: other, wasm: eager };
    table.add(
      name,
      own!.ms,
      other && own!.ms / other.ms,
      time,
      own!.peakMiB,
      other && own!.peakMiB / other.peakMiB,
      memory ?? null,
      eager && own!.ms / eager.ms,
      own!.compileSec ?? null,
    );
  }
  console.log(table.toString());
  console.log("The peer is PyTorch with as many threads, of an encoding the frozen encoder alone.");
  if (options.json) {
    const result = { command: "deno task bench", torch: torch?.trim() ?? null, machine, numbers };
    await Deno.writeTextFile(options.json, JSON.stringify(result, null, 2) + "\n");
  }
}

async function measureAll({ spec, peer }: ComparedWorkload, torch: boolean): Promise<Rounds> {
  const rounds = options.quick ? 1 : 3, seconds = options.quick ? 2 : 4;
  const found: Rounds = new Map();
  for (let round = 0; round < rounds; round++) {
    for (const engine of ENGINES) {
      if (engine === "peer" && !peer && !torch) continue;
      // Eager steps take seconds; one round is enough to show the gap.
      if (engine === "tfjs wasm" && (round > 0 || options["no-eager"] || peer)) continue;
      const measured = engine === "peer" && peer
        ? await measure("compiled", peer, seconds)
        : await measure(engine, spec, seconds);
      found.set(engine, [...found.get(engine) ?? [], measured]);
    }
  }
  return found;
}

async function measure(engine: Engine, spec: WorkloadSpec, seconds: number): Promise<Measurement> {
  const here = import.meta.dirname!, sizes = JSON.stringify(spec);
  const threads = String(navigator.hardwareConcurrency);
  const worker = (device: string, time: number) => [
    ...["run", "-A", "--no-check", `${here}/step_bench.ts`, "--worker", device],
    ...["--spec", sizes, "--seconds", String(time)],
  ];
  const output = engine === "peer"
    ? await run("python3", [`${here}/torch_step.py`, sizes, String(seconds), threads])
    : engine === "compiled"
    ? await run(Deno.execPath(), worker(options.device, seconds))
    : await run(Deno.execPath(), worker("tfjs-wasm", 0));
  if (output === null) throw new Error(`${engine} could not run ${sizes}`);
  return JSON.parse(output.trim().split("\n").at(-1)!);
}

/** A command's output, or null if it failed; what it says of that is shown unless `quiet`. */
async function run(command: string, args: string[], quiet = false): Promise<string | null> {
  try {
    const { success, stdout, stderr } = await new Deno.Command(command, { args, stderr: "piped" }).output();
    if (!success && !quiet) console.error(new TextDecoder().decode(stderr));
    return success ? new TextDecoder().decode(stdout) : null;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

/** Medians over the rounds. */
function summary(
  rounds: Measurement[] | undefined,
): { ms: number; peakMiB: number; compileSec?: number } | null {
  if (!rounds) return null;
  const compile = rounds.flatMap(({ compileSec }) => compileSec === undefined ? [] : [compileSec]);
  return {
    ms: median(rounds.map((m) => m.medianMs)),
    peakMiB: median(rounds.map((m) => m.peakMiB)),
    compileSec: compile.length > 0 ? median(compile) : undefined,
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
