import assert from "node:assert/strict";

/** Modules from the lowest to the highest; a module may import from those before it. */
const LAYERS = [
  "tensor",
  "engine",
  "io",
  "data",
  "nn",
  "dino",
  "autoencoder",
  "diffusion",
  "analysis",
  "evaluation",
  "experiment",
  "plot",
  "study",
  "cli",
];

interface Edge {
  from: string;
  to: string;
}

Deno.test("every module of lib has its place in the layers", async () => {
  const found: string[] = [];
  for await (const entry of Deno.readDir("lib")) if (entry.isDirectory) found.push(entry.name);
  assert.deepEqual(found.sort(), [...LAYERS].sort());
});

Deno.test("imports between modules point to lower layers only", async () => {
  const wrong = (await imports()).filter(({ from, to }) => {
    const [above, below] = [moduleOf(from), moduleOf(to)];
    return above !== below && LAYERS.indexOf(below) >= LAYERS.indexOf(above);
  });
  assert.deepEqual(wrong, []);
});

Deno.test("another module is imported through its mod.ts", async () => {
  const wrong = (await imports()).filter(({ from, to }) =>
    moduleOf(from) !== moduleOf(to) && !to.endsWith("/mod.ts")
  );
  assert.deepEqual(wrong, []);
});

Deno.test("no files import each other in a cycle", async () => {
  const graph = new Map<string, string[]>();
  for (const { from, to } of await imports()) graph.set(from, [...graph.get(from) ?? [], to]);
  const done = new Set<string>(), cycles: string[] = [];
  const visit = (file: string, path: string[]): void => {
    if (path.includes(file)) return void cycles.push([...path.slice(path.indexOf(file)), file].join(" -> "));
    if (done.has(file)) return;
    for (const next of graph.get(file) ?? []) visit(next, [...path, file]);
    done.add(file);
  };
  for (const file of graph.keys()) visit(file, []);
  assert.deepEqual(cycles, []);
});

let cached: Edge[] | undefined;

/** All import edges between files of lib, type imports left out since they vanish when compiled. */
async function imports(): Promise<Edge[]> {
  if (cached) return cached;
  const edges: Edge[] = [];
  for (const module of LAYERS) {
    for await (const from of files(module)) {
      const source = withoutComments(await Deno.readTextFile(`lib/${from}`));
      const statements = source.matchAll(
        /(?:import|export)\s+(type\s+)?(?:[\w*{},\s]*?\sfrom\s+)?"([^"]+)"/g,
      );
      for (const [, typeOnly, target] of statements) {
        const inside = target.startsWith("novae/") ? target.slice(6) : resolved(from, target);
        if (inside?.endsWith(".ts") && !typeOnly) edges.push({ from, to: inside });
      }
    }
  }
  assert.ok(edges.length > 50, "the pattern finds the imports");
  return cached = edges;
}

/** Source without block comments, whose examples hold imports too. */
function withoutComments(source: string): string {
  return source.replaceAll(/\/\*\*[\s\S]*?\*\//g, "");
}

async function* files(folder: string): AsyncGenerator<string> {
  for await (const entry of Deno.readDir(`lib/${folder}`)) {
    if (entry.isDirectory) yield* files(`${folder}/${entry.name}`);
    else if (entry.name.endsWith(".ts")) yield `${folder}/${entry.name}`;
  }
}

function resolved(from: string, target: string): string | null {
  if (!target.startsWith(".")) return null;
  return new URL(target, `file:///${from}`).pathname.slice(1);
}

function moduleOf(file: string): string {
  return file.split("/")[0];
}
