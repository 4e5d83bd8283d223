/** Running notebooks on the real Deno kernel through Debian's Jupyter packages. */
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { expectedOutputs, outputProblems, readNotebook } from "./notebook.ts";

/** The system's Python, which Debian's packages belong to, before any other on the path. */
const PYTHONS = [Deno.env.get("NOVAE_PYTHON"), "/usr/bin/python3", "python3"].filter((python) =>
  python !== undefined
);

const PACKAGES = "jupyter-client jupyter-nbconvert python3-nbclient";

/** A Python with Jupyter, or why there is none. */
export async function findJupyter(): Promise<{ python: string } | { missing: string }> {
  for (const python of PYTHONS) {
    try {
      const { success } = await new Deno.Command(python, {
        args: ["-c", "import nbclient, nbformat, jupyter_client"],
        stdout: "null",
        stderr: "null",
      }).output();
      if (success) return { python };
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return { missing: `no Python with nbclient found (Debian packages ${PACKAGES}, or set NOVAE_PYTHON)` };
}

/** How to run a notebook. */
export interface RunOptions {
  readonly python: string;
  /** Seconds for the whole notebook. */
  readonly timeoutSec: number;
  /** Folder for the executed notebook and, where nbconvert is there, its HTML. */
  readonly saveTo?: string;
}

/** Runs a notebook from its own folder; returns what went wrong. Nothing of the user's Jupyter is read or changed. */
export async function runNotebook(path: string, options: RunOptions): Promise<string[]> {
  const home = await Deno.makeTempDir({ prefix: "novae-notebook-" });
  try {
    const env = await isolatedJupyter(home);
    const notebook = readNotebook(path);
    const expected = notebook.cells.map((
      cell,
      i,
    ) => [i, cell.cell_type === "code" ? expectedOutputs(cell) : 0]);
    const executed = join(home, basename(path));
    const { success, stdout, stderr } = await new Deno.Command(options.python, {
      args: [
        fileURLToPath(import.meta.resolve("./execute.py")),
        resolve(path),
        executed,
        String(options.timeoutSec),
        JSON.stringify(Object.fromEntries(expected)),
      ],
      env,
      stdout: "piped",
      stderr: "piped",
    }).output();
    const text = new TextDecoder();
    if (!success) return [`the notebook client failed: ${text.decode(stderr).trim().split("\n").at(-1)}`];
    const unsaved = options.saveTo === undefined
      ? []
      : await save(executed, options.saveTo, options.python, env);
    const { error } = JSON.parse(text.decode(stdout).trim().split("\n").at(-1) ?? "");
    if (error !== null) return [`cell ${error.cell} failed: ${error.message}`, ...unsaved];
    return [...outputProblems(readNotebook(executed)), ...unsaved];
  } finally {
    await Deno.remove(home, { recursive: true });
  }
}

/** Jupyter's folders in a place of their own, with a kernel that is this very Deno. */
async function isolatedJupyter(home: string): Promise<Record<string, string>> {
  const spec = join(home, "data", "kernels", "deno");
  await Deno.mkdir(spec, { recursive: true });
  const argv = [Deno.execPath(), "jupyter", "--kernel", "--conn", "{connection_file}"];
  const kernel = { argv, "display_name": "Deno", language: "typescript", env: { NO_COLOR: "1" } };
  await Deno.writeTextFile(join(spec, "kernel.json"), JSON.stringify(kernel));
  return {
    JUPYTER_DATA_DIR: join(home, "data"),
    JUPYTER_CONFIG_DIR: join(home, "config"),
    JUPYTER_RUNTIME_DIR: join(home, "runtime"),
    IPYTHONDIR: join(home, "ipython"),
    JUPYTER_NO_CONFIG: "1",
    NO_COLOR: "1",
  };
}

/** Keeps an executed notebook and its HTML; what went wrong in doing so. */
async function save(
  executed: string,
  folder: string,
  python: string,
  env: Record<string, string>,
): Promise<string[]> {
  await Deno.mkdir(folder, { recursive: true });
  const target = join(folder, basename(executed));
  await Deno.copyFile(executed, target);
  const { success, stderr } = await new Deno.Command(python, {
    args: ["-m", "nbconvert", "--to", "html", target],
    env,
    stdout: "null",
    stderr: "piped",
  }).output();
  if (success) return [];
  return [`its HTML could not be made: ${new TextDecoder().decode(stderr).trim().split("\n").at(-1)}`];
}
