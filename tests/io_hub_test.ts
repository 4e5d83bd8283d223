import assert from "node:assert/strict";
import { float32 } from "novae/tensor/mod.ts";
import { fetchModelFiles, fetchModelWeights, openWeights, writeSafetensors } from "novae/io/mod.ts";
import { BIG, checksum, encode, failure, names, refuses, withHub } from "./hub_fixture.ts";

for (
  const [what, answer, token, message] of [
    [
      "a gated repository without a token",
      () => failure(401, "GatedRepo"),
      "",
      /: it is gated: accept its licence at http:.*\/some-org\/some\.model and set HF_TOKEN to a token of that account$/,
    ],
    [
      "a gated repository with a token that has no access",
      () => failure(403, "GatedRepo"),
      "hf_x",
      /: it is gated, and the token given has no access: accept its licence at http:.*\/some-org\/some\.model with that/,
    ],
    [
      "a token that is not valid",
      () => failure(401, "", "Invalid credentials in Authorization header"),
      "hf_x",
      /: the token given is not valid: make a new one at http:.*\/settings\/tokens$/,
    ],
    [
      "a repository that is not there",
      () => failure(404, "RepoNotFound", "Repository not found"),
      "hf_x",
      /: there is no such repository, or it is private and the token given has no access, see http/,
    ],
    [
      "a repository that is not shown to everyone",
      () => failure(401, "RepoNotFound", "Invalid username or password."),
      "",
      /: there is no such repository, or it is private and no token is set \(HF_TOKEN\), see http/,
    ],
    [
      "a revision that is not there",
      () => failure(404, "RevisionNotFound"),
      "",
      /: there is no revision main, see/,
    ],
    [
      "an access that is refused",
      () => failure(403, "", "Disabled"),
      "",
      /: access is refused \(Disabled\): see whether/,
    ],
    ["another refusal", () => failure(400, "", "Bad"), "", /: the hub answers with status 400 \(Bad\)$/],
    ["a page instead of an answer", () => new Response("<html>"), "", /does not answer like a model hub: /],
    ["a commit that is none", () => Response.json({ sha: "../x" }), "", /gives no commit$/],
  ] as [string, () => Response, string, RegExp][]
) {
  Deno.test(`${what} is told in one line`, () =>
    withHub(async ({ hub, cacheDir, options }) => {
      hub.mischief = () => answer();
      Deno.env.set("HF_TOKEN_PATH", `${cacheDir}/no-token`);
      try {
        await refuses(
          fetchModelFiles(hub.repo, ["config.json"], { ...options, accessToken: token }),
          message,
        );
        assert.equal(hub.seen.length, 1, "asked once");
      } finally {
        Deno.env.delete("HF_TOKEN_PATH");
      }
    }));
}

Deno.test("a gated file of a repository that shows its list is told with its licence's page", () =>
  withHub(async ({ hub, folder, options }) => {
    hub.mischief = ({ path }) => path.includes("/resolve/") ? failure(403, "GatedRepo") : null;
    await refuses(
      fetchModelFiles(hub.repo, ["config.json"], options),
      `Cannot download ${hub.repo}: it is gated, and the token given has no access: accept its licence at ${hub.url}/${hub.repo} with that account`,
    );
    assert.deepEqual(names(`${folder}/snapshots`), []);
  }));

Deno.test("a file that is not in the repository and names that lead elsewhere are refused", () =>
  withHub(async ({ hub, folder, options }) => {
    await refuses(
      fetchModelFiles(hub.repo, ["config.json", "gone.bin", "lost.bin"], options),
      `Cannot download ${hub.repo}: there is no gone.bin, lost.bin at revision main, see ${hub.url}/${hub.repo}/tree/main`,
    );
    assert.deepEqual(names(`${folder}/blobs`), [], "nothing is fetched if a part is missing");
    const asked = hub.seen.length;
    for (const name of ["../x", "/etc/passwd", "a/../../x", "a//b", "C:/x", "a\\..\\x", ""]) {
      await refuses(
        fetchModelFiles(hub.repo, [name], { ...options, revision: hub.commit }),
        /must not be named/,
      );
      await refuses(
        fetchModelFiles(hub.repo, ["x"], { ...options, revision: name || ".." }),
        /must not be named/,
      );
    }
    for (const repo of ["a/b/c", "../a", "a/..", "a--b", "", "https://x/y"]) {
      await refuses(
        fetchModelFiles(repo, ["x"], options),
        /a repository must be named like facebook\/dinov2-small$/,
      );
    }
    assert.equal(hub.seen.length, asked, "the hub is not asked");
  }));

Deno.test("a repository that was renamed is followed", () =>
  withHub(async ({ hub, options }) => {
    hub.mischief = ({ path }) =>
      path.includes("old-name")
        ? new Response(null, {
          status: 307,
          headers: { location: path.replace("old-org/old-name", hub.repo) },
        })
        : null;
    const { files } = await fetchModelFiles("old-org/old-name", ["sub/model.bin"], { ...options });
    assert.deepEqual(await Deno.readFile(files.get("sub/model.bin")!), BIG);
  }));

Deno.test("offline the cache is used, and what it lacks is named", () =>
  withHub(async ({ hub, cacheDir, options }) => {
    const { commit } = await fetchModelFiles(hub.repo, ["config.json"], options);
    hub.seen.length = 0;
    for (const revision of ["main", commit]) {
      const offline = { ...options, offline: true, revision };
      const { files } = await fetchModelFiles(hub.repo, ["config.json"], offline);
      assert.equal(await Deno.readTextFile(files.get("config.json")!), '{"hidden_size": 384}\n');
      await refuses(
        fetchModelFiles(hub.repo, ["config.json", "sub/model.bin"], offline),
        `Cannot download ${hub.repo}: offline (HF_HUB_OFFLINE), and the cache ${cacheDir} does not hold sub/model.bin of revision ${revision}`,
      );
    }
    await refuses(
      fetchModelFiles(hub.repo, ["config.json"], { ...options, offline: true, revision: "v2" }),
      `Cannot download ${hub.repo}: offline (HF_HUB_OFFLINE), and the cache ${cacheDir} does not hold revision v2`,
    );
    assert.deepEqual(hub.seen, []);
  }));

Deno.test("a cache that Python's huggingface_hub has written is found", () =>
  withHub(async ({ hub, folder, options }) => {
    // The layout of its guide "Manage your cache": a commit in refs/main without a newline, relative links.
    const file = checksum(hub.files["sub/model.bin"]), other = "f".repeat(40);
    await Deno.mkdir(`${folder}/snapshots/${other}/sub`, { recursive: true });
    await Deno.mkdir(`${folder}/blobs`);
    await Deno.mkdir(`${folder}/refs`);
    await Deno.writeTextFile(`${folder}/refs/main`, other);
    await Deno.writeFile(`${folder}/blobs/${file}`, BIG);
    await Deno.symlink(`../../../blobs/${file}`, `${folder}/snapshots/${other}/sub/model.bin`);
    const offline = await fetchModelFiles(hub.repo, ["sub/model.bin"], { ...options, offline: true });
    assert.deepEqual([offline.commit, hub.seen], [other, []]);
    assert.deepEqual(await Deno.readFile(offline.files.get("sub/model.bin")!), BIG);
    const { commit, files } = await fetchModelFiles(hub.repo, ["sub/model.bin"], options);
    assert.deepEqual([commit, hub.downloads], [hub.commit, []], "a new commit with the same content");
    assert.deepEqual(await Deno.readFile(files.get("sub/model.bin")!), BIG);
    assert.equal(await Deno.readTextFile(`${folder}/refs/main`), hub.commit);
  }));

Deno.test("several calls at once download a file once", () =>
  withHub(async ({ hub, folder, options }) => {
    const all = await Promise.all(
      Array.from({ length: 4 }, () => fetchModelFiles(hub.repo, ["sub/model.bin"], options)),
    );
    for (const { files } of all) assert.deepEqual(await Deno.readFile(files.get("sub/model.bin")!), BIG);
    assert.deepEqual(hub.downloads.map(({ sent }) => sent), [BIG.length]);
    assert.deepEqual(names(`${folder}/blobs`), [checksum(hub.files["sub/model.bin"])]);
  }));

Deno.test("two processes download a file once, told by the environment where to", () =>
  withHub(async ({ hub, cacheDir }) => {
    const script = `import { fetchModelFiles } from "novae/io/mod.ts";
      const { files } = await fetchModelFiles("${hub.repo}", ["sub/model.bin"]);
      console.log(files.get("sub/model.bin"));`;
    await Deno.mkdir(`${cacheDir}/home`);
    await Deno.writeTextFile(`${cacheDir}/home/token`, "hf_from_file\n");
    const run = (env: Record<string, string>): Promise<Deno.CommandOutput> =>
      new Deno.Command(Deno.execPath(), {
        args: ["eval", script],
        env: {
          HF_ENDPOINT: `${hub.url}/`,
          HF_HOME: `${cacheDir}/home`,
          HF_HUB_CACHE: "",
          HF_TOKEN: "",
          ...env,
        },
      }).output();
    const outputs = await Promise.all([run({}), run({})]);
    const path = `${cacheDir}/home/hub/models--some-org--some.model/snapshots/${hub.commit}/sub/model.bin`;
    for (const { stdout, stderr } of outputs) {
      assert.equal(new TextDecoder().decode(stdout).trim(), path, new TextDecoder().decode(stderr));
    }
    assert.deepEqual(await Deno.readFile(path), BIG);
    assert.deepEqual(hub.downloads.map(({ sent }) => sent), [BIG.length]);
    assert.ok(
      hub.seen.every(({ at, authorization }) => at === "storage" || authorization === "Bearer hf_from_file"),
    );
    const { stdout } = await run({ HF_HUB_CACHE: `${cacheDir}/other`, HF_TOKEN: "hf_named" });
    assert.ok(new TextDecoder().decode(stdout).startsWith(`${cacheDir}/other/models--some-org`));
    assert.equal(hub.seen.findLast(({ at }) => at === "hub")!.authorization, "Bearer hf_named");
    hub.seen.length = 0;
    const { success, stderr } = await run({ HF_HUB_CACHE: `${cacheDir}/third`, HF_HUB_OFFLINE: "1" });
    assert.match(
      new TextDecoder().decode(stderr),
      /offline \(HF_HUB_OFFLINE\), and the cache .*third does not hold/,
    );
    assert.deepEqual([success, hub.seen], [false, []]);
  }));

const PYTHON = "python3";
const havePython = await new Deno.Command(PYTHON, { args: ["-c", "import fcntl"] }).output().then(
  ({ success }) => success,
  () => false,
);
if (!havePython) console.warn("Skipped: the lock of another tool is tried only where python3 is present.");

Deno.test({
  name: "a file that Python has locked is waited for",
  ignore: !havePython,
  fn: () =>
    withHub(async ({ hub, cacheDir, folder, options }) => {
      // What huggingface_hub does through filelock: flock on .locks/<repository>/<checksum>.lock.
      const file = checksum(hub.files["sub/model.bin"]),
        locks = `${cacheDir}/.locks/models--some-org--some.model`;
      await Deno.mkdir(locks, { recursive: true });
      await Deno.mkdir(`${folder}/blobs`, { recursive: true });
      const script = `import fcntl, os, sys, time
handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(handle, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read(1)
os.rename(sys.argv[2], sys.argv[3])`;
      await Deno.writeFile(`${folder}/made-by-python`, BIG);
      const child = new Deno.Command(PYTHON, {
        args: ["-c", script, `${locks}/${file}.lock`, `${folder}/made-by-python`, `${folder}/blobs/${file}`],
        stdin: "piped",
        stdout: "piped",
      }).spawn();
      const reader = child.stdout.getReader();
      assert.match(new TextDecoder().decode((await reader.read()).value), /^locked/);
      let done = false;
      const fetched = fetchModelFiles(hub.repo, ["sub/model.bin"], options).finally(() => done = true);
      await new Promise((resolve) => setTimeout(resolve, 400));
      assert.deepEqual([done, hub.downloads], [false, []]);
      await child.stdin.close();
      await reader.cancel();
      await child.status;
      assert.deepEqual(await Deno.readFile((await fetched).files.get("sub/model.bin")!), BIG);
      assert.deepEqual(hub.downloads, [], "Python had brought it");
    }),
});

Deno.test("weights are found under their usual names and open from the cache", () =>
  withHub(async ({ hub, cacheDir, options }) => {
    const shard = async (name: string, value: number): Promise<Uint8Array<ArrayBuffer>> => {
      await writeSafetensors(`${cacheDir}/shard`, { [name]: float32([value], [1]) });
      return await Deno.readFile(`${cacheDir}/shard`);
    };
    await refuses(
      fetchModelWeights(hub.repo, options),
      /some\.model: it must have one of model\.safetensors, .*, got none$/,
    );
    const index = { "weight_map": { a: "model-1.safetensors", b: "model-2.safetensors" } };
    hub.files["model.safetensors.index.json"] = { content: encode(JSON.stringify(index)), lfs: false };
    hub.files["model-1.safetensors"] = { content: await shard("a", 1), lfs: true };
    hub.files["model-2.safetensors"] = { content: await shard("b", 2), lfs: true };
    hub.files["pytorch_model.bin"] = { content: encode("never asked for"), lfs: true };
    const model = await fetchModelWeights(hub.repo, { ...options, alongside: ["config.json"] });
    assert.deepEqual([...model.files.keys()].sort(), [
      "config.json",
      "model-1.safetensors",
      "model-2.safetensors",
      "model.safetensors.index.json",
    ]);
    const { tensors } = await openWeights(model.folder);
    assert.deepEqual(await tensors.get("b")!.read(), float32([2], [1]));
    hub.seen.length = 0;
    const pinned = { ...options, revision: model.commit };
    assert.deepEqual((await fetchModelWeights(hub.repo, pinned)).folder, model.folder);
    assert.deepEqual((await fetchModelWeights(hub.repo, { ...options, offline: true })).folder, model.folder);
    assert.deepEqual(hub.seen, []);
    await Deno.remove(`${model.folder}/model-2.safetensors`);
    await refuses(
      fetchModelWeights(hub.repo, { ...pinned, offline: true }),
      /does not hold weights of a usual name of/,
    );
    await fetchModelWeights(hub.repo, pinned);
    assert.deepEqual(hub.downloads, [], "only its link was lost");
  }));
