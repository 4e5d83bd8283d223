import assert from "node:assert/strict";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { checkNotebook, committedNotebooks } from "./notebooks/check_notebooks.ts";
import { findJupyter, runNotebook } from "./notebooks/kernel.ts";
import {
  type Cell,
  commitProblems,
  expectedOutputs,
  formatProblems,
  type Notebook,
  typeProblems,
} from "./notebooks/notebook.ts";

const REQUIRED = Deno.env.get("NOVAE_REQUIRE_ALL") === "1";
const jupyter = await findJupyter();
const missing = "missing" in jupyter ? jupyter.missing : undefined;
if (missing !== undefined && !REQUIRED) console.warn(`Skipping the execution of notebooks: ${missing}`);

for (const path of committedNotebooks()) {
  Deno.test(`${basename(path)} is clean, type-checks and runs on the Deno kernel with every output`, async () => {
    assert.deepEqual((await checkNotebook(path)).problems, []);
  });
}

Deno.test("a notebook with outputs, run counts, hidden tests or without metadata is not for committing", () => {
  const cell = {
    ...code("Deno.test('x', () => {});"),
    outputs: [{ output_type: "stream" as const }],
    "execution_count": 3,
  };
  const problems = commitProblems({ nbformat: 4, metadata: {}, cells: [cell] });
  assert.equal(problems.length, 5);
  assert.deepEqual(commitProblems(notebook([code("1 + 1;")])), []);
});

Deno.test("a cell makes an output for each display, for its prints together and for a bare last name", () => {
  assert.equal(expectedOutputs(code("await displayFigure(\n  figure,\n);\nawait displayTable(table);")), 2);
  assert.equal(expectedOutputs(code('console.log("a");\nconsole.log("b");')), 1);
  assert.equal(expectedOutputs(code("const shape = x.shape;\nx.shape;")), 1);
  assert.equal(
    expectedOutputs(code("const shape = x.shape;\nfor (const a of b) {\n  displayFigure(a);\n}")),
    0,
  );
  assert.equal(expectedOutputs({ ...code("show();"), metadata: { novae: { outputs: 3 } } }), 3);
});

Deno.test("a cell that deno fmt would change is told, and cells without a last line feed are not", async () => {
  await withNotebook([code("const a = 1;\nconst b = 2;")], async (path) => {
    assert.deepEqual(await formatProblems(path), []);
  });
  await withNotebook([code("const a   = 1")], async (path) => {
    assert.match((await formatProblems(path))[0], /^not formatted: run deno fmt --no-config/);
  });
});

Deno.test("a type error is found across cells and told with its cell and line", async () => {
  await withNotebook([
    code("const n: number = 1;"),
    code("const a = 2;\nconst s: string = n;\nconsole.log(a, s);"),
  ], async (path) => {
    const [problem] = await typeProblems(path);
    assert.match(problem, /Type 'number' is not assignable to type 'string'/);
    assert.match(problem, /cell 1 line 2/);
  });
});

Deno.test({
  name: "errors, timeouts and lost outputs fail a notebook, and late outputs do not",
  ignore: missing !== undefined && !REQUIRED,
  fn: async (t) => {
    assert.ok("python" in jupyter, missing ?? "");
    const run = (cells: Cell[], timeoutSec = 60) => {
      let problems: string[] = [];
      return withNotebook(cells, async (path) => {
        problems = await runNotebook(path, { python: jupyter.python, timeoutSec });
      }).then(() => problems);
    };
    await t.step("an error is told with its cell", async () => {
      const problems = await run([code("const a = 1;"), code('throw new RangeError("too far");')]);
      assert.equal(problems.length, 1);
      assert.match(problems[0], /^cell 1 failed: .*too far/s);
    });
    await t.step("an endless cell is stopped", async () => {
      const problems = await run([code("await new Promise((done) => setTimeout(done, 100_000));")], 3);
      assert.match(problems[0], /^cell 0 failed: took longer/);
    });
    await t.step("an output that never comes is missed, one that does is kept", async () => {
      const problems = await run([
        code('await Deno.jupyter.display({ "text/plain": "here" }, { raw: true });'),
        { ...code("const b = 2;"), metadata: { novae: { outputs: 1 } } },
        code("b;"),
      ]);
      assert.deepEqual(problems, ["cell 1 lost an output: wanted at least 1, got 0"]);
    });
  },
});

function code(source: string): Cell {
  return { cell_type: "code", source, metadata: {}, outputs: [], execution_count: null };
}

function notebook(cells: Cell[]): Notebook & { nbformat_minor: number } {
  return {
    cells,
    metadata: { kernelspec: { name: "deno", "display_name": "Deno" }, language_info: { name: "typescript" } },
    nbformat: 4,
    nbformat_minor: 4,
  };
}

/** Writes a notebook into a folder of its own inside the repository, so that the import map is found. */
async function withNotebook(cells: Cell[], work: (path: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({
    dir: fileURLToPath(import.meta.resolve("./notebooks")),
    prefix: ".tmp-",
  });
  try {
    const path = join(folder, "probe.ipynb");
    await Deno.writeTextFile(path, JSON.stringify(notebook(cells)));
    await work(path);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
