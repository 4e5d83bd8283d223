/**
 * Checks the committed notebooks: no outputs, formatted, type-checked, and executed on the real Deno kernel without an
 * error or a lost output.
 *
 * usage: deno task nb [--timeout SEC] [--save DIR] [--no-run] [NOTEBOOK…]
 *
 * --timeout SEC  seconds for each notebook (default 480)
 * --save DIR     keep the executed notebooks and their HTML in DIR
 * --no-run       leave the execution out
 *
 * Where Jupyter is missing the execution is skipped and said to be; with NOVAE_REQUIRE_ALL=1 that is a failure.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { findJupyter, runNotebook } from "./kernel.ts";
import { commitProblems, formatProblems, readNotebook, typeProblems } from "./notebook.ts";

/** How to check. */
export interface CheckOptions {
  readonly timeoutSec?: number;
  readonly saveTo?: string;
  readonly run?: boolean;
}

/** What was found out about a notebook. */
export interface CheckReport {
  readonly problems: readonly string[];
  /** Why the notebook was not executed, if it was not. */
  readonly skipped?: string;
}

const FOLDER = fileURLToPath(import.meta.resolve("../../notebooks"));

/** The committed notebooks, sorted by name. */
export function committedNotebooks(): string[] {
  return [...Deno.readDirSync(FOLDER)].filter((entry) => entry.name.endsWith(".ipynb"))
    .map((entry) => join(FOLDER, entry.name)).toSorted();
}

/** Checks one notebook; it is executed only if nothing else is wrong with it. */
export async function checkNotebook(path: string, options: CheckOptions = {}): Promise<CheckReport> {
  const problems = [
    ...commitProblems(readNotebook(path)),
    ...await formatProblems(path),
    ...await typeProblems(path),
  ];
  if (problems.length > 0) return { problems };
  if (options.run === false) return { problems, skipped: "--no-run" };
  const jupyter = await findJupyter();
  if ("missing" in jupyter) {
    if (Deno.env.get("NOVAE_REQUIRE_ALL") === "1") return { problems: [jupyter.missing] };
    return { problems, skipped: jupyter.missing };
  }
  const { timeoutSec = 480, saveTo } = options;
  return { problems: await runNotebook(path, { python: jupyter.python, timeoutSec, saveTo }) };
}

async function main(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      timeout: { type: "string", default: "480" },
      save: { type: "string" },
      "no-run": { type: "boolean", default: false },
    },
  });
  const options = { timeoutSec: Number(values.timeout), saveTo: values.save, run: !values["no-run"] };
  let failed = 0;
  for (const path of positionals.length > 0 ? positionals : committedNotebooks()) {
    const start = performance.now();
    const { problems, skipped } = await checkNotebook(path, options);
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    const verdict = problems.length > 0
      ? "failed"
      : skipped === undefined
      ? "ok"
      : `not executed: ${skipped}`;
    console.log(`${path}: ${verdict} (${seconds} s)`);
    for (const problem of problems) console.log(problem.replaceAll(/^/gm, "  "));
    if (problems.length > 0) failed++;
  }
  return failed === 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
