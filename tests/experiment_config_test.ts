import assert from "node:assert/strict";
import { z } from "zod";
import { ConfigError, DataError } from "novae/tensor/mod.ts";
import { applyOverrides, parseWith } from "novae/experiment/mod.ts";
import { describeDifference, firstDifference } from "novae/io/mod.ts";

const CONFIG = {
  seed: 0,
  data: { name: "solids", path: null as string | null, train: 4000 },
  train: { learningRate: 1e-4, ema: true, steps: [5, 10], spaces: ["vae", "svg"], free: [] as unknown[] },
};

Deno.test("overrides take the type of the value they replace and leave the original alone", () => {
  const before = structuredClone(CONFIG);
  const changed = applyOverrides(CONFIG, [
    "seed=-7",
    "train.learningRate=3e-4",
    "train.ema=false",
    "data.name=a=b c",
    "data.path=../x",
    "train.steps=1, 2,3",
    "train.spaces=dino",
    "train.free=[1,[2]]",
  ]);
  assert.deepEqual(changed, {
    seed: -7,
    data: { name: "a=b c", path: "../x", train: 4000 },
    train: { learningRate: 3e-4, ema: false, steps: [1, 2, 3], spaces: ["dino"], free: [1, [2]] },
  });
  assert.deepEqual(CONFIG, before);
});

Deno.test("a group with a name is set by it, null sets null, items of lists are keys", () => {
  assert.equal(applyOverrides(CONFIG, ["data=cifar10"]).data.name, "cifar10");
  assert.equal(applyOverrides(CONFIG, ["data.path=x", "data.path=null"]).data.path, null);
  assert.deepEqual(applyOverrides(CONFIG, ["train.steps.1=25"]).train.steps, [5, 25]);
  assert.deepEqual(applyOverrides(CONFIG, ["train.steps=[7]", "train.spaces="]).train.steps, [7]);
  assert.deepEqual(applyOverrides({ limit: null }, ["limit=12"]), { limit: 12 });
});

Deno.test("overrides that do not fit are refused in one line that names the key", () => {
  const cases: [string, string][] = [
    ["seed", 'Cannot change reproduce: a change must be key.path=value, got "seed"'],
    ["=3", 'Cannot change reproduce: a change must be key.path=value, got "=3"'],
    ["sed=3", 'Cannot change reproduce: there is no key "sed"; the nearest key is "seed"'],
    [
      "train.learningrate=1",
      'Cannot change reproduce: there is no key "train.learningrate"; the nearest key is "train.learningRate"',
    ],
    [
      "learningRate=1",
      'Cannot change reproduce: there is no key "learningRate"; the nearest key is "train.learningRate"',
    ],
    ["dta.path=1", 'Cannot change reproduce: there is no key "dta.path"; the nearest key is "data.path"'],
    ["seed.x=1", 'Cannot change reproduce: there is no key "seed.x"; the nearest key is "seed"'],
    ["toString=1", 'Cannot change reproduce: there is no key "toString"; the nearest key is "data.train"'],
    ["train.steps.length=0", 'Cannot change reproduce: there is no key "train.steps.length"; the nearest'],
    ["train.steps.2=0", 'Cannot change reproduce: there is no key "train.steps.2"; the nearest'],
    ["seed=many", 'Cannot change reproduce: "seed" must be a number, got "many"'],
    ["seed=", 'Cannot change reproduce: "seed" must be a number, got ""'],
    ["seed=Infinity", 'Cannot change reproduce: "seed" must be a number, got "Infinity"'],
    ["train.ema=1", 'Cannot change reproduce: "train.ema" must be true or false, got "1"'],
    ["train.steps=1,x", 'Cannot change reproduce: "train.steps" must be a number, got "x"'],
    [
      "train.steps=[1",
      'Cannot change reproduce: "train.steps" must be a list such as [1,2] or 1,2, got "[1"',
    ],
    [
      "train.steps=[false]",
      'Cannot change reproduce: "train.steps" must be a list whose items are each a number',
    ],
    ["train=3", 'Cannot change reproduce: "train" is a group; set one of train.learningRate, train.ema,'],
  ];
  for (const [override, message] of cases) {
    assert.throws(() => applyOverrides(CONFIG, [override], "reproduce"), (error: Error) => {
      assert.ok(error instanceof ConfigError);
      if (override !== "toString=1") assert.equal(error.message.slice(0, message.length), message);
      return true;
    });
  }
});

const schema = z.strictObject({
  model: z.strictObject({ depth: z.number().int().min(1).max(99), kind: z.enum(["vae", "svg"]) }),
  rate: z.number().positive().default(0.1),
  path: z.union([z.string().min(2), z.null()]).default(null),
  sizes: z.array(z.number().multipleOf(8)).min(1).default([8]),
}).refine((c) => c.model.depth !== 13, "the depth must not be unlucky");

Deno.test("a valid value comes back with its defaults", () => {
  assert.deepEqual(parseWith(schema, { model: { depth: 2, kind: "svg" } }, "Cannot use configuration"), {
    model: { depth: 2, kind: "svg" },
    rate: 0.1,
    path: null,
    sizes: [8],
  });
});

Deno.test("an invalid value is described in one line: the key, what was wanted, what came", () => {
  const good = { model: { depth: 2, kind: "svg" } };
  const cases: [unknown, string][] = [
    [{ ...good, model: { depth: 2.5, kind: "svg" } }, '"model.depth" must be a whole number, got 2.5'],
    [{ ...good, model: { depth: 0, kind: "svg" } }, '"model.depth" must be at least 1, got 0'],
    [{ ...good, model: { depth: 100, kind: "svg" } }, '"model.depth" must be at most 99, got 100'],
    [{ ...good, model: { depth: 2 } }, '"model.kind" must be one of "vae", "svg", got nothing'],
    [{ ...good, model: { depth: 2, kind: "gan" } }, '"model.kind" must be one of "vae", "svg", got "gan"'],
    [{ ...good, model: 3 }, '"model" must be a group of keys, got 3'],
    [{ ...good, rate: 0 }, '"rate" must be more than 0, got 0'],
    [{ ...good, rate: "x".repeat(90) }, `"rate" must be a number, got "${"x".repeat(56)}…`],
    [{ ...good, rate: NaN }, '"rate" must be a number, got NaN'],
    [{ ...good, path: 4 }, '"path" must be text or null, got 4'],
    [{ ...good, sizes: [] }, '"sizes" must be at least 1 items, got []'],
    [{ ...good, sizes: [8, 9] }, '"sizes.1" must be a multiple of 8, got 9'],
    [
      { ...good, model: { depth: 2, kind: "svg", dept: 3 } },
      'there is no key "model.dept"; the nearest key is "model.depth"',
    ],
    [
      { ...good, rat: 1, siz: 2 },
      'there is no key "rat"; the nearest key is "rate"; there is no key "siz"; the nearest key is "sizes"',
    ],
    [{ ...good, model: { depth: 13, kind: "svg" } }, "the depth must not be unlucky"],
    [null, "it must be a group of keys, got null"],
    [
      { model: { depth: "a", kind: "b" }, rate: "c", path: 1, sizes: 2 },
      '"model.depth" must be a number, got "a"; "model.kind" must be one of "vae", "svg", got "b"; "rate" must be a number, got "c"; and 2 more',
    ],
  ];
  for (const [input, message] of cases) {
    assert.throws(() => parseWith(schema, input, "Cannot use configuration"), {
      name: "ConfigError",
      message: `Cannot use configuration: ${message}`,
    });
  }
  assert.throws(() => parseWith(schema, 1, "Cannot read x", DataError), DataError);
});

Deno.test("the first key that differs is found, whatever the order of keys", () => {
  assert.equal(firstDifference({ a: 1, b: { c: [1, 2] } }, { b: { c: [1, 2] }, a: 1, d: undefined }), null);
  assert.equal(firstDifference({ a: NaN }, { a: null }), null, "as JSON");
  const of = (a: unknown, b: unknown) => describeDifference(firstDifference(a, b)!);
  assert.equal(of({ a: 1, b: { c: 2 } }, { a: 1, b: { c: "2" } }), '"b.c" is 2 there and "2" here');
  assert.equal(of({ a: [1, 2] }, { a: [1, 2, 3] }), '"a.2" is absent there and 3 here');
  assert.equal(of({ a: [1] }, { a: [] }), '"a.0" is 1 there and absent here');
  assert.equal(of({ a: {} }, {}), '"a" is {} there and absent here');
  assert.equal(of({ x: 1, a: 2 }, { x: 3, a: 4 }), '"x" is 1 there and 3 here');
});
