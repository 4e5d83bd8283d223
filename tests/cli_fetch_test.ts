import assert from "node:assert/strict";
import { float32 } from "novae/tensor/mod.ts";
import { writeSafetensors } from "novae/io/mod.ts";
import { encode, failure, type FakeHub, withHub } from "./hub_fixture.ts";

/** Runs the command line in a process of its own against the hub. */
async function novae(
  hub: FakeHub,
  cacheDir: string,
  ...args: string[]
): Promise<{ code: number; out: string[]; err: string[] }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "lib/cli/main.ts", "fetch", ...args],
    env: { NO_COLOR: "1", HF_ENDPOINT: hub.url, HF_HUB_CACHE: cacheDir, HF_TOKEN: "hf_x" },
  }).output();
  const lines = (bytes: Uint8Array): string[] => new TextDecoder().decode(bytes).trimEnd().split("\n");
  return { code, out: lines(stdout), err: lines(stderr) };
}

Deno.test("fetch brings the weights of a model, says where they are, and needs no hub afterwards", () =>
  withHub(async ({ hub, cacheDir, folder }) => {
    await writeSafetensors(`${cacheDir}/w`, { weight: float32(new Float32Array(300_000), [300, 1000]) });
    hub.files["model.safetensors"] = { content: await Deno.readFile(`${cacheDir}/w`), lfs: true };
    const { code, out, err } = await novae(hub, cacheDir, hub.repo);
    const snapshot = `${folder}/snapshots/${hub.commit}`;
    const told = [
      `${hub.repo} at ${hub.commit}`,
      `${snapshot}/config.json`,
      `${snapshot}/model.safetensors`,
      "1 tensors, 0.3 M numbers",
    ];
    assert.deepEqual([code, out.toSorted()], [0, told.toSorted()], err.join("\n"));
    assert.match(
      err.join("\n"),
      /^Fetch some-org\/some\.model …\n(.*\n)*Fetch some-org\/some\.model: done in [\d.]+ s$/,
    );
    hub.seen.length = 0;
    const again = await novae(hub, cacheDir, hub.repo, "--offline");
    assert.deepEqual([again.code, again.out.toSorted(), again.err, hub.seen], [0, told.toSorted(), [""], []]);
  }));

Deno.test("fetch brings the files that are named, and tells in one line what cannot be had", () =>
  withHub(async ({ hub, cacheDir }) => {
    hub.files["notes.txt"] = { content: encode("notes"), lfs: false };
    const { code, out } = await novae(hub, cacheDir, hub.repo, "notes.txt", "--revision", "refs/pr/1");
    assert.equal(code, 0);
    assert.equal(await Deno.readTextFile(out[1]), "notes");
    hub.mischief = () => failure(403, "GatedRepo");
    const gated = await novae(hub, cacheDir, hub.repo);
    assert.equal(gated.code, 2);
    assert.deepEqual(gated.err, [
      `novae: Cannot download ${hub.repo}: it is gated, and the token of HF_TOKEN has no access: accept its licence ` +
      `at ${hub.url}/${hub.repo} with that account`,
    ]);
  }));
