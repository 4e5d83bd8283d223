/**
 * Run folders: everything that a run was told, measured and made, in one place. Nothing in them is overwritten but
 * the status; all writes are atomic.
 *
 * @module
 */
import { dirname, join } from "node:path";
import { CheckpointError, ConfigError, NovaeError } from "novae/tensor/mod.ts";
import {
  describeDifference,
  fileError,
  firstDifference,
  pathExists,
  readJson,
  writeFileAtomic,
  writeJson,
} from "novae/io/mod.ts";
import { describeEnvironment, type DeviceChoice, sourceDiff } from "./environment.ts";
import { appendLine, MetricsLog } from "./metrics_log.ts";
import {
  isRunningElsewhere,
  newStatus,
  readStatus,
  type RunState,
  type RunStatus,
  writeStatus,
} from "./run_status.ts";

/** What {@link RunFolder.create} needs to know. */
export interface RunOptions {
  /** Folder of all runs; made if absent. "experiments/runs" if omitted. */
  readonly root?: string;
  /** What kind of run it is: letters, digits, points and dashes. */
  readonly name: string;
  /** The resolved configuration, complete with defaults: the only one used. */
  readonly config: unknown;
  /** The configuration as it was given, before defaults and overrides. */
  readonly configInput: unknown;
  /** Arguments of the command; the process's own if omitted. */
  readonly argv?: readonly string[];
  /** Seed of all randomness. */
  readonly seed: number;
  /** Device and why. */
  readonly device: DeviceChoice;
}

/** What a run is made of, or which one is gone on with. */
export interface StartOptions extends RunOptions {
  /** Goes on with the latest run of the name (true) or with a given run folder. */
  readonly resume: boolean | string;
}

/** What {@link RunFolder.open} checks and notes. */
export interface ReopenOptions {
  /** The resolved configuration that must equal the run's; not compared if omitted. */
  readonly config?: unknown;
  /** Arguments of the command; the process's own if omitted. */
  readonly argv?: readonly string[];
  /** Seed, for the record; 0 if omitted. */
  readonly seed?: number;
  /** Device and why, for the record. */
  readonly device?: DeviceChoice;
}

const HEARTBEAT_SEC = 5;
const FOLDER = /^(\d{5,})-(.+)$/;

/**
 * The folder of one run.
 *
 * ```
 * 00007-name/
 *   config.json  config.input.json  env.json  diff.patch
 *   status.json  metrics.jsonl  log.txt
 *   stages/  checkpoints/  samples/  eval/  summary.json  report.html
 * ```
 */
export class RunFolder {
  /** Where the folder is. */
  readonly path: string;
  /** What kind of run it is. */
  readonly name: string;
  /** The resolved configuration, as read from `config.json`; validate it with its schema. */
  readonly config: unknown;
  /** `metrics.jsonl`. */
  readonly metrics: MetricsLog;
  readonly #status: RunStatus;
  #lastBeat = performance.now();

  private constructor(path: string, config: unknown, status: RunStatus) {
    this.path = path;
    this.name = FOLDER.exec(path.slice(path.lastIndexOf("/") + 1))?.[2] ?? path;
    this.config = config;
    this.#status = status;
    this.metrics = MetricsLog.open(join(path, "metrics.jsonl"));
  }

  /**
   * Makes the folder of a new run, with the next free number. Two processes that do so at once get two numbers.
   *
   * @throws ConfigError if the name is not usable.
   * @throws NovaeError if the folder cannot be written.
   */
  static async create(options: RunOptions): Promise<RunFolder> {
    const { root = "experiments/runs", name, config, configInput, argv, seed, device } = options;
    if (!/^[A-Za-z0-9][A-Za-z0-9.-]*$/.test(name)) {
      throw new ConfigError(
        `Cannot make run: its name must be letters, digits, points and dashes, got "${name}"`,
      );
    }
    const path = await claimFolder(root, name);
    await writeJson(join(path, "config.input.json"), configInput);
    await writeJson(join(path, "env.json"), await describeEnvironment(device, seed, argv));
    const diff = await sourceDiff();
    if (diff !== "") await writeFileAtomic(join(path, "diff.patch"), diff);
    const status = newStatus();
    writeStatus(path, status);
    await writeJson(join(path, "config.json"), config); // last: a folder without it was never finished
    return new RunFolder(path, await readJson(join(path, "config.json")), status);
  }

  /**
   * Opens the folder of an earlier run to go on with it. Its status becomes "running", what a kill left half-written
   * is dropped, and the environment is noted beside the first one.
   *
   * @param path the run folder.
   * @throws CheckpointError if there is no such run, if its configuration differs (naming the first key that does)
   * or if a living process is at work on it.
   */
  static async open(path: string, options: ReopenOptions = {}): Promise<RunFolder> {
    const folder = path.replace(/\/+$/, "");
    if (!await pathExists(join(folder, "config.json"))) {
      throw new CheckpointError(`Cannot go on with ${folder}: it is no run folder (config.json is missing)`);
    }
    const config = await readJson(join(folder, "config.json"), CheckpointError);
    const difference = "config" in options ? firstDifference(config, options.config) : null;
    if (difference !== null) {
      throw new CheckpointError(
        `Cannot go on with ${folder}: its configuration must be the same, ${describeDifference(difference)}`,
      );
    }
    const status = await readStatus(folder);
    if (isRunningElsewhere(status)) {
      throw new CheckpointError(
        `Cannot go on with ${folder}: process ${status.pid} is at work on it; stop it first`,
      );
    }
    const { pid, host } = newStatus();
    Object.assign(status, { state: "running", error: null, pid, host });
    writeStatus(folder, status);
    const device = options.device ?? { device: "unknown", reason: "not told" };
    const environment = await describeEnvironment(device, options.seed ?? 0, options.argv);
    await writeJson(await freeName(folder), environment);
    return new RunFolder(folder, config, status);
  }

  /**
   * Makes a run, or goes on with an earlier one.
   *
   * @throws ConfigError if there is no run of this name to go on with; what {@link create} and {@link open} throw.
   */
  static async start({ resume, ...options }: StartOptions): Promise<RunFolder> {
    const { root = "experiments/runs", name, config, argv, seed, device } = options;
    if (resume === false) return await RunFolder.create(options);
    const path = resume === true ? await RunFolder.latest(root, name) : resume;
    if (path === null) {
      throw new ConfigError(
        `Cannot resume: ${root} must hold a run named ${name}, found none; leave --resume away`,
      );
    }
    return await RunFolder.open(path, { config, argv, seed, device });
  }

  /** The newest run of a name, whatever its state; null if there is none. */
  static async latest(root: string, name: string): Promise<string | null> {
    for (const run of (await listRuns(root)).reverse()) {
      if (run.name === name && await pathExists(join(run.path, "config.json"))) return run.path;
    }
    return null;
  }

  /** The status as last written. */
  get status(): Readonly<RunStatus> {
    return this.#status;
  }

  /** The path of a file or folder in the run folder; the folders above it are made. */
  file(...parts: string[]): string {
    const path = join(this.path, ...parts);
    try {
      Deno.mkdirSync(dirname(path), { recursive: true });
    } catch (error) {
      throw fileError(`Cannot make folder ${dirname(path)}`, error);
    }
    return path;
  }

  /** Appends a line to `log.txt`, with the time before it. */
  log(line: string): void {
    appendLine(join(this.path, "log.txt"), `${new Date().toISOString()} ${line}`);
  }

  /** Notes that work goes on; the file is written every five seconds at most. */
  heartbeat(step: number = this.#status.step): void {
    this.#status.step = step;
    if (performance.now() - this.#lastBeat < HEARTBEAT_SEC * 1000) return;
    this.#write();
  }

  /** Notes which stage is at work. */
  setStage(stage: string | null): void {
    Object.assign(this.#status, { stage, step: 0 });
    this.#write();
  }

  /** Notes how the run is, and for a failure why. Does not wait, so that it can be used while exiting. */
  setState(state: RunState, error: string | null = null): void {
    Object.assign(this.#status, { state, error });
    this.#write();
  }

  /** Writes `summary.json` and notes that the run is done. */
  async finish(summary: unknown): Promise<void> {
    await writeJson(join(this.path, "summary.json"), summary);
    this.#status.stage = null;
    this.setState("done");
  }

  #write(): void {
    this.#lastBeat = performance.now();
    writeStatus(this.path, this.#status);
  }
}

/** A run folder by its name. */
export interface RunEntry {
  /** Where it is. */
  readonly path: string;
  /** Its number. */
  readonly number: number;
  /** What kind of run it is. */
  readonly name: string;
}

/** The run folders under a root, lowest number first, unfinished ones too; none if the root is absent. */
export async function listRuns(root: string): Promise<RunEntry[]> {
  const runs: RunEntry[] = [];
  try {
    for await (const entry of Deno.readDir(root)) {
      const match = entry.isDirectory ? FOLDER.exec(entry.name) : null;
      if (match) runs.push({ path: join(root, entry.name), number: Number(match[1]), name: match[2] });
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw fileError(`Cannot read ${root}`, error);
  }
  return runs.sort((a, b) => a.number - b.number || (a.name < b.name ? -1 : 1));
}

/**
 * Makes the folder of the next free number. Whoever sees another folder of the same number after making its own
 * gives its own up and tries again; the one that looked before the other was made keeps it.
 */
async function claimFolder(root: string, name: string): Promise<string> {
  try {
    await Deno.mkdir(root, { recursive: true });
    for (let attempt = 0; attempt < 100; attempt++) {
      const number = ((await listRuns(root)).at(-1)?.number ?? -1) + 1;
      const path = join(root, `${String(number).padStart(5, "0")}-${name}`);
      try {
        await Deno.mkdir(path);
      } catch (error) {
        if (error instanceof Deno.errors.AlreadyExists) continue;
        throw error;
      }
      if ((await listRuns(root)).filter((run) => run.number === number).length === 1) return path;
      await Deno.remove(path);
      await new Promise((resolve) => setTimeout(resolve, 50 * Math.random()));
    }
  } catch (error) {
    throw fileError(`Cannot make a run folder in ${root}`, error);
  }
  throw new NovaeError(
    `Cannot make a run folder in ${root}: a free number is needed, all were taken meanwhile`,
  );
}

async function freeName(folder: string): Promise<string> {
  for (let i = 1;; i++) {
    const path = join(folder, `env.resumed-${String(i).padStart(2, "0")}.json`);
    if (!await pathExists(path)) return path;
  }
}
