import assert from "node:assert/strict";
import os from "node:os";
import { Claims, isProcessAlive, OpenFiles } from "novae/io/mod.ts";

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const place = async () => `${await Deno.makeTempDir()}/work.claim`;

Deno.test("a claim is one owner's until it is released", async () => {
  const path = await place(), mine = new Claims(), others = new Claims();
  const claim = await mine.take(path);
  assert.ok(claim !== null && await claim.holds());
  assert.equal(await others.take(path), null);
  assert.equal(await mine.take(path), null, "also for the same process");
  await claim.release();
  await assert.rejects(Deno.stat(path), Deno.errors.NotFound);
  const next = await others.take(path);
  assert.ok(next !== null);
  assert.equal(await claim.holds(), false);
  await claim.release(); // leaves the other one's alone
  assert.ok(await next.holds());
  await next.release();
});

Deno.test("many that try at once get one claim", async () => {
  const path = await place();
  const claims = await Promise.all(Array.from({ length: 20 }, () => new Claims().take(path)));
  const taken = claims.filter((claim) => claim !== null);
  assert.equal(taken.length, 1);
  await taken[0].release();
});

Deno.test("the claim of an ended process is taken over at once, by one of many", async () => {
  const child = new Deno.Command(Deno.execPath(), { args: ["--version"], stdout: "null" }).spawn();
  await child.status;
  assert.equal(isProcessAlive(child.pid), false);
  assert.equal(isProcessAlive(Deno.pid), true);
  const path = await place();
  await Deno.writeTextFile(path, JSON.stringify({ pid: child.pid, host: os.hostname(), id: "ended" }));
  const claims = await Promise.all(Array.from({ length: 10 }, () => new Claims().take(path)));
  const taken = claims.filter((claim) => claim !== null);
  assert.equal(taken.length, 1);
  assert.ok(await taken[0].holds());
  await taken[0].release();
});

Deno.test("a claim of another machine, or one cut off while written, counts until it is silent for long", async () => {
  for (const owner of [JSON.stringify({ pid: 1, host: "elsewhere", id: "x" }), ""]) {
    const path = await place(), claims = new Claims({ staleSec: 0.15 });
    await Deno.writeTextFile(path, owner);
    const old = new Date("2001-01-01"); // another machine's clock says nothing here
    await Deno.utime(path, old, old);
    for (let sign = 0; sign < 3; sign++) {
      assert.equal(await claims.take(path), null, `sign of life ${sign}`);
      await pause(100);
      await Deno.utime(path, old, new Date(old.getTime() + sign * 1000 + 1000));
    }
    assert.equal(await claims.take(path), null);
    await pause(250);
    const claim = await claims.take(path);
    assert.ok(claim !== null && await claim.holds());
    await claim.release();
  }
});

Deno.test("a living owner gives signs of life while it waits for its work", async () => {
  const path = await place(), claim = await new Claims({ heartbeatSec: 0.05 }).take(path);
  const watcher = new Claims({ staleSec: 0.3 });
  const end = performance.now() + 900;
  while (performance.now() < end) {
    assert.equal(await watcher.take(path), null);
    await pause(50);
  }
  assert.ok(await claim!.holds());
  await claim!.release();
});

Deno.test("a claim in a folder that is not there is refused in one line", async () => {
  await assert.rejects(new Claims().take("/nowhere/at/all.claim"), {
    name: "NovaeError",
    message: "Cannot claim /nowhere/at/all.claim: no such file or folder",
  });
});

Deno.test("reads at once from more files than may be open all get their own bytes", async () => {
  const folder = await Deno.makeTempDir(), files = new OpenFiles(3);
  for (let f = 0; f < 8; f++) {
    await Deno.writeFile(
      `${folder}/${f}`,
      new Uint8Array(5000).map((_, i) => i * (f + 1)),
    );
  }
  await Promise.all(Array.from({ length: 400 }, async (_, n) => {
    const f = n * 7 % 8, start = n * 613 % 4000, bytes = new Uint8Array(n * 37 % 1000);
    await files.read(`${folder}/${f}`, start, bytes);
    bytes.forEach((byte, i) => assert.equal(byte, (start + i) * (f + 1) & 255));
    assert.ok(files.count <= 3);
  }));
  assert.equal(files.count, 3);
  await assert.rejects(files.read(`${folder}/0`, 4990, new Uint8Array(11)), {
    name: "DataError",
    message: `Cannot read ${folder}/0: 11 bytes from 4990 on are needed, got 10`,
  });
  await assert.rejects(files.read(`${folder}/none`, 0, new Uint8Array(1)), {
    name: "DataError",
    message: `Cannot read ${folder}/none: no such file or folder`,
  });
  await files.close();
  assert.equal(files.count, 0);
  assert.throws(() => new OpenFiles(0), RangeError);
});
