import assert from "node:assert/strict";
import { compareRuns, formatDuration, loadRuns, RunFolder, TextTable } from "novae/experiment/mod.ts";

function example(): TextTable {
  const columns = ["space", { title: "FD 25", digits: 1 }, { title: "acc", digits: 3 }, "note"];
  return new TextTable(columns).add("vae", 123.456, 0.5, "weak").addLine().add("svg–é", -9.04, null, 3);
}

Deno.test("a table aligns text left and numbers right, in every style", () => {
  assert.equal(
    example().toString(),
    [
      "┌───────┬───────┬───────┬──────┐",
      "│ space │ FD 25 │   acc │ note │",
      "├───────┼───────┼───────┼──────┤",
      "│ vae   │ 123.5 │ 0.500 │ weak │",
      "├───────┼───────┼───────┼──────┤",
      "│ svg–é │  −9.0 │     – │ 3    │",
      "└───────┴───────┴───────┴──────┘",
    ].join("\n"),
  );
  assert.equal(
    example().toString("plain"),
    ["space  FD 25    acc  note", "vae    123.5  0.500  weak", "", "svg–é   −9.0      –  3"].join("\n"),
  );
  assert.equal(
    example().toString("markdown"),
    [
      "| space | FD 25 |   acc | note |",
      "| ----- | ----: | ----: | ---- |",
      "| vae   | 123.5 | 0.500 | weak |",
      "| svg–é |  −9.0 |     – | 3    |",
    ].join("\n"),
  );
});

Deno.test("numbers without given digits keep four figures, colour codes take no room", () => {
  const table = new TextTable(["x", { title: "y", align: "right" }]);
  table.add(1234567, "a").add(0.000123456, "\x1b[31mred\x1b[0m").add(Infinity, true).add(NaN, undefined);
  assert.deepEqual(table.toString("plain").split("\n").slice(1), [
    "  1234567     a",
    "0.0001235   \x1b[31mred\x1b[0m",
    "        ∞  true",
    "      NaN     –",
  ]);
  assert.throws(() => table.add(1), TypeError);
});

Deno.test("lengths of time are told in words", () => {
  const cases: [number, string][] = [
    [0, "0.0 s"],
    [-1, "0.0 s"],
    [9.94, "9.9 s"],
    [9.96, "10 s"],
    [59.4, "59 s"],
    [59.6, "1 min 00 s"],
    [250, "4 min 10 s"],
    [3599.6, "1 h 00 min"],
    [7325, "2 h 02 min"],
    [Infinity, "?"],
  ];
  for (const [sec, text] of cases) assert.equal(formatDuration(sec), text);
});

Deno.test("runs are tabulated with the numbers of their summaries, unfinished and damaged ones too", async () => {
  const root = await Deno.makeTempDir(), device = { device: "cpu", reason: "asked for" };
  const make = (name: string) =>
    RunFolder.create({ root, name, config: {}, configInput: {}, seed: 0, device });
  await (await make("one")).finish({ fd: 3.25, note: "x", deep: { acc: 0.5 } });
  (await make("two")).setState("failed", "DataError: gone");
  const three = await make("three");
  three.setStage("train");
  await Deno.writeTextFile(`${(await make("four")).path}/status.json`, "{");
  const runs = await loadRuns(root);
  const table = (keys?: string[]) =>
    compareRuns(runs, keys).toString("plain").split("\n").map((line) =>
      line.replace(/\d{4}-\d\d-\d\d \d\d:\d\d/, "DATE").replace(/ {2,}/g, "|").trim()
    );
  assert.deepEqual(table(), [
    "run|name|state|started|fd",
    "|0|one|done|DATE|3.25",
    "|1|two|failed: DataError: gone|DATE|–",
    "|2|three|running (train)|DATE|–",
    "|3|four|unreadable|–|–",
  ]);
  assert.match(table(["deep.acc", "note"])[1], /DATE\|0\.5\|x$/);
  assert.deepEqual(await loadRuns(`${root}/none`), []);
});
