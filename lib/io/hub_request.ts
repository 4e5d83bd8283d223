/**
 * Requests to the model hub: with the token, repeated when the connection or the server fails, and with errors that say
 * what a person can do.
 *
 * @module
 */
import { WeightsError } from "novae/tensor/mod.ts";
import type { HubSettings } from "./hub_settings.ts";

const REDIRECT_LIMIT = 10;
const LONGEST_WAIT_SEC = 30;

/** The most that a server's wish to wait is followed; who asks for more is told to a person instead. */
const LONGEST_ASKED_SEC = 60;

/** A failure that may pass: a lost connection, a server that is busy. */
export class PassingFailure extends Error {
  /** The least wait that the server asks for, in seconds. */
  readonly waitSec: number;

  /** Says what happened. */
  constructor(message: string, waitSec = 0) {
    super(message);
    this.waitSec = waitSec;
  }
}

/** Sends requests for one repository. */
export class HubRequests {
  readonly #settings: HubSettings;
  readonly #repo: string;

  /** For the files of a repository. */
  constructor(settings: HubSettings, repo: string) {
    this.#settings = settings;
    this.#repo = repo;
  }

  /** {@link send}, repeated, in the form of `fetch`, which is what the functions of `@huggingface/hub` take. */
  get fetch(): typeof fetch {
    return ((input: string | URL | Request, init?: RequestInit) =>
      this.persist(async () => {
        const timeout = AbortSignal.timeout(this.#settings.timeoutSec * 1000);
        const response = await this.send(String(input), { ...init, signal: timeout });
        const body = await response.arrayBuffer().catch((error) => {
          throw this.lost(error);
        });
        const { status, headers } = response;
        return new Response(body, { status, headers });
      })) as typeof fetch;
  }

  /**
   * Sends one request and follows redirects; the token goes to the hub alone, not to the storage that it redirects to.
   *
   * @returns an answer of status 200 to 299.
   * @throws PassingFailure if a later try may succeed, WeightsError if not.
   */
  async send(url: string, init: RequestInit): Promise<Response> {
    const { hubUrl, token, signal } = this.#settings;
    const stop = AbortSignal.any([signal, init.signal].filter((s) => s instanceof AbortSignal));
    let request: RequestInit = { ...init, signal: stop, redirect: "manual" };
    for (let hop = 0, at = new URL(url); hop < REDIRECT_LIMIT; hop++) {
      const headers = new Headers(request.headers);
      headers.set("user-agent", "novae");
      headers.set("accept-encoding", "identity"); // ranges count the bytes of the file, not of a compressed answer
      if (token !== null && at.origin === new URL(hubUrl).origin) {
        headers.set("authorization", `Bearer ${token.value}`);
      }
      const response = await fetch(at, { ...request, headers }).catch((error) => {
        throw this.lost(error);
      });
      const next = response.headers.get("location");
      if (response.status < 300 || response.status > 399 || next === null) {
        return await this.#checked(response, at);
      }
      await response.body?.cancel();
      if (response.status === 303) request = { ...request, method: "GET", body: undefined };
      at = new URL(next, at);
    }
    throw this.#error(`the hub redirects more than ${REDIRECT_LIMIT} times`);
  }

  /**
   * Repeats a task while it fails in passing, with doubled waits.
   *
   * @param task says by `progressed` that it got on, which makes the next failure count as the first one again.
   */
  async persist<T>(task: (progressed: () => void) => Promise<T>): Promise<T> {
    const { attempts, retryDelaySec, signal } = this.#settings;
    for (let failures = 0;;) {
      try {
        return await task(() => failures = 0);
      } catch (error) {
        if (!(error instanceof PassingFailure)) throw error;
        signal?.throwIfAborted();
        if (++failures >= attempts) {
          throw this.#error(
            `${error.message}, ${attempts} times in a row; HF_HUB_OFFLINE=1 does with what is in the cache`,
          );
        }
        await pause(
          Math.max(error.waitSec, Math.min(LONGEST_WAIT_SEC, retryDelaySec * 2 ** (failures - 1))),
          signal,
        );
      }
    }
  }

  /** A lost connection, unless it was ended on purpose. */
  lost(error: unknown): unknown {
    if (this.#settings.signal?.aborted) return this.#settings.signal.reason;
    const { name, message } = error as Error;
    const reason = name === "TimeoutError" ? `no answer within ${this.#settings.timeoutSec} s` : message;
    return new PassingFailure(`${this.#settings.hubUrl} cannot be reached (${reason.split("\n")[0]})`);
  }

  async #checked(response: Response, at: URL): Promise<Response> {
    const { status, headers } = response;
    if (response.ok) return response;
    await response.body?.cancel();
    if (status >= 500 || status === 408 || status === 429) {
      const asked = askedWaitSec(headers);
      if (asked <= LONGEST_ASKED_SEC) {
        throw new PassingFailure(`${at.host} answers with status ${status}`, asked);
      }
      const hint = status === 429 && this.#settings.token === null ? ", or with HF_TOKEN set to a token" : "";
      throw this.#error(
        `${at.host} answers with status ${status}: run again in ${Math.ceil(asked)} s${hint}`,
      );
    }
    if (status === 416) return response; // the download starts afresh
    throw this.#error(
      this.#refusal(status, headers.get("x-error-code") ?? "", headers.get("x-error-message") ?? ""),
    );
  }

  /** What a status of 400 to 499 means. */
  #refusal(status: number, code: string, message: string): string {
    const { hubUrl, token, revision } = this.#settings, page = `${hubUrl}/${this.#repo}`;
    const invalid = status === 401 && token !== null && /invalid (credentials|username|token)/i.test(message);
    if (invalid) return `${token.source} is not valid: make a new one at ${hubUrl}/settings/tokens`;
    if (code === "GatedRepo") {
      return token === null
        ? `it is gated: accept its licence at ${page} and set HF_TOKEN to a token of that account`
        : `it is gated, and ${token.source} has no access: accept its licence at ${page} with that account`;
    }
    if (code === "RevisionNotFound") return `there is no revision ${revision}, see ${page}`;
    if (code === "EntryNotFound") return `there is no such file at revision ${revision}, see ${page}`;
    if (code === "RepoNotFound" || status === 401 || (status === 404 && code === "")) {
      const who = token === null ? "no token is set (HF_TOKEN)" : `${token.source} has no access`;
      return `there is no such repository, or it is private and ${who}, see ${page}`;
    }
    if (status === 403) {
      return `access is refused${message && ` (${message})`}: see whether ${page} has a licence to accept`;
    }
    return `the hub answers with status ${status}${message && ` (${message})`}`;
  }

  #error(why: string): WeightsError {
    return new WeightsError(`Cannot download ${this.#repo}: ${why}`);
  }
}

/**
 * Seconds that a server asks to wait: `Retry-After` as a number or a date, else when the hub's `RateLimit` is renewed
 * (`"api";r=0;t=55`); 0 if it does not say.
 */
function askedWaitSec(headers: Headers): number {
  const after = headers.get("retry-after")?.trim() ?? "";
  const renewed = /"[^"]*";r=0;t=(\d+)/.exec(headers.get("ratelimit") ?? "")?.[1];
  const seconds = after === ""
    ? Number(renewed ?? 0)
    : /^\d+$/.test(after)
    ? Number(after)
    : (Date.parse(after) - Date.now()) / 1000;
  return seconds > 0 ? seconds : 0;
}

function pause(seconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, seconds * 1000);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
