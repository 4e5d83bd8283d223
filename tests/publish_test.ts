import assert from "node:assert/strict";

const { exports } = JSON.parse(await Deno.readTextFile("deno.json")) as { exports: Record<string, string> };

Deno.test("the package exports every module of lib under its name, and nothing else", async () => {
  const modules = (await Array.fromAsync(Deno.readDir("lib"))).filter(({ isDirectory }) => isDirectory);
  assert.deepEqual(Object.keys(exports).sort(), modules.map(({ name }) => `./${name}`).sort());
  for (const [name, path] of Object.entries(exports)) {
    // The command line is run, the others are imported.
    assert.equal(path, name === "./cli" ? "./lib/cli/main.ts" : `./lib/${name.slice(2)}/mod.ts`);
    assert.ok((await Deno.stat(path)).isFile);
  }
});

Deno.test("the package can be published: its public types are explicit, and it holds the library alone", async () => {
  const { code, stderr, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["publish", "--dry-run", "--allow-dirty", "--no-check"],
    env: { NO_COLOR: "1" },
  }).output();
  const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  assert.equal(code, 0, text);
  const files = [...text.matchAll(/^ +file:\/\/\S*?\/((?:lib\/\S+)|[^/\s]+) \([\d.]+\w+\)$/gm)].map((match) =>
    match[1]
  );
  const others = files.filter((file) => !file.startsWith("lib/")).sort();
  assert.deepEqual(others, ["CHANGELOG.md", "LICENSE", "README.md", "deno.json"]);
  assert.ok(files.includes("lib/data/image_batches.ts") && files.includes("lib/data/image_worker.ts"));
});
