/**
 * Claim files: several processes, on one machine or on several with a shared folder, share out pieces of work.
 *
 * A claim says that somebody is at work on a piece. It saves doing work twice, no more: clocks, networks and process
 * numbers cannot tell with certainty whether its owner lives, so the work itself must stand being done twice.
 *
 * @module
 */
import os from "node:os";
import { fileError } from "./file_error.ts";
import { isProcessAlive } from "./process_alive.ts";

/** How {@link Claims} judge each other. */
export interface ClaimOptions {
  /** Seconds between signs of life; 5 if omitted. */
  readonly heartbeatSec?: number;
  /** Seconds without a sign of life after which a claim no longer counts; 60 if omitted. */
  readonly staleSec?: number;
}

/** A piece of work that is this process's, until it is released or taken over. */
export interface Claim {
  /** Whether it is still this process's; false after another one took it over. */
  holds(): Promise<boolean>;
  /** Gives it up. */
  release(): Promise<void>;
}

/** What was last seen of another owner's claim. */
interface Sighting {
  /** Owner and time of the last sign of life. */
  readonly stamp: string;
  /** When it was first seen, by this process's own clock (ms). */
  readonly sinceMs: number;
}

/** Takes claims and remembers what it saw of those of others. */
export class Claims {
  readonly #heartbeatSec: number;
  readonly #staleSec: number;
  readonly #seen = new Map<string, Sighting>();

  /** Nothing is claimed yet. */
  constructor({ heartbeatSec = 5, staleSec = 60 }: ClaimOptions = {}) {
    this.#heartbeatSec = heartbeatSec;
    this.#staleSec = staleSec;
  }

  /**
   * Tries to claim a piece of work. The claim of an owner that is dead, or has given no sign of life for long, is
   * taken over; how long is measured by this process's clock alone.
   *
   * @param path the claim file; its folder must exist.
   * @returns null if somebody else is at work on it.
   * @throws NovaeError if the file can be neither written nor read.
   */
  async take(path: string): Promise<Claim | null> {
    const owner = JSON.stringify({ pid: Deno.pid, host: os.hostname(), id: crypto.randomUUID() });
    try {
      await Deno.writeTextFile(path, owner, { createNew: true });
      return this.#hold(path, owner);
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw fileError(`Cannot claim ${path}`, error);
    }
    if (!await this.#isStale(path)) return null;
    return await this.#takeOver(path, owner) ? this.#hold(path, owner) : null;
  }

  /** Puts another owner into a stale claim; of several that try, the first to have the file's lock. */
  async #takeOver(path: string, owner: string): Promise<boolean> {
    try {
      using file = await Deno.open(path, { read: true, write: true });
      // Some network file systems have no locks; two may then do the same work.
      await file.lock(true).catch(() => {});
      if (!await this.#isStale(path)) return false;
      await file.truncate();
      await file.write(new TextEncoder().encode(owner));
      return true;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false; // just released
      throw fileError(`Cannot claim ${path}`, error);
    }
  }

  #hold(path: string, owner: string): Claim {
    this.#seen.delete(path);
    const beat = setInterval(() => {
      const now = new Date();
      Deno.utime(path, now, now).catch(() => {}); // it was taken over and released
    }, this.#heartbeatSec * 1000);
    Deno.unrefTimer(beat);
    const holds = async () => await readOwner(path) === owner;
    const release = async () => {
      clearInterval(beat);
      if (await holds()) await Deno.remove(path).catch(() => {});
    };
    return { holds, release };
  }

  async #isStale(path: string): Promise<boolean> {
    const owner = await readOwner(path), changed = await changeTime(path);
    if (owner === null || changed === null) return false; // just released
    if (isDead(owner)) return true;
    const stamp = `${owner} ${changed}`, now = performance.now(), seen = this.#seen.get(path);
    if (seen?.stamp === stamp) return now - seen.sinceMs > this.#staleSec * 1000;
    this.#seen.set(path, { stamp, sinceMs: now });
    return false;
  }
}

/** Whether an owner was a process of this machine that has ended. */
function isDead(owner: string): boolean {
  try {
    const { pid, host } = JSON.parse(owner);
    return host === os.hostname() && Number.isInteger(pid) && !isProcessAlive(pid);
  } catch {
    return false; // its owner is just writing it, or was killed at that
  }
}

async function readOwner(path: string): Promise<string | null> {
  return await Deno.readTextFile(path).catch(nullIfMissing(path));
}

async function changeTime(path: string): Promise<number | null> {
  return await Deno.stat(path).then(({ mtime }) => mtime?.getTime() ?? 0, nullIfMissing(path));
}

function nullIfMissing(path: string): (error: unknown) => null {
  return (error) => {
    if (error instanceof Deno.errors.NotFound) return null;
    throw fileError(`Cannot read claim ${path}`, error);
  };
}
