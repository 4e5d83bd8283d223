/**
 * Runs made of stages: each is done once, its result kept, and a run that is started again goes on after the last
 * finished one.
 *
 * @module
 */
import { join } from "node:path";
import { z } from "zod";
import { CheckpointError, isBranch, mapTree } from "novae/tensor/mod.ts";
import { pathExists, readJson, writeJson } from "novae/io/mod.ts";
import { formatDuration } from "./duration.ts";
import { BarDisplay, LineDisplay, type ProgressDisplay, RateClock } from "./progress.ts";
import type { RunFolder } from "./run_folder.ts";
import { parseWith } from "./schema.ts";

/** A stage that is to come, for the count of stages and the total time left. */
export interface StagePlan {
  /** Unique in the run: lower-case letters, digits, points and dashes. */
  readonly name: string;
  /** How long it takes on the machine that the estimate is from; the total time left is unknown without. */
  readonly expectedSec?: number;
}

/** How a {@link StageRunner} behaves. */
export interface StageRunnerOptions {
  /** All stages in order, as far as they are known beforehand. */
  readonly plan?: readonly StagePlan[];
  /** Bars that are redrawn (true) or lines (false); bars if standard error is a terminal, if omitted. */
  readonly bars?: boolean;
  /** Where progress is shown, instead of the two above. */
  readonly display?: ProgressDisplay;
  /** The time in seconds; for tests. */
  readonly now?: () => number;
}

/** What the work of a stage is given. */
export interface StageContext {
  /** The stage's name. */
  readonly name: string;
  /**
   * Reports how far the work is. Work that is resumed calls it once with where it starts, before it begins.
   *
   * @param done units done.
   * @param total all units, more than 0.
   * @param note a few words, e.g. "loss 0.71".
   */
  update(done: number, total: number, note?: string): void;
  /** The path of a file of this stage, in `stages/<name>/`; the folder is made. */
  file(name: string): string;
}

/** What is kept of a finished stage, in `stages/<name>.json`. */
export interface StageRecord {
  /** Unique in the run. */
  readonly name: string;
  /** For people. */
  readonly title: string;
  /** Time that the finishing attempt took; an interrupted attempt before it does not count. */
  readonly wallSec: number;
  /** Memory of the process at its end, in bytes. */
  readonly rssBytes: number;
  /** When it was finished (ISO 8601). */
  readonly finished: string;
  /** What it returned. */
  readonly result?: unknown;
}

const recordSchema: z.ZodType<StageRecord> = z.strictObject({
  name: z.string(),
  title: z.string(),
  wallSec: z.number(),
  rssBytes: z.number(),
  finished: z.string(),
  result: z.unknown().optional(),
});

/**
 * Runs the stages of a run, one after another.
 *
 * ```ts
 * const runner = new StageRunner(run, { plan: [{ name: "data", expectedSec: 20 }, { name: "train" }] });
 * const data = await runner.stage("data", "Render images", async (stage) => {
 *   for (let i = 0; i < 10; i++) stage.update(i + 1, 10);
 *   return { hash: "…" };
 * });
 * ```
 */
export class StageRunner {
  readonly #run: RunFolder;
  readonly #plan: StagePlan[];
  readonly #display: ProgressDisplay;
  readonly #now: () => number;
  /** Times of finished stages, by name. */
  readonly #done = new Map<string, number>();
  #busy: string | null = null;

  /**
   * No stage is done yet.
   *
   * @param run keeps the results.
   */
  constructor(run: RunFolder, { plan = [], bars, display, now }: StageRunnerOptions = {}) {
    this.#run = run;
    this.#plan = [...plan];
    this.#now = now ?? (() => performance.now() / 1000);
    const useBars = bars ?? Deno.stderr.isTerminal();
    this.#display = display ?? (useBars ? new BarDisplay() : new LineDisplay());
  }

  /**
   * Does a stage, or takes its result from an earlier start of the run.
   *
   * @param name unique in the run: lower-case letters, digits, points and dashes.
   * @param title for people.
   * @param work returns plain JSON values; NaN and infinities are kept. What it makes besides goes to files of the
   * stage.
   * @returns what `work` returned, as it reads back from the file, so that a resumed run sees the same.
   * @throws RangeError if the name is unusable, was used before or another stage is at work.
   * @throws TypeError if the result is not plain JSON.
   */
  async stage<T>(name: string, title: string, work: (stage: StageContext) => Promise<T> | T): Promise<T> {
    this.#check(name);
    const path = this.#run.file("stages", `${name}.json`), label = this.#label(name, title);
    if (await pathExists(path)) {
      const record = await readRecord(path);
      this.#done.set(name, record.wallSec);
      this.#display.finish(`✓ ${label} · kept from before (${formatDuration(record.wallSec)})`);
      return decodeResult(record.result) as T;
    }
    this.#busy = name;
    this.#run.setStage(name);
    this.#run.log(`stage ${name} begins`);
    const begun = this.#now();
    this.#display.start({ label, fraction: 0, elapsedSec: 0, note: "", ...this.#left(name, 0, null) });
    try {
      const result = encodeResult(await work(this.#context(name, label, begun)));
      const wallSec = this.#now() - begun, rssBytes = Deno.memoryUsage().rss;
      const finished = new Date().toISOString();
      await writeJson(path, { name, title, wallSec, rssBytes, finished, result });
      this.#done.set(name, wallSec);
      this.#run.log(`stage ${name} done in ${formatDuration(wallSec)}`);
      this.#display.finish(`✓ ${label} · ${formatDuration(wallSec)}`);
      return decodeResult(result) as T;
    } catch (error) {
      this.#display.finish(`✗ ${label} · after ${formatDuration(this.#now() - begun)}`);
      throw error;
    } finally {
      this.#busy = null;
    }
  }

  /** Removes a bar from the terminal, e.g. before exiting. */
  clear(): void {
    this.#display.clear();
  }

  /** The records of all finished stages of the run, oldest first. */
  async records(): Promise<StageRecord[]> {
    const records: StageRecord[] = [];
    const folder = join(this.#run.path, "stages");
    if (!await pathExists(folder)) return records;
    for await (const entry of Deno.readDir(folder)) {
      if (entry.isFile && entry.name.endsWith(".json")) {
        records.push(await readRecord(join(folder, entry.name)));
      }
    }
    const decoded = records.map((record) => ({ ...record, result: decodeResult(record.result) }));
    return decoded.sort((a, b) => a.finished < b.finished ? -1 : 1);
  }

  #check(name: string): void {
    if (!/^[a-z0-9][a-z0-9.-]*$/.test(name)) {
      throw new RangeError(
        `Cannot begin stage: its name must be letters, digits, points and dashes, got "${name}"`,
      );
    }
    if (this.#busy !== null) throw new RangeError(`Cannot begin stage ${name}: ${this.#busy} must end first`);
    if (this.#done.has(name)) throw new RangeError(`Cannot begin stage ${name}: its name must be used once`);
    if (!this.#plan.some((planned) => planned.name === name)) this.#plan.push({ name });
  }

  #label(name: string, title: string): string {
    const place = this.#plan.findIndex((planned) => planned.name === name) + 1;
    const count = String(this.#plan.length);
    return `[${String(place).padStart(count.length)}/${count}] ${title}`;
  }

  #context(name: string, label: string, begun: number): StageContext {
    const clock = new RateClock(this.#now);
    return {
      name,
      file: (file) => this.#run.file("stages", name, file),
      update: (done, total, note = "") => {
        const elapsedSec = this.#now() - begun;
        const left = this.#left(name, elapsedSec, clock.leftSec(done, total));
        const fraction = Math.min(Math.max(done / total, 0), 1);
        this.#display.update({ label, fraction, elapsedSec, note, ...left });
        this.#run.heartbeat(done);
      },
    };
  }

  /** The time left for a stage, measured or expected, and for all. */
  #left(
    name: string,
    elapsedSec: number,
    measured: number | null,
  ): { leftSec: number | null; totalLeftSec: number | null } {
    const expected = (stage: StagePlan): number => stage.expectedSec ?? NaN;
    const finished = this.#plan.filter((stage) =>
      this.#done.has(stage.name) && stage.expectedSec !== undefined
    );
    let took = finished.reduce((sum, stage) => sum + (this.#done.get(stage.name) ?? 0), 0);
    let planned = finished.reduce((sum, stage) => sum + expected(stage), 0);
    const current = this.#plan.find((stage) => stage.name === name);
    if (measured !== null && current?.expectedSec !== undefined) {
      took += elapsedSec + measured;
      planned += current.expectedSec;
    }
    // How this machine compares with the one of the estimates.
    const pace = planned > 0 ? Math.min(Math.max(took / planned, 0.1), 10) : 1;
    const guess = current === undefined ? NaN : Math.max(expected(current) * pace - elapsedSec, 0);
    const leftSec = measured ?? guess;
    const others = this.#plan.filter((stage) => stage.name !== name && !this.#done.has(stage.name));
    const totalLeftSec = others.reduce((sum, stage) => sum + expected(stage) * pace, leftSec);
    const known = (value: number): number | null => Number.isNaN(value) ? null : value;
    return { leftSec: known(leftSec), totalLeftSec: known(totalLeftSec) };
  }
}

async function readRecord(path: string): Promise<StageRecord> {
  return parseWith(
    recordSchema,
    await readJson(path, CheckpointError),
    `Cannot read ${path}`,
    CheckpointError,
  );
}

const SPECIAL = "$number";

/** JSON has no NaN and no infinities: they become `{"$number": "NaN"}`. */
function encodeResult(result: unknown): unknown {
  return mapTree(result, () => false, (value, path) => {
    if (typeof value === "number") {
      if (Number.isFinite(value)) return Object.is(value, -0) ? 0 : value;
      return { [SPECIAL]: String(value) };
    }
    if (value === null || value === undefined || typeof value === "string" || typeof value === "boolean") {
      return value;
    }
    const got = typeof value === "object" ? value.constructor.name : typeof value;
    throw new TypeError(
      `Cannot keep a stage's result: ${path || "it"} must be plain JSON, got ${got}; write it to a file`,
    );
  });
}

function decodeResult(encoded: unknown): unknown {
  const plain = encoded === undefined ? undefined : JSON.parse(JSON.stringify(encoded));
  const isSpecial = (value: unknown): boolean => isBranch(value) && Object.hasOwn(value, SPECIAL);
  return mapTree(
    plain,
    isSpecial,
    (value) => isSpecial(value) ? Number((value as Record<string, string>)[SPECIAL]) : value,
  );
}
