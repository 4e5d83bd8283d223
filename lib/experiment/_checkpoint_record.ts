/**
 * What a checkpoint says of itself in its `state.json`.
 *
 * @module
 */
import { join } from "node:path";
import { z } from "zod";
import { CheckpointError, isBranch } from "novae/tensor/mod.ts";
import { readJson } from "novae/io/mod.ts";
import { parseWith } from "./schema.ts";

/** A file of a checkpoint. */
export interface FileRecord {
  sha256: string;
  bytes: number;
}

/** Contents of `state.json`. */
export interface StateRecord {
  format: 1;
  step: number;
  created: string;
  config: unknown;
  meta: Record<string, unknown>;
  score?: number;
  files: { weights: FileRecord; state: FileRecord };
}

const fileSchema: z.ZodType<FileRecord> = z.strictObject({ sha256: z.string(), bytes: z.number() });
const stateSchema: z.ZodType<StateRecord> = z.strictObject({
  format: z.literal(1),
  step: z.number().int(),
  created: z.string(),
  config: z.unknown(),
  meta: z.record(z.string(), z.unknown()),
  score: z.number().optional(),
  files: z.strictObject({ weights: fileSchema, state: fileSchema }),
});

/** The files beside it, without their ending. */
export const PARTS = ["weights", "state"] as const;

/** @throws CheckpointError if it is missing or damaged. */
export async function readRecord(place: string): Promise<StateRecord> {
  const path = join(place, "state.json");
  return parseWith(
    stateSchema,
    await readJson(path, CheckpointError),
    `Cannot read ${path}`,
    CheckpointError,
  );
}

/** A configuration with the keys that it lacks, group by group. */
export function completed(config: unknown, former: unknown): unknown {
  if (!isGroup(config) || !isGroup(former)) return config;
  const entries = Object.entries(config).map(([key, value]) => [key, completed(value, former[key])]);
  return { ...former, ...Object.fromEntries(entries) };
}

function isGroup(value: unknown): value is Record<string, unknown> {
  return isBranch(value) && !Array.isArray(value);
}
