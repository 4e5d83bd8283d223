import assert from "node:assert/strict";
import { type DownloadProgress, fetchModelFiles } from "novae/io/mod.ts";
import { BIG, checksum, names, refuses, withHub } from "./hub_fixture.ts";

Deno.test("files arrive in the layout of Hugging Face's cache, and the token goes to the hub alone", () =>
  withHub(async ({ hub, folder, options }) => {
    const steps: DownloadProgress[] = [];
    const model = await fetchModelFiles(hub.repo, ["config.json", "sub/model.bin"], {
      ...options,
      onProgress: (step) => steps.push(step),
    });
    assert.equal(model.commit, hub.commit);
    assert.equal(model.folder, `${folder}/snapshots/${hub.commit}`);
    assert.deepEqual([...model.files], [
      ["config.json", `${model.folder}/config.json`],
      ["sub/model.bin", `${model.folder}/sub/model.bin`],
    ]);
    assert.deepEqual(await Deno.readFile(model.files.get("sub/model.bin")!), BIG);
    assert.equal(await Deno.readTextFile(model.files.get("config.json")!), '{"hidden_size": 384}\n');
    const [small, big] = [hub.files["config.json"], hub.files["sub/model.bin"]].map(checksum);
    assert.deepEqual(names(`${folder}/blobs`), [small, big].sort());
    assert.equal(await Deno.readLink(`${model.folder}/config.json`), `../../blobs/${small}`);
    assert.equal(await Deno.readLink(`${model.folder}/sub/model.bin`), `../../../blobs/${big}`);
    assert.equal(await Deno.readTextFile(`${folder}/refs/main`), hub.commit);
    for (const { at, authorization, encoding, path } of hub.seen) {
      assert.equal(authorization, at === "hub" ? "Bearer hf_secret" : null, path);
      assert.equal(encoding, "identity", path);
    }
    const total = BIG.length + hub.files["config.json"].content.length;
    assert.deepEqual(steps.at(-1), { file: "sub/model.bin", bytesDone: total, bytesTotal: total });
    steps.reduce((last, { bytesDone }) => (assert.ok(bytesDone >= last), bytesDone), 0);
  }));

Deno.test("at a pinned commit a second call needs no network, at a branch one request", () =>
  withHub(async ({ hub, options }) => {
    const wanted = ["sub/model.bin", "config.json"];
    const first = await fetchModelFiles(hub.repo, wanted, options);
    hub.seen.length = 0;
    const pinned = await fetchModelFiles(hub.repo, wanted, { ...options, revision: first.commit });
    assert.deepEqual([pinned, hub.seen], [first, []]);
    assert.deepEqual(await fetchModelFiles(hub.repo, wanted, options), first);
    assert.deepEqual(hub.seen.map(({ path }) => path), [`/api/models/${hub.repo}/revision/main`]);
    await fetchModelFiles(hub.repo, wanted, { ...options, revision: "refs/pr/1" });
    assert.deepEqual(hub.downloads, [], "the same commit");
  }));

Deno.test("a connection that is lost goes on from the byte where it stopped", () =>
  withHub(async ({ hub, options }) => {
    hub.mischief = ({ at }, count) => at === "storage" && count < 3 ? { cutAfter: 300_000 } : null;
    const { files } = await fetchModelFiles(hub.repo, ["sub/model.bin"], options);
    assert.deepEqual(await Deno.readFile(files.get("sub/model.bin")!), BIG);
    assert.deepEqual(hub.downloads.map(({ range, sent }) => [range, sent]), [
      [null, 300_000],
      ["bytes=300000-", 300_000],
      ["bytes=600000-", 400_000],
    ]);
  }));

Deno.test("a download that was given up goes on in the next call", () =>
  withHub(async ({ hub, folder, options }) => {
    hub.mischief = ({ at }) => at === "storage" ? { cutAfter: 300_000 } : null;
    await refuses(
      fetchModelFiles(hub.repo, ["sub/model.bin"], { ...options, attempts: 1 }),
      /^Cannot download some-org\/some\.model: .*, 1 times in a row; HF_HUB_OFFLINE=1 does with what is in the cache$/,
    );
    const incomplete = `${checksum(hub.files["sub/model.bin"])}.incomplete`;
    assert.deepEqual(names(`${folder}/blobs`), [incomplete]);
    assert.equal((await Deno.stat(`${folder}/blobs/${incomplete}`)).size, 300_000);
    assert.deepEqual(names(`${folder}/snapshots`), []);
    hub.mischief = () => null;
    const steps: number[] = [], onProgress = ({ bytesDone }: DownloadProgress) => steps.push(bytesDone);
    const { files } = await fetchModelFiles(hub.repo, ["sub/model.bin"], { ...options, onProgress });
    assert.deepEqual(await Deno.readFile(files.get("sub/model.bin")!), BIG);
    assert.deepEqual(hub.downloads.at(-1)!.range, "bytes=300000-");
    assert.deepEqual([hub.downloads.at(-1)!.sent, steps[0]], [700_000, 300_000]);
    assert.deepEqual(names(`${folder}/blobs`), [checksum(hub.files["sub/model.bin"])]);
  }));

Deno.test("a connection that falls silent counts as lost", () =>
  withHub(async ({ hub, options }) => {
    hub.mischief = ({ at }, count) =>
      at === "storage" && count === 1 ? { cutAfter: 300_000, hang: true } : null;
    const start = performance.now();
    await fetchModelFiles(hub.repo, ["sub/model.bin"], { ...options, timeoutSec: 0.3 });
    assert.ok(performance.now() - start < 2_500, "before the server ended it, which takes 3 s");
    assert.deepEqual(hub.downloads.map(({ range }) => range), [null, "bytes=300000-"]);
  }));

Deno.test("a download that is ended keeps what arrived", () =>
  withHub(async ({ hub, folder, options }) => {
    const controller = new AbortController(), file = checksum(hub.files["sub/model.bin"]);
    hub.mischief = ({ at }) => at === "storage" ? { cutAfter: 300_000, hang: true } : null;
    const onProgress = ({ bytesDone }: DownloadProgress) => {
      if (bytesDone >= 300_000) controller.abort(new Error("enough"));
    };
    const { signal } = controller;
    await assert.rejects(
      fetchModelFiles(hub.repo, ["sub/model.bin"], { ...options, signal, onProgress }),
      /^Error: enough$/,
    );
    assert.equal((await Deno.stat(`${folder}/blobs/${file}.incomplete`)).size, 300_000);
  }));

Deno.test("what does not have its checksum is refused, and nothing of it is left", () =>
  withHub(async ({ hub, folder, options }) => {
    for (const name of ["sub/model.bin", "config.json"]) {
      const { content, lfs } = hub.files[name], damaged = content.slice();
      damaged[damaged.length >> 1] ^= 1;
      const whole = { ...options, attempts: 1 };
      hub.mischief = ({ at, path }) =>
        at === "storage" || path.includes("/resolve/") && !lfs ? new Response(damaged) : null;
      await refuses(
        fetchModelFiles(hub.repo, [name], whole),
        new RegExp(
          `^Cannot download ${name}: its .* must be ${
            checksum({ content, lfs })
          }, got [0-9a-f]+: nothing of it`,
        ),
      );
      assert.deepEqual([names(`${folder}/blobs`), names(`${folder}/snapshots`)], [[], []]);
      hub.mischief = ({ at, path }) =>
        at === "storage" || path.includes("/resolve/") && !lfs
          ? new Response(new Uint8Array(content.length + 1))
          : null;
      await refuses(fetchModelFiles(hub.repo, [name], whole), /must be of \d+ bytes, got more$/);
      assert.deepEqual([names(`${folder}/blobs`), names(`${folder}/snapshots`)], [[], []]);
    }
  }));

Deno.test("a damaged beginning of an earlier download is noticed and does not stay", () =>
  withHub(async ({ hub, folder, options }) => {
    const file = checksum(hub.files["sub/model.bin"]);
    await Deno.mkdir(`${folder}/blobs`, { recursive: true });
    await Deno.writeFile(`${folder}/blobs/${file}.incomplete`, new Uint8Array(1000));
    await refuses(fetchModelFiles(hub.repo, ["sub/model.bin"], options), /its sha256 must be/);
    assert.equal(hub.downloads.at(-1)!.range, "bytes=1000-");
    await fetchModelFiles(hub.repo, ["sub/model.bin"], options);
    await Deno.writeFile(`${folder}/blobs/${file}.incomplete`, new Uint8Array(BIG.length + 1));
    await Deno.remove(`${folder}/blobs/${file}`);
    await fetchModelFiles(hub.repo, ["sub/model.bin"], options);
    assert.equal(hub.downloads.at(-1)!.range, null, "longer than the file: begun anew");
  }));

Deno.test("a server that does not go on where it was asked to is read from the start", () =>
  withHub(async ({ hub, folder, options }) => {
    const file = checksum(hub.files["sub/model.bin"]);
    const answers: (() => Response)[] = [
      () => new Response(BIG), // ranges are ignored
      () =>
        new Response(BIG.subarray(5), {
          status: 206,
          headers: { "content-range": `bytes 5-999999/1000000` },
        }),
      () => new Response("", { status: 416, headers: { "content-range": "bytes */1000000" } }),
    ];
    for (const answer of answers) {
      await Deno.mkdir(`${folder}/blobs`, { recursive: true });
      await Deno.writeFile(`${folder}/blobs/${file}.incomplete`, BIG.subarray(0, 1000));
      hub.mischief = ({ at, range }) => at === "storage" && range !== null ? answer() : null;
      const { files } = await fetchModelFiles(hub.repo, ["sub/model.bin"], options);
      assert.deepEqual(await Deno.readFile(files.get("sub/model.bin")!), BIG);
      await Deno.remove(folder, { recursive: true });
    }
  }));

Deno.test("a busy server is asked again, a bounded number of times", () =>
  withHub(async ({ hub, options }) => {
    hub.mischief = (_, count) => count < 3 ? new Response("", { status: 503 }) : null;
    await fetchModelFiles(hub.repo, ["config.json"], options);
    hub.seen.length = 0;
    hub.mischief = () => new Response("", { status: 502 });
    await refuses(
      fetchModelFiles(hub.repo, ["sub/model.bin"], { ...options, attempts: 4 }),
      /some\.model: 127\.0\.0\.1:\d+ answers with status 502, 4 times in a row; HF_HUB_OFFLINE=1/,
    );
    assert.equal(hub.seen.length, 4);
    const gone = { ...options, attempts: 2, hubUrl: "http://127.0.0.1:1" };
    await refuses(
      fetchModelFiles(hub.repo, ["x"], gone),
      /: http:\/\/127\.0\.0\.1:1 cannot be reached \(.*\), 2 times in/,
    );
  }));

/** An answer that asks for patience. */
const busy = (headers: Record<string, string>, status = 429): Response =>
  new Response("", { status, headers });

Deno.test("a hub that limits requests is given the time that it asks for", () =>
  withHub(async ({ hub, options }) => {
    const soon = (): string => new Date(Date.now() + 2_000).toUTCString(); // of whole seconds
    const asked: [string, () => Record<string, string>, number][] = [
      ["seconds", () => ({ "retry-after": "1" }), 1_000],
      ["a date", () => ({ "retry-after": soon() }), 900],
      ["the end of the hub's window", () => ({ ratelimit: '"api";r=0;t=1' }), 1_000],
      ["nothing", () => ({}), 0],
    ];
    for (const [what, headers, leastMs] of asked) {
      const at: number[] = [];
      hub.mischief = () => {
        at.push(performance.now());
        return at.length === 1 ? busy(headers()) : null;
      };
      await fetchModelFiles(hub.repo, ["config.json"], { ...options, revision: "main" });
      assert.ok(
        at[1] - at[0] >= leastMs - 5 && at[1] - at[0] < leastMs + 3_000,
        `${what}: ${at[1] - at[0]} ms`,
      );
    }
  }));

Deno.test("a hub that asks for more patience than a minute is told, not waited for", () =>
  withHub(async ({ hub, cacheDir, options }) => {
    Deno.env.set("HF_TOKEN_PATH", `${cacheDir}/no-token`);
    const start = performance.now();
    try {
      for (
        const [status, headers, accessToken, message] of [
          [429, { "retry-after": "3600" }, "hf_x", /answers with status 429: run again in 3600 s$/],
          [
            429,
            { ratelimit: '"api";r=0;t=290' },
            "",
            /status 429: run again in 290 s, or with HF_TOKEN set to a token$/,
          ],
          [
            503,
            { "retry-after": "Fri, 01 Jan 2100 00:00:00 GMT" },
            "",
            /answers with status 503: run again in \d+ s$/,
          ],
        ] as [number, Record<string, string>, string, RegExp][]
      ) {
        hub.seen.length = 0;
        hub.mischief = () => busy(headers, status);
        await refuses(fetchModelFiles(hub.repo, ["config.json"], { ...options, accessToken }), message);
        assert.equal(hub.seen.length, 1, "asked once");
      }
    } finally {
      Deno.env.delete("HF_TOKEN_PATH");
    }
    assert.ok(performance.now() - start < 10_000);
  }));

Deno.test("a hub that limits requests for ever is given up", () =>
  withHub(async ({ hub, options }) => {
    hub.mischief = () => busy({ "retry-after": "not a date" });
    await refuses(
      fetchModelFiles(hub.repo, ["config.json"], { ...options, attempts: 3 }),
      /answers with status 429, 3 times in a row; HF_HUB_OFFLINE=1/,
    );
    assert.equal(hub.seen.length, 3);
  }));

Deno.test("a hub and a storage that take a connection and say nothing are given up in time", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const held: Deno.Conn[] = [];
  const taking = (async () => {
    for await (const connection of listener) held.push(connection);
  })().catch(() => {});
  const silent = `http://127.0.0.1:${(listener.addr as Deno.NetAddr).port}`;
  await withHub(async ({ hub, options }) => {
    const hasty = { ...options, attempts: 2, timeoutSec: 0.2 };
    const start = performance.now(),
      message = /cannot be reached \(no answer within 0\.2 s\), 2 times in a row/;
    await refuses(fetchModelFiles(hub.repo, ["config.json"], { ...hasty, hubUrl: silent }), message);
    hub.mischief = ({ path }) =>
      path.includes("/resolve/")
        ? new Response(null, { status: 302, headers: { location: `${silent}/x` } })
        : null;
    await refuses(fetchModelFiles(hub.repo, ["sub/model.bin"], hasty), message);
    assert.ok(performance.now() - start < 5_000);
  });
  listener.close();
  held.forEach((connection) => connection.close());
  await taking;
});
