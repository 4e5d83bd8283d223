import assert from "node:assert/strict";
import { imageBytes, writeGeneratedImages } from "novae/data/mod.ts";
import { decodeImage, hashFile, readNpz } from "novae/io/mod.ts";
import { Rng } from "novae/tensor/mod.ts";
import { imagesOf, PLAN } from "./data_generated_images_child.ts";

const COUNT = PLAN.labels.length;

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Hashes of all files by path. */
async function hashes(folder: string, below = ""): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for await (const { name, isDirectory } of Deno.readDir(`${folder}/${below}`)) {
    if (isDirectory) Object.assign(found, await hashes(folder, `${below}${name}/`));
    else found[below + name] = await hashFile(`${folder}/${below}${name}`);
  }
  return Object.fromEntries(Object.entries(found).sort());
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const make = (first: number, last: number) => Promise.resolve(imagesOf(first, last));

function start(
  folder: string,
  pauseMs: number,
): { process: Deno.ChildProcess; lines: string[]; end: Promise<void> } {
  const args = ["run", "-A", "--no-check", "tests/data_generated_images_child.ts", folder, String(pauseMs)];
  const process = new Deno.Command(Deno.execPath(), { args, stdout: "piped" }).spawn(), lines: string[] = [];
  const end = (async () => {
    for await (const part of process.stdout.pipeThrough(new TextDecoderStream())) {
      lines.push(...part.split("\n").filter((line) => line !== ""));
    }
    await process.status;
  })();
  return { process, lines, end };
}

Deno.test("generated images come as PNGs and as one npz with their labels, the same numbers in both", () =>
  inFolder(async (folder) => {
    const progress: number[] = [];
    const made = await writeGeneratedImages(folder, PLAN, make, {
      onProgress: ({ done }) => progress.push(done),
    });
    assert.equal(made, COUNT);
    assert.deepEqual(progress, [8, 16, 24, 32, 40, 48, 50]);
    const arrays = await readNpz(`${folder}/samples.npz`), images = arrays.get("arr_0")!;
    assert.deepEqual([images.dtype, images.shape], ["uint8", [COUNT, 6, 4, 3]]);
    assert.deepEqual(images.data, imageBytes(imagesOf(0, COUNT)).data);
    assert.deepEqual([...arrays.get("arr_1")!.data], PLAN.labels);
    for (const i of [0, 17, 49]) {
      const { width, height, data } = await decodeImage(`${folder}/images/${String(i).padStart(6, "0")}.png`);
      assert.deepEqual([width, height], [4, 6]);
      assert.deepEqual([...data], [...images.data.subarray(i * 72, (i + 1) * 72)]);
    }
    assert.equal(
      await writeGeneratedImages(folder, PLAN, () => Promise.reject(new Error("nothing is left"))),
      0,
    );
  }));

Deno.test("killed at any moment and started again, alone or two at once, it leaves the same files", () =>
  inFolder(async (folder) => {
    const [whole, broken] = [`${folder}/whole`, `${folder}/broken`], rng = new Rng(6);
    await writeGeneratedImages(whole, PLAN, make);
    for (let round = 0; round < 4; round++) {
      const child = start(broken, 4);
      const isDone = () => child.lines.some((line) => line.startsWith("made"));
      while (child.lines.length < 2 && !isDone()) await pause(2);
      await pause(rng.range(0, 30));
      try {
        child.process.kill("SIGKILL");
      } catch { /* it had just ended */ }
      await child.end;
    }
    const children = [start(broken, 1), start(broken, 1)];
    await Promise.all(children.map((child) => child.end));
    for (const { lines } of children) assert.match(lines.at(-1)!, /^made \d+$/);
    assert.deepEqual(await hashes(broken), await hashes(whole));
  }));

Deno.test("a part that was cut short is made again, and another plan is refused", () =>
  inFolder(async (folder) => {
    const stop = (first: number, last: number) =>
      first < 24 ? make(first, last) : Promise.reject(new Error("stopped"));
    await assert.rejects(writeGeneratedImages(folder, PLAN, stop), /stopped/);
    await Deno.truncate(`${folder}/parts/part-00001.npy`, 300);
    await assert.rejects(
      writeGeneratedImages(folder, { ...PLAN, config: { model: "abc", steps: 6 } }, make),
      {
        name: "ConfigError",
        message: /"config.steps" is 5 there and 6 here; use another folder/,
      },
    );
    const begun: number[] = [];
    await writeGeneratedImages(folder, PLAN, (first, last) => {
      begun.push(first);
      return make(first, last);
    });
    assert.deepEqual(begun, [8, 24, 32, 40, 48]);
    const { data } = (await readNpz(`${folder}/samples.npz`)).get("arr_0")!;
    assert.deepEqual(data, imageBytes(imagesOf(0, COUNT)).data);
  }));
