/**
 * The state of a run, in `status.json` of its folder.
 *
 * @module
 */
import os from "node:os";
import { z } from "zod";
import { DataError } from "novae/tensor/mod.ts";
import { isProcessAlive, readJson, writeJsonSync } from "novae/io/mod.ts";
import { parseWith } from "./schema.ts";

/** "failed": an error ended it; "stopped": a person did. A run that was killed still says "running". */
export type RunState = "running" | "done" | "failed" | "stopped";

/** What `status.json` holds. */
export interface RunStatus {
  /** How the run is. */
  state: RunState;
  /** Updates done in the stage at work; 0 outside training. */
  step: number;
  /** The stage at work; null before the first and after the last. */
  stage: string | null;
  /** When the run was first started (ISO 8601). */
  started: string;
  /** When this file was last written (ISO 8601). */
  heartbeat: string;
  /** One line that says why it failed; null otherwise. */
  error: string | null;
  /** Process that runs it. */
  pid: number;
  /** Machine whose process that is. */
  host: string;
}

const statusSchema: z.ZodType<RunStatus> = z.strictObject({
  state: z.enum(["running", "done", "failed", "stopped"]),
  step: z.number(),
  stage: z.string().nullable(),
  started: z.string(),
  heartbeat: z.string(),
  error: z.string().nullable(),
  pid: z.number(),
  host: z.string(),
});

/** The status of a run that this process starts now. */
export function newStatus(): RunStatus {
  const now = new Date().toISOString();
  const { pid } = Deno, host = os.hostname();
  return { state: "running", step: 0, stage: null, started: now, heartbeat: now, error: null, pid, host };
}

/**
 * Reads `status.json` of a run folder.
 *
 * @throws DataError if it is missing or damaged.
 */
export async function readStatus(folder: string): Promise<RunStatus> {
  const path = `${folder}/status.json`;
  return parseWith(statusSchema, await readJson(path), `Cannot read ${path}`, DataError);
}

/** Writes `status.json` of a run folder with the time of now as heartbeat. */
export function writeStatus(folder: string, status: RunStatus): void {
  status.heartbeat = new Date().toISOString();
  writeJsonSync(`${folder}/status.json`, status);
}

/** Whether another living process on this machine is at work on a run. */
export function isRunningElsewhere(status: RunStatus): boolean {
  if (status.state !== "running" || status.host !== os.hostname() || status.pid === Deno.pid) return false;
  return isProcessAlive(status.pid);
}
