/**
 * Downloading one file of the model hub: resumed where it was interrupted, checked against its checksum, and put in its
 * place only when it is whole.
 *
 * `@huggingface/hub` has no such thing: its `downloadFileToCacheDir` begins anew each time, compares no checksum, takes
 * no lock and lets two processes write the same temporary file. Its `pathsInfo` gives the checksums that are used here.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import { dirname } from "node:path";
import { WeightsError } from "novae/tensor/mod.ts";
import { syncFolder } from "./atomic_file.ts";
import { fileError } from "./file_error.ts";
import type { HubCache } from "./hub_cache.ts";
import { type HubRequests, PassingFailure } from "./hub_request.ts";

/** An attempt that brings as much does not count as a failed one, however it ends. */
const PROGRESS_BYTES = 1 << 20;

/** A file as the hub describes it. */
export interface HubFile {
  /** Path in the repository. */
  readonly name: string;
  /** Size in bytes. */
  readonly bytes: number;
  /** Checksum of the content in hexadecimal, which names it in the cache. */
  readonly checksum: string;
  /** How the checksum is computed: that of large files by SHA-256, of files in git itself as git does. */
  readonly algorithm: "sha256" | "git-sha1";
}

/** Where a file comes from and goes to. */
export interface HubTransfer {
  /** Its address. */
  readonly url: string;
  /** Sends requests. */
  readonly requests: HubRequests;
  /** Where it goes. */
  readonly cache: HubCache;
  /** Ends the download. */
  readonly signal: AbortSignal | undefined;
  /** Silence after which the connection counts as lost. */
  readonly timeoutSec: number;
  /** Called with the number of bytes that are here. */
  readonly onBytes: (bytesDone: number) => void;
}

/**
 * Brings a file into the cache, if another process has not done so meanwhile.
 *
 * @throws WeightsError if it cannot be downloaded, or what arrived does not have its checksum; nothing is left of that.
 */
export async function downloadBlob(file: HubFile, transfer: HubTransfer): Promise<void> {
  const { cache, requests, signal, onBytes } = transfer, blob = cache.blob(file.checksum);
  using _lock = await cache.lock(file.checksum, signal);
  const there = await Deno.stat(blob).catch(() => null);
  if (there?.size === file.bytes) return onBytes(file.bytes);
  using partial = await PartialFile.open(`${blob}.incomplete`, file);
  onBytes(partial.bytes);
  await requests.persist(async (progressed) => {
    const before = partial.bytes;
    try {
      if (partial.bytes < file.bytes) await receive(file, partial, transfer);
    } finally {
      if (partial.bytes - before >= PROGRESS_BYTES) progressed();
    }
  });
  await partial.finish(blob);
}

/** Asks for what is missing and appends it. */
async function receive(file: HubFile, partial: PartialFile, transfer: HubTransfer): Promise<void> {
  const { url, requests, timeoutSec, onBytes } = transfer, silence = new Silence(timeoutSec);
  try {
    const headers: HeadersInit = partial.bytes > 0 ? { range: `bytes=${partial.bytes}-` } : {};
    const response = await requests.send(url, { headers, signal: silence.signal });
    const range = /^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "");
    const goesOn = response.status === 206 && Number(range?.[1]) === partial.bytes;
    if (!goesOn && response.status !== 200) throw await refuse(response, partial);
    if (!goesOn) await partial.clear(); // the server sends all of it
    for await (const chunk of lossy(response, requests)) {
      silence.heard();
      if (partial.bytes + chunk.length > file.bytes) throw await tooLong(file, partial);
      await partial.append(chunk);
      onBytes(partial.bytes);
    }
  } finally {
    silence.end();
  }
  if (partial.bytes < file.bytes) {
    throw new PassingFailure(`the connection ended before all of ${file.name} arrived`);
  }
}

async function* lossy(response: Response, requests: HubRequests): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  try {
    for (;;) {
      const next = await reader?.read().catch((error) => {
        throw requests.lost(error);
      });
      if (next === undefined || next.done) return;
      yield next.value;
    }
  } finally {
    await reader?.cancel().catch(() => {});
  }
}

/** The server does not go on where it was asked to: the next try begins anew. */
async function refuse(response: Response, partial: PartialFile): Promise<PassingFailure> {
  await response.body?.cancel();
  const from = partial.bytes;
  await partial.clear();
  return new PassingFailure(`the server does not go on from byte ${from}`);
}

async function tooLong(file: HubFile, partial: PartialFile): Promise<WeightsError> {
  await partial.remove();
  return new WeightsError(`Cannot download ${file.name}: it must be of ${file.bytes} bytes, got more`);
}

/** Ends a request when nothing has been heard for a while. */
class Silence {
  readonly #controller = new AbortController();
  readonly #timeoutSec: number;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(timeoutSec: number) {
    this.#timeoutSec = timeoutSec;
    this.heard();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  heard(): void {
    clearTimeout(this.#timer);
    const reason = new DOMException("silence", "TimeoutError");
    this.#timer = setTimeout(() => this.#controller.abort(reason), this.#timeoutSec * 1000);
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}

/** What has arrived of a file, with its running checksum. */
class PartialFile implements Disposable {
  bytes = 0;
  readonly #path: string;
  readonly #wanted: HubFile;
  readonly #file: Deno.FsFile;
  #hash: Hash;
  #open = true;

  private constructor(path: string, wanted: HubFile, file: Deno.FsFile) {
    this.#path = path;
    this.#wanted = wanted;
    this.#file = file;
    this.#hash = this.#newHash();
  }

  /** Opens what an earlier download left, or an empty file. */
  static async open(path: string, wanted: HubFile): Promise<PartialFile> {
    try {
      const file = await Deno.open(path, { read: true, write: true, create: true });
      const partial = new PartialFile(path, wanted, file);
      const piece = new Uint8Array(1 << 20);
      for (let got = await file.read(piece); got !== null; got = await file.read(piece)) {
        partial.#hash.update(piece.subarray(0, got));
        partial.bytes += got;
      }
      if (partial.bytes > wanted.bytes) await partial.clear();
      return partial;
    } catch (error) {
      throw fileError(`Cannot write ${path}`, error, WeightsError);
    }
  }

  async append(chunk: Uint8Array): Promise<void> {
    try {
      for (let done = 0; done < chunk.length;) done += await this.#file.write(chunk.subarray(done));
    } catch (error) {
      throw fileError(`Cannot write ${this.#path}`, error, WeightsError);
    }
    this.#hash.update(chunk);
    this.bytes += chunk.length;
  }

  /** Begins anew. */
  async clear(): Promise<void> {
    await this.#file.truncate(0);
    await this.#file.seek(0, Deno.SeekMode.Start);
    this.#hash = this.#newHash();
    this.bytes = 0;
  }

  /** Checks the whole and gives it its place. */
  async finish(place: string): Promise<void> {
    const { name, checksum, algorithm } = this.#wanted, got = this.#hash.digest("hex");
    if (got !== checksum) {
      await this.remove();
      throw new WeightsError(
        `Cannot download ${name}: its ${algorithm} must be ${checksum}, got ${got}: nothing of it was kept, run again`,
      );
    }
    try {
      await this.#file.sync();
      this[Symbol.dispose]();
      await Deno.rename(this.#path, place);
      syncFolder(dirname(place));
    } catch (error) {
      throw fileError(`Cannot write ${place}`, error, WeightsError);
    }
  }

  async remove(): Promise<void> {
    this[Symbol.dispose]();
    await Deno.remove(this.#path).catch(() => {});
  }

  [Symbol.dispose](): void {
    if (this.#open) this.#file.close();
    this.#open = false;
  }

  #newHash(): Hash {
    if (this.#wanted.algorithm === "sha256") return createHash("sha256");
    return createHash("sha1").update(`blob ${this.#wanted.bytes}\0`); // as git names its objects
  }
}
