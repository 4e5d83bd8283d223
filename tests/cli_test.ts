import assert from "node:assert/strict";
import { join } from "node:path";

/** Runs the command line in a process of its own, as a person would. */
async function novae(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "lib/cli/main.ts", ...args],
    env: { NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

for (
  const [title, args, message] of [
    ["an unknown command", ["reprduce"], /unknown command 'reprduce'/],
    ["an unknown option", ["reproduce", "--scall", "quick"], /unknown option '--scall'/],
    [
      "a scale that does not exist",
      ["reproduce", "--scale", "huge"],
      /Allowed choices are quick, standard, full/,
    ],
    ["an unknown configuration key", ["reproduce", "--dry-run", "diffusion.imagse=5"], /imagse.*images/],
    ["a data set that is not there", ["reproduce", "data=cifar10", "data.path=/nowhere"], /\/nowhere/],
    [
      "an encoder that is not there",
      ["reproduce", "encoder.path=nowhere.safetensors"],
      /encoder\.path.*nowhere/,
    ],
    [
      "nothing to resume",
      ["reproduce", "--resume"],
      /must hold a run named reproduce-solids-standard, found none/,
    ],
  ] as const
) {
  Deno.test(`${title} is told in one line with exit status 2`, async () => {
    const runs = await Deno.makeTempDir();
    try {
      const where = args[0] === "reproduce" ? ["--runs", runs] : [];
      const { code, stderr } = await novae(...args, ...where);
      const lines = stderr.trimEnd().split("\n").filter((line) => line.startsWith("novae:"));
      assert.equal(code, 2, stderr);
      assert.equal(lines.length, 1, stderr);
      assert.match(lines[0], message);
      assert.ok(!stderr.includes("    at "), "no stack trace");
      assert.deepEqual(
        [...Deno.readDirSync(runs)].length,
        title.startsWith("a data set") ? 1 : 0,
        "run folders",
      );
    } finally {
      await Deno.remove(runs, { recursive: true });
    }
  });
}

Deno.test("data show draws a contact sheet", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const out = join(folder, "sheet.png");
    const { code, stdout, stderr } = await novae(
      "data",
      "show",
      "--count",
      "10",
      "--size",
      "16",
      "--out",
      out,
    );
    assert.equal(code, 0, stderr);
    assert.match(stdout, /10 images of solids\/train/);
    assert.deepEqual([...(await Deno.readFile(out)).subarray(1, 4)], [80, 78, 71]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("devices says which device works, which not, and what auto takes and why", async () => {
  const { code, stdout } = await novae("devices");
  assert.equal(code, 0);
  assert.match(stdout, /│ cpu +│ yes +│ \d+ logical processors/);
  assert.match(stdout, /│ (coreml|dml) +│ no +│ /);
  assert.match(stdout, /\nauto takes \S+: .+/);
});

Deno.test("runs lists run folders", async () => {
  const { code } = await novae("runs", "--root", await Deno.makeTempDir());
  assert.equal(code, 0);
});
