/**
 * Files of models on the Hugging Face hub, in the cache that all tools of Hugging Face share.
 *
 * @module
 */
import { join } from "node:path";
import { NovaeError, WeightsError } from "novae/tensor/mod.ts";
import { HubCache } from "./hub_cache.ts";
import { downloadBlob, type HubFile } from "./hub_download.ts";
import { HubRequests } from "./hub_request.ts";
import { type HubOptions, type HubSettings, hubSettings } from "./hub_settings.ts";
import { indexedFiles, WEIGHT_NAMES } from "./open_weights.ts";
import { pathExists } from "./read_file.ts";

export type { DownloadProgress, HubOptions } from "./hub_settings.ts";

/** Files of a model that are on this machine. */
export interface ModelFiles {
  /** The repository, e.g. `facebook/dinov2-small`. */
  readonly repo: string;
  /** The commit that the branch or tag stands for; given as `revision`, it names the same files for ever. */
  readonly commit: string;
  /** The folder of that commit's files. */
  readonly folder: string;
  /** Paths by the names in the repository. */
  readonly files: Map<string, string>;
}

/**
 * Brings files of a model repository into the cache, if they are not there, and says where they are.
 *
 * A branch or tag is looked up once and recorded in the cache; the files are those of one commit. Interrupted downloads
 * go on where they stopped, checksums are compared, other processes may fetch the same files at the same time.
 *
 * @param repo e.g. `facebook/dinov2-small`.
 * @param names paths in the repository, e.g. `config.json`.
 * @throws WeightsError if there is no such repository, revision or file, if its licence has to be accepted first, if the
 * hub cannot be reached, or, offline, if a file is not in the cache.
 */
export async function fetchModelFiles(
  repo: string,
  names: readonly string[],
  options: HubOptions = {},
): Promise<ModelFiles> {
  const model = await ModelRepo.open(repo, options);
  return await model.fetch(names);
}

/**
 * Brings the weights of a model into the cache, under whichever of the usual names they have, in one file or several.
 *
 * @param options.alongside other files to bring, e.g. `config.json`.
 * @param options.optional more files to bring, those of them that the repository has.
 * @returns the files; `openWeights(folder)` opens the weights.
 * @throws WeightsError as {@link fetchModelFiles}, and if the repository has no weights of a usual name.
 */
export async function fetchModelWeights(
  repo: string,
  { alongside = [], optional = [], ...options }: HubOptions & {
    readonly alongside?: readonly string[];
    readonly optional?: readonly string[];
  } = {},
): Promise<ModelFiles> {
  const model = await ModelRepo.open(repo, options), here = await usualWeights(model.folder);
  if (here !== null) return await model.fetch([...alongside, ...here], optional);
  if (model.offline) throw model.missing(["weights of a usual name"]);
  const [first] = (await model.describe(WEIGHT_NAMES)).map(({ name }) => name);
  if (first === undefined) {
    throw new WeightsError(
      `Cannot download ${repo}: it must have one of ${WEIGHT_NAMES.join(", ")}, got none`,
    );
  }
  const start = await model.fetch([...alongside, first], optional);
  if (!first.endsWith(".json")) return start;
  return await model.fetch([...start.files.keys(), ...await indexedFiles(start.files.get(first)!)]);
}

/** The files of the weights in a folder, if they are all there. */
async function usualWeights(folder: string): Promise<string[] | null> {
  for (const name of WEIGHT_NAMES) {
    if (!await pathExists(join(folder, name))) continue;
    const parts = name.endsWith(".json") ? await indexedFiles(join(folder, name)) : [];
    const there = await Promise.all(parts.map((part) => pathExists(join(folder, part))));
    if (there.every((is) => is)) return [name, ...parts];
  }
  return null;
}

/** A repository at one commit. */
class ModelRepo {
  readonly offline: boolean;
  readonly folder: string;
  readonly #repo: string;
  readonly #commit: string;
  readonly #settings: HubSettings;
  readonly #cache: HubCache;
  readonly #requests: HubRequests;
  readonly #onProgress: HubOptions["onProgress"];

  private constructor(
    repo: string,
    commit: string,
    settings: HubSettings,
    cache: HubCache,
    requests: HubRequests,
    onProgress: HubOptions["onProgress"],
  ) {
    this.offline = settings.offline;
    this.folder = cache.snapshot(commit);
    this.#repo = repo;
    this.#commit = commit;
    this.#settings = settings;
    this.#cache = cache;
    this.#requests = requests;
    this.#onProgress = onProgress;
  }

  /** Finds the commit of the revision. */
  static async open(repo: string, options: HubOptions): Promise<ModelRepo> {
    if (!/^[\w-][\w.-]*(\/[\w-][\w.-]*)?$/.test(repo) || /--|\.\./.test(repo)) {
      throw new WeightsError(
        `Cannot download ${repo}: a repository must be named like facebook/dinov2-small`,
      );
    }
    const settings = await hubSettings(options), { revision } = settings;
    expectInside(repo, revision);
    const cache = new HubCache(settings.cacheDir, repo), requests = new HubRequests(settings, repo);
    const commit = await findCommit(repo, settings, cache, requests);
    return new ModelRepo(repo, commit, settings, cache, requests, options.onProgress);
  }

  /** Brings what is missing; of the optional files those that the repository has. */
  async fetch(names: readonly string[], optional: readonly string[] = []): Promise<ModelFiles> {
    const files = new Map<string, string>(), missing: string[] = [];
    for (const name of new Set([...names, ...optional])) {
      expectInside(this.#repo, name);
      const path = await this.#cache.find(this.#commit, name);
      if (path !== null) files.set(name, path);
      else if (names.includes(name) || !await this.#cache.knownAbsent(this.#commit, name)) missing.push(name);
    }
    if (missing.length > 0 && this.offline) throw this.missing(missing);
    const found = missing.length > 0 ? await this.describe(missing) : [];
    const absent = missing.filter((name) => !found.some((file) => file.name === name));
    const needed = absent.filter((name) => names.includes(name));
    if (needed.length > 0) {
      const { hubUrl, revision } = this.#settings;
      throw new WeightsError(
        `Cannot download ${this.#repo}: there is no ${needed.join(", ")} at revision ${revision}, ` +
          `see ${hubUrl}/${this.#repo}/tree/${revision}`,
      );
    }
    for (const name of absent) await this.#cache.noteAbsent(this.#commit, name);
    await this.#download(found, files);
    return { repo: this.#repo, commit: this.#commit, folder: this.folder, files };
  }

  /** Asks the hub for sizes and checksums of files, in the order given; those that are not there are left out. */
  async describe(names: readonly string[]): Promise<HubFile[]> {
    const paths = await this.#api(async () =>
      (await import("@huggingface/hub")).pathsInfo({
        repo: this.#repo,
        revision: this.#commit,
        paths: [...names],
        hubUrl: this.#settings.hubUrl,
        fetch: this.#requests.fetch,
      })
    );
    return names.flatMap((name) => {
      const path = paths.find((entry) => entry.path === name && entry.type === "file");
      if (path === undefined) return [];
      const checksum = path.lfs?.oid ?? path.oid ?? "", algorithm = path.lfs ? "sha256" : "git-sha1";
      const bytes = path.lfs?.size ?? path.size;
      if (!(path.lfs ? /^[0-9a-f]{64}$/ : /^[0-9a-f]{40}$/).test(checksum) || !(bytes >= 0)) {
        throw new WeightsError(`Cannot download ${this.#repo}: the hub gives no checksum of ${name}`);
      }
      return [{ name, bytes, checksum, algorithm }];
    });
  }

  /** The error for files that are not in the cache. */
  missing(names: readonly string[]): WeightsError {
    const { revision, cacheDir } = this.#settings;
    return new WeightsError(
      `Cannot download ${this.#repo}: offline (HF_HUB_OFFLINE), and the cache ${cacheDir} does not hold ` +
        `${names.join(", ")} of revision ${revision}`,
    );
  }

  async #download(wanted: readonly HubFile[], files: Map<string, string>): Promise<void> {
    const { hubUrl, signal, timeoutSec } = this.#settings;
    const bytesTotal = wanted.reduce((sum, { bytes }) => sum + bytes, 0);
    let before = 0;
    for (const file of wanted) {
      const path = file.name.split("/").map(encodeURIComponent).join("/");
      await downloadBlob(file, {
        url: `${hubUrl}/${this.#repo}/resolve/${this.#commit}/${path}`,
        requests: this.#requests,
        cache: this.#cache,
        signal,
        timeoutSec,
        onBytes: (done) => this.#onProgress?.({ file: file.name, bytesDone: before + done, bytesTotal }),
      });
      files.set(file.name, await this.#cache.link(this.#commit, file.name, file.checksum));
      before += file.bytes;
    }
  }

  #api<T>(call: () => Promise<T>): Promise<T> {
    return askHub(this.#repo, this.#settings, call);
  }
}

/** The commit that the revision stands for: itself, what the hub says, or, offline, what the hub said last. */
async function findCommit(
  repo: string,
  settings: HubSettings,
  cache: HubCache,
  requests: HubRequests,
): Promise<string> {
  const { revision, hubUrl, cacheDir } = settings;
  if (/^[0-9a-f]{40}$/.test(revision)) return revision;
  if (settings.offline) {
    const recorded = await cache.readRef(revision);
    if (recorded !== null) return recorded;
    throw new WeightsError(
      `Cannot download ${repo}: offline (HF_HUB_OFFLINE), and the cache ${cacheDir} does not hold revision ${revision}`,
    );
  }
  const { sha } = await askHub(repo, settings, async () =>
    (await import("@huggingface/hub")).modelInfo({
      name: repo,
      revision,
      hubUrl,
      additionalFields: ["sha"],
      fetch: requests.fetch,
    }));
  if (!/^[0-9a-f]{40}$/.test(sha)) {
    throw new WeightsError(`Cannot download ${repo}: ${hubUrl} gives no commit`);
  }
  await cache.writeRef(revision, sha);
  return sha;
}

/** Calls a function of `@huggingface/hub`; an answer that it does not understand is told as such. */
async function askHub<T>(repo: string, { hubUrl, signal }: HubSettings, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (error instanceof NovaeError || signal?.aborted) throw error;
    const reason = (error as Error).message.split("\n")[0];
    throw new WeightsError(`Cannot download ${repo}: ${hubUrl} does not answer like a model hub: ${reason}`, {
      cause: error,
    });
  }
}

/** Refuses names that would lead out of the folder they are joined to, on any system. */
function expectInside(repo: string, name: string): void {
  const sound = name.split("/").every((part) =>
    !/^(|\.|\.\.|[a-zA-Z]:.*)$/.test(part) && !/[\\\0]/.test(part)
  );
  if (!sound) throw new WeightsError(`Cannot download ${repo}: a file or revision must not be named ${name}`);
}
