/**
 * Where the model hub is, where its files are kept, and who asks: from options and from the environment, as all tools
 * of Hugging Face read it.
 *
 * @module
 */
import { homedir } from "node:os";
import { join } from "node:path";
import { WeightsError } from "novae/tensor/mod.ts";

/** How far a download is. */
export interface DownloadProgress {
  /** The file that is being downloaded. */
  readonly file: string;
  /** Bytes that are here, of all files that had to be downloaded; those of an interrupted download count. */
  readonly bytesDone: number;
  /** Bytes of all files that had to be downloaded. */
  readonly bytesTotal: number;
}

/** How files of the hub are fetched. */
export interface HubOptions {
  /** Branch, tag or commit; `main` if omitted. A commit of 40 digits needs no network once its files are here. */
  readonly revision?: string;
  /** Folder of the cache; that of `HF_HUB_CACHE`, `HF_HOME` or `~/.cache/huggingface/hub` if omitted. */
  readonly cacheDir?: string;
  /** Address of the hub; that of `HF_ENDPOINT` or https://huggingface.co if omitted. */
  readonly hubUrl?: string;
  /** Token for private and gated repositories; that of `HF_TOKEN` or of the token file if omitted. */
  readonly accessToken?: string;
  /** Whether only the cache is used; true if omitted and `HF_HUB_OFFLINE` is 1. */
  readonly offline?: boolean;
  /** Called as bytes arrive. */
  readonly onProgress?: (progress: DownloadProgress) => void;
  /** Ends the download; what has arrived is kept and the next call goes on from there. */
  readonly signal?: AbortSignal;
  /** Tries in a row without progress before giving up; 5 if omitted. */
  readonly attempts?: number;
  /** Wait before the second try, doubled each time up to 30 s; 1 if omitted. */
  readonly retryDelaySec?: number;
  /** Silence after which a connection counts as lost; 30 if omitted. */
  readonly timeoutSec?: number;
}

/** Options with everything settled. */
export interface HubSettings {
  /** Branch, tag or commit. */
  readonly revision: string;
  /** Folder of the cache. */
  readonly cacheDir: string;
  /** Address of the hub, without a slash at its end. */
  readonly hubUrl: string;
  /** The token, and where it comes from, for messages; null if there is none. */
  readonly token: { readonly value: string; readonly source: string } | null;
  /** Whether only the cache is used. */
  readonly offline: boolean;
  /** What ends the download. */
  readonly signal: AbortSignal | undefined;
  /** Tries in a row without progress. */
  readonly attempts: number;
  /** Wait before the second try. */
  readonly retryDelaySec: number;
  /** Silence after which a connection counts as lost. */
  readonly timeoutSec: number;
}

/**
 * Settles the options.
 *
 * @throws WeightsError if the address of the hub is none.
 */
export async function hubSettings(options: HubOptions): Promise<HubSettings> {
  const hubUrl = (options.hubUrl ?? setting("HF_ENDPOINT") ?? "https://huggingface.co").replace(/\/+$/, "");
  if (!/^https?:$/.test(URL.parse(hubUrl)?.protocol ?? "")) {
    throw new WeightsError(`Cannot use the model hub: HF_ENDPOINT must be an address, got ${hubUrl}`);
  }
  const offline = options.offline ?? /^(1|on|yes|true)$/i.test(setting("HF_HUB_OFFLINE") ?? "");
  return {
    revision: options.revision ?? "main",
    cacheDir: options.cacheDir ?? cacheFolder(),
    hubUrl,
    token: await findToken(options.accessToken),
    offline,
    signal: options.signal,
    attempts: options.attempts ?? 5,
    retryDelaySec: options.retryDelaySec ?? 1,
    timeoutSec: options.timeoutSec ?? 30,
  };
}

function cacheFolder(): string {
  return expanded(setting("HF_HUB_CACHE") ?? setting("HUGGINGFACE_HUB_CACHE") ?? join(homeFolder(), "hub"));
}

function homeFolder(): string {
  const caches = setting("XDG_CACHE_HOME") ?? join(homedir(), ".cache");
  return expanded(setting("HF_HOME") ?? join(caches, "huggingface"));
}

async function findToken(given: string | undefined): Promise<HubSettings["token"]> {
  if (given) return { value: given, source: "the token given" };
  const named = setting("HF_TOKEN")?.trim();
  if (named) return { value: named, source: "the token of HF_TOKEN" };
  const path = expanded(setting("HF_TOKEN_PATH") ?? join(homeFolder(), "token"));
  const value = (await Deno.readTextFile(path).catch(() => "")).trim(); // most people have none
  return value === "" ? null : { value, source: `the token of ${path}` };
}

/** A variable of the environment; an empty one counts as not set. */
function setting(name: string): string | undefined {
  return Deno.env.get(name) || undefined;
}

function expanded(path: string): string {
  return path.replace(/^~(?=$|[/\\])/, homedir());
}
