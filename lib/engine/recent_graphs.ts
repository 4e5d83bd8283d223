/**
 * The compiled graphs of a function by signature, as many as are allowed at a time.
 *
 * @module
 */
import type { CompiledFunction, CompiledGraph } from "./compiled_function.ts";

/** One signature: its compilation and how many calls run on it. */
interface Entry {
  readonly ready: Promise<CompiledFunction>;
  /** Known once the compilation is done. */
  graph?: CompiledGraph;
  calls: number;
}

/** Keeps the graphs that were called last and releases the others, never one that runs. */
export class RecentGraphs {
  readonly #most: number;
  /** In the order of their last calls. */
  readonly #entries = new Map<string, Entry>();

  /** @throws RangeError if `most` is not a positive whole number. */
  constructor(most: number) {
    if (!(Number.isInteger(most) && most >= 1)) {
      throw new RangeError(`Cannot compile: maxGraphs must be a whole number from 1, got ${most}`);
    }
    this.#most = most;
  }

  /** What was compiled and is still kept, the latest call last. */
  graphs(): CompiledGraph[] {
    return [...this.#entries.values()].flatMap(({ graph }) => graph ? [graph] : []);
  }

  /** Runs `work` on the graph of a signature, which is compiled if it is not there; a failure is forgotten. */
  async use<R>(
    signature: string,
    compile: () => Promise<CompiledFunction>,
    work: (ready: CompiledFunction) => Promise<R>,
  ): Promise<R> {
    const entry = this.#entries.get(signature) ?? { ready: compile(), calls: 0 };
    this.#entries.delete(signature);
    this.#entries.set(signature, entry);
    entry.calls++;
    try {
      const ready = await entry.ready;
      entry.graph = ready.graph;
      return await work(ready);
    } catch (error) {
      if (!entry.graph) this.#forget(signature, entry);
      throw error;
    } finally {
      entry.calls--;
      await this.#trim();
    }
  }

  /** Releases everything. */
  async clear(): Promise<void> {
    const entries = [...this.#entries.values()];
    this.#entries.clear();
    for (const { ready } of entries) await ready.then((graph) => graph.release(), () => {});
  }

  #forget(signature: string, entry: Entry): void {
    if (this.#entries.get(signature) === entry) this.#entries.delete(signature);
  }

  async #trim(): Promise<void> {
    for (const [signature, entry] of [...this.#entries]) {
      if (this.#entries.size <= this.#most) return;
      if (entry.calls > 0) continue;
      this.#forget(signature, entry);
      await (await entry.ready).release();
    }
  }
}
