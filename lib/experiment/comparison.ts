/**
 * Several runs side by side.
 *
 * @module
 */
import { join } from "node:path";
import { flattenTree } from "novae/tensor/mod.ts";
import { pathExists, readJson } from "novae/io/mod.ts";
import { listRuns } from "./run_folder.ts";
import { readStatus, type RunStatus } from "./run_status.ts";
import { type TableCell, type TableColumn, TextTable } from "./text_table.ts";

/** What is known about a run from its folder. */
export interface RunOverview {
  /** Where it is. */
  readonly path: string;
  /** Its number. */
  readonly number: number;
  /** What kind of run it is. */
  readonly name: string;
  /** Its state; null if it cannot be read. */
  readonly status: RunStatus | null;
  /** Its resolved configuration; null if it cannot be read. */
  readonly config: unknown;
  /** Its summary; null as long as it has none. */
  readonly summary: unknown;
}

/** Reads what there is of every run under a root; damaged and unfinished ones have nulls instead of an error. */
export async function loadRuns(root: string): Promise<RunOverview[]> {
  return await Promise.all((await listRuns(root)).map(async ({ path, number, name }) => {
    const read = async (file: string): Promise<unknown> =>
      await pathExists(join(path, file)) ? await readJson(join(path, file)).catch(() => null) : null;
    return {
      path,
      number,
      name,
      status: await readStatus(path).catch(() => null),
      config: await read("config.json"),
      summary: await read("summary.json"),
    };
  }));
}

/**
 * Tabulates runs: number, name, state, start and the chosen values of their summaries.
 *
 * @param keys dotted paths into the summaries; if omitted, every number that any of them holds at the top level.
 */
export function compareRuns(runs: readonly RunOverview[], keys?: readonly string[]): TextTable {
  const values = runs.map(({ summary }) =>
    new Map(flattenTree(summary ?? {}, () => false).map(({ path, value }) => [path, value]))
  );
  const found = values.flatMap((summary) =>
    [...summary].filter(([path, value]) => typeof value === "number" && !path.includes(".")).map(([path]) =>
      path
    )
  );
  const chosen = keys ?? [...new Set(found)];
  const fixed: TableColumn[] = [{ title: "run", align: "right" }, { title: "name" }, { title: "state" }, {
    title: "started",
  }];
  const table = new TextTable([...fixed, ...chosen]);
  runs.forEach(({ number, name, status }, i) => {
    const started = status?.started.slice(0, 16).replace("T", " ") ?? null;
    const cells = chosen.map((key) => toCell(values[i].get(key)));
    table.add(number, name, describeState(status), started, ...cells);
  });
  return table;
}

function describeState(status: RunStatus | null): string {
  if (status === null) return "unreadable";
  if (status.state === "failed") return `failed: ${status.error ?? "unknown reason"}`.slice(0, 60);
  return status.stage === null || status.state === "done"
    ? status.state
    : `${status.state} (${status.stage})`;
}

function toCell(value: unknown): TableCell {
  return typeof value === "number" || typeof value === "string" || typeof value === "boolean" ? value : null;
}
