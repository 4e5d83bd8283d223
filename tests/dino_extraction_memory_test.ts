import assert from "node:assert/strict";
import { inFolder, writeEncoder, writeImages } from "./extraction_fixture.ts";

/**
 * Pixels and features of an image are 66 KB here, 132 MB for the 2,000 images more. The heap of the runtime settles some
 * 25 MB above where it is after few images.
 */
const ALLOWED_MB = 60;

Deno.test({
  name: "the memory of an extraction does not grow with the number of images",
  ignore: Deno.build.os !== "linux", // the peak of a process is read from /proc
  fn: () =>
    inFolder(async (root) => {
      await writeEncoder(`${root}/encoder.safetensors`);
      await writeImages(`${root}/some`, 30);
      const peaks: number[] = [];
      for (const count of [400, 2400]) {
        const folder = `${root}/${count}`;
        await Deno.mkdir(folder);
        for (let i = 0; i < count; i++) await Deno.link(nth(`${root}/some`, i), `${folder}/${i}.png`);
        const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
          args: [
            "run",
            "-A",
            "--no-check",
            "tests/dino_extraction_child.ts",
            `${root}/encoder.safetensors`,
            folder,
            `${folder}-features`,
          ],
        }).output();
        peaks.push(Number(new TextDecoder().decode(stdout)));
        assert.ok(peaks.at(-1)! > 50, new TextDecoder().decode(stderr));
      }
      assert.ok(peaks[1] - peaks[0] < ALLOWED_MB, `MB: ${peaks}`);
    }),
});

/** One of the thirty images again and again. */
function nth(folder: string, i: number): string {
  const image = i % 30, name = ["ant", "bee", "cat"][Math.floor(image / 10)];
  return `${folder}/${name}/${String(image).padStart(5, "0")}.png`;
}
