/**
 * The cache of Hugging Face's tools: `models--org--name/` with `blobs/` by checksum, `snapshots/<commit>/` with links to
 * them, `refs/` from branches and tags to commits, and `.no_exist/<commit>/` with the names of files that are not there.
 *
 * *Source*: https://huggingface.co/docs/huggingface_hub/guides/manage-cache.
 *
 * @module
 */
import { dirname, join, relative } from "node:path";
import { WeightsError } from "novae/tensor/mod.ts";
import { writeFileAtomic } from "./atomic_file.ts";
import { fileError } from "./file_error.ts";
import { pathExists } from "./read_file.ts";

const COMMIT = /^[0-9a-f]{40}$/;

/** The part of the cache that belongs to one repository. */
export class HubCache {
  /** Its folder. */
  readonly folder: string;
  readonly #locks: string;

  /**
   * The place of a repository; nothing is made yet.
   *
   * @param cacheDir folder of the whole cache.
   * @param repo its name, e.g. `facebook/dinov2-small`.
   */
  constructor(cacheDir: string, repo: string) {
    const name = ["models", ...repo.split("/")].join("--");
    this.folder = join(cacheDir, name);
    this.#locks = join(cacheDir, ".locks", name);
  }

  /** The folder of a commit's files. */
  snapshot(commit: string): string {
    return join(this.folder, "snapshots", commit);
  }

  /** The path of a file of a commit, or null if it is not here. */
  async find(commit: string, file: string): Promise<string | null> {
    const path = join(this.snapshot(commit), file);
    return await pathExists(path) ? path : null; // of a link, its target counts
  }

  /** Whether the hub was found to have no such file at a commit. */
  async knownAbsent(commit: string, file: string): Promise<boolean> {
    return await pathExists(join(this.folder, ".no_exist", commit, file));
  }

  /** Records that the hub has no such file at a commit. */
  async noteAbsent(commit: string, file: string): Promise<void> {
    const path = join(this.folder, ".no_exist", commit, file);
    await makeFolder(dirname(path));
    await writeFileAtomic(path, "");
  }

  /** Where the content of a checksum is or shall be. */
  blob(checksum: string): string {
    return join(this.folder, "blobs", checksum);
  }

  /** The commit that a branch or tag was found to be when it was last looked up; null if it never was. */
  async readRef(revision: string): Promise<string | null> {
    if (COMMIT.test(revision)) return revision;
    const text = await Deno.readTextFile(join(this.folder, "refs", revision)).catch(() => "");
    return COMMIT.test(text.trim()) ? text.trim() : null;
  }

  /** Records the commit of a branch or tag. */
  async writeRef(revision: string, commit: string): Promise<void> {
    if (revision === commit || await this.readRef(revision) === commit) return;
    const path = join(this.folder, "refs", revision);
    await makeFolder(dirname(path));
    await writeFileAtomic(path, commit);
  }

  /** Gives a content its place in a commit; a link, or a copy where the system has none. */
  async link(commit: string, file: string, checksum: string): Promise<string> {
    const path = join(this.snapshot(commit), file),
      temporary = `${path}.tmp-${crypto.randomUUID().slice(0, 8)}`;
    await makeFolder(dirname(path));
    try {
      try {
        await Deno.symlink(relative(dirname(path), this.blob(checksum)), temporary, { type: "file" });
      } catch (error) {
        if (Deno.build.os !== "windows") throw error;
        await Deno.copyFile(this.blob(checksum), temporary); // links need a privilege there
      }
      await Deno.rename(temporary, path);
      return path;
    } catch (error) {
      await Deno.remove(temporary).catch(() => {});
      throw fileError(`Cannot write ${path}`, error, WeightsError);
    }
  }

  /**
   * Keeps other processes, Python's among them, from writing the same content; a lock ends with its process at the
   * latest.
   *
   * @returns what gives the lock back when it is disposed.
   */
  async lock(checksum: string, signal?: AbortSignal): Promise<Disposable> {
    const path = join(this.#locks, `${checksum}.lock`);
    await makeFolder(this.#locks);
    await makeFolder(join(this.folder, "blobs"));
    try {
      const file = await Deno.open(path, { write: true, create: true });
      try {
        while (!await file.tryLock(true)) {
          signal?.throwIfAborted();
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
        return file;
      } catch (error) {
        file.close();
        throw error;
      }
    } catch (error) {
      throw fileError(`Cannot lock ${path}`, error, WeightsError);
    }
  }
}

async function makeFolder(path: string): Promise<void> {
  try {
    await Deno.mkdir(path, { recursive: true });
  } catch (error) {
    throw fileError(`Cannot make folder ${path}`, error, WeightsError);
  }
}
