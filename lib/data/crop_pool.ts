/**
 * Crops of coming training steps, made by worker threads while the present step runs.
 *
 * @module
 */
import { ConfigError } from "novae/tensor/mod.ts";
import { type CropAnswer, type CropViews, type CropWork, makeCrops } from "./crop_work.ts";

export { type CropViews, type CropWork, makeCrops } from "./crop_work.ts";

/** What a {@link CropPool} makes and with how many threads. */
export interface CropPoolOptions {
  /** The work of a step; must be a pure function of it. */
  readonly work: (step: number) => CropWork;
  /** Number of steps; none beyond is made ahead. */
  readonly steps: number;
  /** Worker threads; 0 makes the crops in the calling thread, when they are asked for. */
  readonly workers: number;
}

interface Task {
  readonly step: number;
  readonly promise: Promise<CropViews>;
  readonly resolve: (views: CropViews) => void;
  readonly reject: (error: Error) => void;
}

/**
 * Makes the crops of steps in the order in which they are asked for, and those of as many further steps ahead as there
 * are workers. Each step's crops depend on its work alone, so neither the number of workers nor the step at which a
 * training resumes changes them.
 */
export class CropPool {
  readonly #options: CropPoolOptions;
  readonly #tasks = new Map<number, Task>();
  readonly #queue: Task[] = [];
  readonly #idle: Worker[] = [];
  readonly #all: Worker[];
  #failure: Error | null = null;

  /**
   * Starts the workers.
   *
   * @throws ConfigError if the number of workers is no whole number of at least 0.
   */
  constructor(options: CropPoolOptions) {
    const { workers } = options;
    if (!Number.isInteger(workers) || workers < 0) {
      throw new ConfigError(
        `Cannot make crops: the number of workers must be whole and at least 0, got ${workers}`,
      );
    }
    this.#options = options;
    this.#all = Array.from({ length: workers }, () => startWorker());
    this.#idle.push(...this.#all);
  }

  /**
   * The crops of a step. Those of earlier steps that nobody has asked for are forgotten.
   *
   * @throws Error if a worker failed.
   */
  async views(step: number): Promise<CropViews> {
    const { work, steps, workers } = this.#options;
    if (workers === 0) return makeCrops(work(step));
    for (const old of this.#tasks.keys()) if (old < step) this.#tasks.delete(old);
    const last = Math.min(step + workers, steps - 1);
    for (let ahead = step; ahead <= last; ahead++) this.#enlist(ahead);
    try {
      return await this.#enlist(step).promise;
    } finally {
      this.#tasks.delete(step);
    }
  }

  /** Ends the workers; crops that are still awaited are refused. */
  dispose(): void {
    for (const worker of this.#all) worker.terminate();
    this.#fail(new Error("Cannot make crops: the pool was disposed"));
  }

  #enlist(step: number): Task {
    const known = this.#tasks.get(step);
    if (known) return known;
    const task: Task = { step, ...Promise.withResolvers<CropViews>() };
    task.promise.catch(() => {}); // told to whoever asks for the step
    this.#tasks.set(step, task);
    if (this.#failure) task.reject(this.#failure);
    else this.#queue.push(task);
    this.#hand();
    return task;
  }

  /** Hands waiting tasks to idle workers. */
  #hand(): void {
    while (this.#queue.length > 0 && this.#idle.length > 0) {
      const task = this.#queue.shift()!, worker = this.#idle.shift()!;
      const fail = (why: string) => {
        const error = new Error(`Cannot make crops of step ${task.step}: ${why}`);
        task.reject(error);
        this.#fail(error);
      };
      worker.onmessage = ({ data }: MessageEvent<CropAnswer>) => {
        if ("failure" in data) return fail(data.failure);
        this.#idle.push(worker);
        task.resolve(data.views);
        this.#hand();
      };
      worker.onerror = (event) => {
        event.preventDefault();
        fail(`a worker failed: ${event.message}`);
      };
      const work = this.#options.work(task.step);
      worker.postMessage(work, work.images.map(({ data }) => data.buffer as ArrayBuffer));
    }
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const task of this.#queue.splice(0)) task.reject(this.#failure);
    for (const task of this.#tasks.values()) task.reject(this.#failure);
  }
}

function startWorker(): Worker {
  return new Worker(new URL("./crop_worker.ts", import.meta.url), { type: "module" });
}
