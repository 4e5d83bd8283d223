/**
 * Samples latents in several workers, each with a compiled step of its own in one thread.
 *
 * @module
 */
import { concatRows, gatherRows, type HostTensor, isHostTensor, mapTree, rows } from "novae/tensor/mod.ts";
import type { DitConfig } from "./config.ts";
import type { DitParams } from "./dit.ts";
import {
  checkedBatchSize,
  checkRequest,
  type LatentSampler,
  type LatentSamplerOptions,
  type SampleRequest,
} from "./sample_request.ts";
import type { SampledModel, WorkerReply, WorkerTask } from "./sampling_worker.ts";

/** Workers that share the batches of each request. */
export class LatentSamplerPool implements LatentSampler {
  readonly #config: DitConfig;
  readonly #options: LatentSamplerOptions;
  readonly #count: number;
  #workers: SamplingWorker[] = [];

  /** @param workers number of workers; they start with the first request. */
  constructor(config: DitConfig, options: LatentSamplerOptions, workers: number) {
    this.#config = config;
    this.#options = { ...options, batchSize: checkedBatchSize(options), threads: 1 };
    this.#count = workers;
  }

  /** See {@linkcode LatentSampler.sample}. */
  async sample(request: SampleRequest): Promise<HostTensor> {
    checkRequest(this.#config, request);
    const { params, autoguidance, onProgress, labels, firstIndex = 0, noise, callback, ...rest } = request;
    if (callback !== undefined) {
      throw new RangeError("Cannot sample latents: a callback for steps needs workers to be 1, got more");
    }
    const count = labels.length;
    const size = Math.min(this.#options.batchSize!, Math.ceil(count / this.#count));
    const parts: HostTensor[] = new Array(Math.ceil(count / size));
    let next = 0, done = 0;
    const drain = async (worker: SamplingWorker): Promise<void> => {
      for (let part = next++; part < parts.length; part = next++) {
        const start = part * size, end = Math.min(start + size, count);
        // The last batch is filled up, so that it does not compile for a size of its own.
        const indices = Int32Array.from({ length: size }, (_, k) => Math.min(start + k, count - 1));
        const task = {
          ...rest,
          labels: indices.map((i) => labels[i]),
          firstIndex: firstIndex + start,
          ...noise && { noise: gatherRows(noise, indices) },
        };
        parts[part] = rows((await worker.ask({ kind: "sample", request: task }))!, 0, end - start);
        done += end - start;
        await onProgress?.(done, count);
      }
    };
    try {
      await Promise.all((await this.#ready({ params, autoguidance })).map(drain));
    } catch (error) {
      await this.dispose(); // the other workers may still be busy with this request
      throw error;
    }
    return concatRows(parts);
  }

  /** See {@linkcode LatentSampler.dispose}. */
  dispose(): Promise<void> {
    for (const worker of this.#workers) worker.terminate();
    this.#workers = [];
    return Promise.resolve();
  }

  /** Starts the workers where that was not done yet, and gives all of them the weights. */
  async #ready({ params, autoguidance: weak }: SampledModel): Promise<SamplingWorker[]> {
    if (this.#workers.length === 0) {
      this.#workers = Array.from({ length: this.#count }, () => new SamplingWorker());
      const task: WorkerTask = { kind: "open", config: this.#config, options: this.#options };
      await Promise.all(this.#workers.map((worker) => worker.ask(task)));
    }
    const task: WorkerTask = {
      kind: "weights",
      params: compact(params),
      ...weak && { autoguidance: { config: weak.config, params: compact(weak.params) } },
    };
    await Promise.all(this.#workers.map((worker) => worker.ask(task)));
    return this.#workers;
  }
}

/** Weights that own their memory: a view would be sent with the whole buffer that it looks into. */
function compact(params: DitParams<HostTensor>): DitParams<HostTensor> {
  return mapTree<DitParams<HostTensor>>(params, isHostTensor, (leaf) => {
    const { data, ...tensor } = leaf as HostTensor;
    return { ...tensor, data: data.byteLength === data.buffer.byteLength ? data : data.slice() };
  });
}

/** One worker, asked one thing at a time. */
class SamplingWorker {
  readonly #worker: Worker;

  constructor() {
    const url = new URL("./sampling_worker.ts", import.meta.url);
    this.#worker = new Worker(url.href, { type: "module", name: "latent sampler" });
  }

  /** Resolves with what the worker made; rejects with its error. */
  ask(task: WorkerTask): Promise<HostTensor | undefined> {
    return new Promise((resolve, reject) => {
      this.#worker.onmessage = ({ data }: MessageEvent<WorkerReply>) => {
        if (data.error === undefined) resolve(data.latents);
        else reject(new Error(`Cannot sample latents in a worker: ${data.error}`));
      };
      this.#worker.onerror = (event) => {
        event.preventDefault();
        reject(new Error(`Cannot sample latents in a worker: ${event.message}`));
      };
      this.#worker.postMessage(task);
    });
  }

  terminate(): void {
    this.#worker.terminate();
  }
}
