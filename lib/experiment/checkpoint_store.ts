/**
 * Checkpoints of a training: complete or absent, never half of one, and only for the configuration that made them.
 *
 * @module
 */
import { join } from "node:path";
import { CheckpointError, isHostTensor, mapTree } from "novae/tensor/mod.ts";
import {
  describeDifference,
  fileError,
  firstDifference,
  hashFile,
  readSafetensors,
  readSafetensorsHeader,
  syncFolder,
  writeJson,
  writeSafetensors,
} from "novae/io/mod.ts";
import { completed, PARTS, readRecord, type StateRecord } from "./_checkpoint_record.ts";
import { compareForm, tensorsOf } from "./_checkpoint_tensors.ts";

/** A checkpoint in memory. `W` and `S` are trees of `HostTensor`; null and undefined leaves are kept out of files. */
export interface Checkpoint<W, S> {
  /** Updates done. */
  readonly step: number;
  /** For use: usually the moving average of the parameters. */
  readonly weights: W;
  /** For going on: parameters, optimiser state, moving averages. */
  readonly state: S;
  /** Plain JSON values beside them, e.g. images seen or the place in the data. */
  readonly meta: Readonly<Record<string, unknown>>;
}

/** How a {@link CheckpointStore} behaves. */
export interface CheckpointStoreOptions {
  /** The resolved configuration; a checkpoint with another one is refused. */
  readonly config: unknown;
  /**
   * Settings that were added to the configuration later, with the values that trainings before them had: part of a
   * configuration, with which an older checkpoint's is completed.
   */
  readonly former?: Readonly<Record<string, unknown>>;
  /**
   * How many of the newest to keep; 2 if omitted, so that one is left if the newest is damaged. The one of the lowest
   * score is kept beside them.
   */
  readonly keepLast?: number;
  /** Told of damaged checkpoints that are passed over; `console.warn` if omitted. */
  readonly warn?: (line: string) => void;
}

/**
 * The checkpoints in one folder: `step-000500/{weights,state}.safetensors + state.json`.
 *
 * Each is written beside its place, flushed and renamed; older ones are removed only after that.
 */
export class CheckpointStore {
  /** The folder. */
  readonly folder: string;
  readonly #config: unknown;
  readonly #former: unknown;
  readonly #keepLast: number;
  readonly #warn: (line: string) => void;

  /**
   * Nothing is read or written yet.
   *
   * @param folder made with the first checkpoint if absent.
   * @throws RangeError if `keepLast` is not a whole number of at least 1.
   */
  constructor(
    folder: string,
    { config, former, keepLast = 2, warn = console.warn }: CheckpointStoreOptions,
  ) {
    if (!Number.isInteger(keepLast) || keepLast < 1) {
      throw new RangeError(`Cannot keep checkpoints: keepLast must be whole and at least 1, got ${keepLast}`);
    }
    this.folder = folder;
    this.#config = JSON.parse(JSON.stringify(config ?? null));
    this.#former = JSON.parse(JSON.stringify(former ?? {}));
    this.#keepLast = keepLast;
    this.#warn = warn;
  }

  /**
   * Writes a checkpoint, then removes those older than the newest `keepLast`, but not the best. A whole checkpoint of the
   * same step and configuration is never overwritten: it is kept and nothing is written.
   *
   * @param contents.score how good the weights are, lower is better, e.g. a loss on held-out data.
   * @throws RangeError if the score is not a finite number.
   * @throws CheckpointError if there is one of the same step that belongs to another configuration.
   * @throws NovaeError if it cannot be written (full disk): the earlier ones are untouched then.
   */
  async save<W, S>(
    step: number,
    contents: { weights: W; state: S; meta?: Record<string, unknown>; score?: number },
  ): Promise<void> {
    const { weights, state, meta = {}, score } = contents;
    if (score !== undefined && !Number.isFinite(score)) {
      throw new RangeError(`Cannot write checkpoint: its score must be a finite number, got ${score}`);
    }
    const place = this.#place(step), temporary = this.#hidden("tmp", step);
    if (await this.#damage(step) === null) {
      await this.#read(step);
      return;
    }
    try {
      await this.#removeHidden();
      await Deno.mkdir(temporary, { recursive: true });
      await this.#write(temporary, step, { weights, state }, { meta, score });
      syncFolder(temporary);
      // What is in its place is damaged.
      await Deno.rename(place, this.#hidden("old", step)).catch(ignoreMissing);
      await Deno.rename(temporary, place);
      syncFolder(this.folder);
    } catch (error) {
      await Deno.remove(temporary, { recursive: true }).catch(() => {});
      throw fileError(`Cannot write checkpoint ${place}`, error);
    }
    await this.#prune(step);
  }

  /** The steps of all checkpoints, damaged ones too, lowest first. */
  async steps(): Promise<number[]> {
    const steps: number[] = [];
    try {
      for await (const { name } of Deno.readDir(this.folder)) {
        const match = /^step-(\d{6,})$/.exec(name);
        if (match) steps.push(Number(match[1]));
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw fileError(`Cannot read ${this.folder}`, error);
    }
    return steps.sort((a, b) => a - b);
  }

  /**
   * The step of the newest checkpoint whose files are whole; null if there is none. Damaged ones are reported and
   * passed over.
   *
   * @param atMost the last step that counts; all do if omitted.
   * @throws CheckpointError if the newest one belongs to another configuration.
   */
  async latest(atMost = Infinity): Promise<number | null> {
    return await this.#firstWhole((await this.steps()).filter((step) => step <= atMost).reverse());
  }

  /**
   * The step of the whole checkpoint of the lowest score, of equal ones the oldest; null if none has one. Damaged ones
   * are reported and passed over.
   *
   * @throws CheckpointError if it belongs to another configuration.
   */
  async best(): Promise<number | null> {
    return await this.#firstWhole(await this.#byScore());
  }

  /** Removes all checkpoints after a step: a training that went back to it makes them anew. */
  async discardAfter(step: number): Promise<void> {
    for (const later of (await this.steps()).filter((other) => other > step)) await this.#hide(later);
    await this.#removeHidden();
  }

  /**
   * Reads a checkpoint.
   *
   * @param like trees of the form that the files must have: every tensor present, none besides, shapes and types
   * equal.
   * @throws CheckpointError if it is missing, damaged, of another form (all differences are listed) or of another
   * configuration (the first key that differs is named). The files are untouched.
   */
  async load<W, S>(step: number, like: { weights: W; state: S }): Promise<Checkpoint<W, S>> {
    const { meta } = await this.#read(step);
    const damage = await this.#damage(step);
    if (damage !== null) throw new CheckpointError(`Cannot use checkpoint ${this.#place(step)}: ${damage}`);
    const weights = await this.#readTree(step, "weights", like.weights);
    const state = await this.#readTree(step, "state", like.state);
    return { step, weights, state, meta };
  }

  async #write(
    folder: string,
    step: number,
    trees: Record<typeof PARTS[number], unknown>,
    described: Pick<StateRecord, "meta" | "score">,
  ): Promise<void> {
    const files: Partial<StateRecord["files"]> = {};
    for (const part of PARTS) {
      const path = join(folder, `${part}.safetensors`);
      const about = { step: String(step), config: JSON.stringify(this.#config) };
      await writeSafetensors(path, tensorsOf(trees[part]), about);
      files[part] = { sha256: await hashFile(path), bytes: (await Deno.stat(path)).size };
    }
    const created = new Date().toISOString();
    await writeJson(join(folder, "state.json"), {
      format: 1,
      step,
      created,
      config: this.#config,
      ...described,
      files,
    });
  }

  /** Reads `state.json` and refuses another configuration. */
  async #read(step: number): Promise<StateRecord> {
    const place = this.#place(step);
    const record = await readRecord(place);
    const difference = firstDifference(completed(record.config, this.#former), this.#config);
    if (difference === null) return record;
    throw new CheckpointError(
      `Cannot use checkpoint ${place}: it belongs to another configuration, ${
        describeDifference(difference)
      }`,
    );
  }

  async #firstWhole(steps: readonly number[]): Promise<number | null> {
    for (const step of steps) {
      const damage = await this.#damage(step);
      if (damage === null) {
        await this.#read(step);
        return step;
      }
      this.#warn(`Passing over checkpoint ${this.#place(step)}: ${damage}`);
    }
    return null;
  }

  /** Steps of the checkpoints with a score, the lowest score first. What cannot be read has none. */
  async #byScore(): Promise<number[]> {
    const scored: { step: number; score: number }[] = [];
    for (const step of await this.steps()) {
      const score = (await readRecord(this.#place(step)).catch(() => null))?.score;
      if (score !== undefined) scored.push({ step, score });
    }
    return scored.sort((a, b) => a.score - b.score || a.step - b.step).map(({ step }) => step);
  }

  /** What is wrong with a checkpoint's files; null if nothing is. */
  async #damage(step: number): Promise<string | null> {
    const place = this.#place(step);
    try {
      const record = await readRecord(place);
      for (const part of PARTS) {
        const path = join(place, `${part}.safetensors`);
        await readSafetensorsHeader(path);
        if (await hashFile(path) !== record.files[part].sha256) return `${part}.safetensors is damaged`;
      }
      return null;
    } catch (error) {
      return (error as Error).message;
    }
  }

  async #readTree<T>(step: number, part: typeof PARTS[number], like: T): Promise<T> {
    const { tensors } = await readSafetensors(join(this.#place(step), `${part}.safetensors`));
    const problems = compareForm(tensorsOf(like), tensors);
    if (problems.length > 0) {
      const rest = problems.length > 5 ? `; and ${problems.length - 5} more` : "";
      throw new CheckpointError(
        `Cannot use checkpoint ${this.#place(step)}: ${part} ${problems.slice(0, 5).join("; ")}${rest}`,
      );
    }
    return mapTree<T>(like, isHostTensor, (value, path) => isHostTensor(value) ? tensors.get(path) : value);
  }

  async #prune(newest: number): Promise<void> {
    const older = (await this.steps()).filter((step) => step <= newest), [best] = await this.#byScore();
    for (const step of older.slice(0, -this.#keepLast)) if (step !== best) await this.#hide(step);
    await this.#removeHidden();
  }

  /** The first half of a removal, which leaves no half of a checkpoint. */
  async #hide(step: number): Promise<void> {
    await Deno.rename(this.#place(step), this.#hidden("old", step));
  }

  /** Removes what unfinished saves and removals left. */
  async #removeHidden(): Promise<void> {
    try {
      for await (const { name } of Deno.readDir(this.folder)) {
        if (/^\.(tmp|old)-step-/.test(name)) await Deno.remove(join(this.folder, name), { recursive: true });
      }
    } catch (error) {
      ignoreMissing(error);
    }
  }

  #place(step: number): string {
    return join(this.folder, `step-${String(step).padStart(6, "0")}`);
  }

  #hidden(kind: "tmp" | "old", step: number): string {
    return join(this.folder, `.${kind}-step-${String(step).padStart(6, "0")}`);
  }
}

/**
 * The configuration of the newest checkpoint in a folder, e.g. to start another training from it.
 *
 * @returns the configuration as it was saved; null if the folder holds no checkpoint.
 * @throws CheckpointError if what describes the newest checkpoint is damaged.
 */
export async function storedConfig(folder: string): Promise<unknown> {
  const step = (await new CheckpointStore(folder, { config: null }).steps()).at(-1);
  if (step === undefined) return null;
  return (await readRecord(join(folder, `step-${String(step).padStart(6, "0")}`))).config;
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
