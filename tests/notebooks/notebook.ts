/** Committed notebooks: reading them, and what can be said of them without running them. */
import { basename, dirname, join } from "node:path";

/** How `deno fmt` formats notebooks; `deno.json` leaves them to {@linkcode formatProblems}. */
const FORMAT = ["--no-config", "--line-width=110"];

/** A notebook file, format 4. */
export interface Notebook {
  readonly cells: readonly Cell[];
  readonly metadata: {
    readonly kernelspec?: { readonly name?: string; readonly "display_name"?: string };
    readonly "language_info"?: { readonly name?: string };
  };
  readonly nbformat: number;
}

/** A cell of a notebook. */
export interface Cell {
  readonly "cell_type": "code" | "markdown" | "raw";
  readonly source: string | readonly string[];
  readonly metadata?: { readonly novae?: { readonly outputs?: number } };
  readonly outputs?: readonly Output[];
  readonly "execution_count"?: number | null;
}

/** An output of a code cell. */
export interface Output {
  readonly "output_type": "stream" | "display_data" | "execute_result" | "error";
}

/** Reads a notebook. */
export function readNotebook(path: string): Notebook {
  return JSON.parse(Deno.readTextFileSync(path));
}

/** The text of a cell. */
export function sourceOf(cell: Cell): string {
  return typeof cell.source === "string" ? cell.source : cell.source.join("");
}

/** What keeps a notebook from being committed: outputs, run counts, missing metadata, tests that would pass unseen. */
export function commitProblems(notebook: Notebook): string[] {
  const problems: string[] = [];
  if (notebook.nbformat !== 4) problems.push(`nbformat must be 4, got ${notebook.nbformat}`);
  const { kernelspec } = notebook.metadata;
  if (kernelspec?.name !== "deno" || kernelspec.display_name === undefined) {
    problems.push('metadata.kernelspec must have the name "deno" and a display_name');
  }
  if (notebook.metadata.language_info?.name !== "typescript") {
    problems.push('metadata.language_info.name must be "typescript", or deno fmt leaves the cells alone');
  }
  notebook.cells.forEach((cell, i) => {
    if (cell.cell_type !== "code") return;
    if ((cell.outputs ?? []).length > 0) problems.push(`cell ${i} has outputs: clear them`);
    if (typeof cell.execution_count === "number") problems.push(`cell ${i} has a run count: clear it`);
    if (/\bDeno\.test\(/.test(sourceOf(cell))) {
      problems.push(`cell ${i} calls Deno.test, whose failure the kernel hides: assert instead`);
    }
  });
  return problems;
}

/**
 * How many outputs a cell makes at least: what its metadata say (`novae.outputs`), else one for each display call and
 * bare name at top level, and one for all console calls there, whose text runs together.
 */
export function expectedOutputs(cell: Cell): number {
  const stated = cell.metadata?.novae?.outputs;
  if (stated !== undefined) return stated;
  const lines = sourceOf(cell).trimEnd().split("\n");
  const displays = lines.filter((line) => /^(?:await )?(?:Deno\.jupyter\.)?display\w*\(/.test(line)).length;
  const prints = lines.some((line) => /^console\.(?:log|info|table)\(/.test(line)) ? 1 : 0;
  const result = /^[A-Za-z_$][\w$]*(?:\.[\w$]+|\[[^\]]+\])*;?$/.test(lines.at(-1) ?? "") ? 1 : 0;
  return displays + prints + result;
}

/** Problems of an executed notebook: cells that made fewer outputs than they must. */
export function outputProblems(notebook: Notebook): string[] {
  return notebook.cells.flatMap((cell, i) => {
    if (cell.cell_type !== "code") return [];
    const wanted = expectedOutputs(cell), got = cell.outputs?.length ?? 0;
    return got >= wanted ? [] : [`cell ${i} lost an output: wanted at least ${wanted}, got ${got}`];
  });
}

/** The code cells as one module, and the module's first line of each cell, counted from 0. */
export function asModule(notebook: Notebook): { text: string; starts: Map<number, number> } {
  const starts = new Map<number, number>();
  const lines: string[] = [];
  notebook.cells.forEach((cell, i) => {
    if (cell.cell_type !== "code") return;
    starts.set(i, lines.length);
    lines.push(...sourceOf(cell).split("\n"));
  });
  // A module, not a script, also where no cell imports anything.
  lines.push("export {};", "");
  return { text: lines.join("\n"), starts };
}

/**
 * Type-checks and lints the code cells joined into one module, which stands beside the notebook for a moment so that
 * its imports resolve.
 */
export async function typeProblems(path: string): Promise<string[]> {
  const { text, starts } = asModule(readNotebook(path));
  const module = join(dirname(path), `.check-${crypto.randomUUID()}-${basename(path, ".ipynb")}.ts`);
  const locate = (line: number) => {
    const [cell, start] = [...starts].findLast(([, start]) => start < line) ?? [0, 0];
    return `cell ${cell} line ${line - start}`;
  };
  const plain = (output: string) =>
    output.trim().replaceAll(
      new RegExp(`\\S*${basename(module).replaceAll(".", "\\.")}:(\\d+)(:\\d+)?`, "g"),
      (_, line) => locate(Number(line)),
    );
  await Deno.writeTextFile(module, text);
  try {
    const problems: string[] = [];
    for (const args of [["check", "--quiet", module], ["lint", "--quiet", module]]) {
      const output = await deno(args);
      if (output !== undefined) problems.push(plain(output));
    }
    return problems;
  } finally {
    await Deno.remove(module);
  }
}

/**
 * Whether `deno fmt` would change the notebook. A copy is formatted and compared, because `deno fmt --check` (2.9.6)
 * calls every notebook unformatted whose cells do not end with a line feed, as Jupyter's never do.
 */
export async function formatProblems(path: string): Promise<string[]> {
  const folder = await Deno.makeTempDir({ prefix: "novae-notebook-" });
  try {
    const copy = join(folder, basename(path));
    await Deno.copyFile(path, copy);
    const output = await deno(["fmt", ...FORMAT, "--quiet", copy]);
    if (output !== undefined) return [output.trim()];
    if (await Deno.readTextFile(copy) === await Deno.readTextFile(path)) return [];
    return [`not formatted: run deno fmt ${FORMAT.join(" ")} ${path}`];
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Runs this Deno with arguments; its output if it fails. */
async function deno(args: readonly string[]): Promise<string | undefined> {
  const command = new Deno.Command(Deno.execPath(), {
    args: [...args],
    env: { NO_COLOR: "1" },
    stdout: "piped",
    stderr: "piped",
  });
  const { success, stdout, stderr } = await command.output();
  if (success) return undefined;
  const decoder = new TextDecoder();
  return `${decoder.decode(stderr)}${decoder.decode(stdout)}`;
}
