import assert from "node:assert/strict";
import fc from "fast-check";
import { DataError, NovaeError } from "novae/tensor/mod.ts";
import {
  canonicalJson,
  fileError,
  hashBytes,
  hashFile,
  hashValue,
  pathExists,
  readJson,
  writeFileAtomic,
  writeFileAtomicSync,
  writeJson,
} from "novae/io/mod.ts";
import { writeVia } from "novae/io/atomic_file.ts";

async function names(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder))).map((entry) => entry.name).sort();
}

Deno.test("an atomic write replaces the file and leaves nothing beside it", async () => {
  const folder = await Deno.makeTempDir(), path = `${folder}/a.txt`;
  await writeFileAtomic(path, "one");
  await writeFileAtomic(path, [new TextEncoder().encode("tw"), new TextEncoder().encode("o")]);
  assert.equal(await Deno.readTextFile(path), "two");
  writeFileAtomicSync(path, Uint8Array.of(0x33));
  assert.equal(await Deno.readTextFile(path), "3");
  assert.deepEqual(await names(folder), ["a.txt"]);
});

Deno.test({
  name: "a full disk is told in one line, the temporary file removed and the old file untouched",
  ignore: Deno.build.os !== "linux", // /dev/full exists there only
  fn: async () => {
    const folder = await Deno.makeTempDir(), path = `${folder}/weights.bin`, temporary = `${path}.tmp`;
    await writeFileAtomic(path, "old");
    await Deno.symlink("/dev/full", temporary);
    await assert.rejects(writeVia(temporary, path, new Uint8Array(100)), {
      name: "NovaeError",
      message: `Cannot write ${path}: no space left on the device; free some and run again`,
    });
    assert.equal(await Deno.readTextFile(path), "old");
    assert.deepEqual(await names(folder), ["weights.bin"]);
  },
});

Deno.test("content that fails while it is made leaves the old file and no temporary one", async () => {
  const folder = await Deno.makeTempDir(), path = `${folder}/a`;
  await writeFileAtomic(path, "old");
  function* failing(): Generator<Uint8Array> {
    yield new Uint8Array(3);
    throw new RangeError("no more");
  }
  await assert.rejects(writeFileAtomic(path, failing()), { name: "RangeError", message: "no more" });
  assert.throws(() => writeFileAtomicSync(path, failing()), { name: "RangeError", message: "no more" });
  assert.equal(await Deno.readTextFile(path), "old");
  assert.deepEqual(await names(folder), ["a"]);
});

Deno.test("writing where no folder is, or where a folder is, says so", async () => {
  const folder = await Deno.makeTempDir();
  const missing = {
    name: "NovaeError",
    message: `Cannot write ${folder}/x/a: folder ${folder}/x does not exist`,
  };
  await assert.rejects(writeFileAtomic(`${folder}/x/a`, ""), missing);
  assert.throws(() => writeFileAtomicSync(`${folder}/x/a`, ""), missing);
  await Deno.mkdir(`${folder}/d`);
  await assert.rejects(writeFileAtomic(`${folder}/d`, ""), { message: /: it is a folder, not a file$/ });
  assert.deepEqual(await names(folder), ["d"]);
});

Deno.test("programming errors pass through fileError, errors of this project keep their message", () => {
  const bug = new TypeError("x is undefined"), known = new DataError("known");
  assert.equal(fileError("Cannot read f", bug), bug);
  assert.equal(fileError("Cannot read f", known), known);
  const odd = Object.assign(new Error("Odd (os error 99)"), { code: "EODD" });
  assert.equal(fileError("Cannot read f", odd, DataError).message, "Cannot read f: Odd (os error 99)");
  assert.ok(fileError("Cannot read f", odd, DataError) instanceof DataError);
});

Deno.test("readJson gives back what writeJson wrote", async () => {
  const path = await Deno.makeTempFile();
  await fc.assert(
    fc.asyncProperty(fc.jsonValue({ noUnicodeString: false }), async (value) => {
      await writeJson(path, value);
      assert.deepEqual(await readJson(path), JSON.parse(JSON.stringify(value)));
    }),
    { numRuns: 20 },
  );
});

Deno.test("readJson says which file is missing, empty, no text or no JSON", async () => {
  const path = await Deno.makeTempFile();
  await assert.rejects(readJson(path), { name: "DataError", message: /it must be JSON, got an empty file$/ });
  await Deno.writeTextFile(path, '{\n  "a": 1,\n}');
  await assert.rejects(readJson(path), (error: Error) => {
    assert.ok(
      error instanceof DataError && error.message.startsWith(`Cannot read ${path}: it must be JSON, got `),
    );
    assert.match(error.message, /line 3/);
    return !error.message.includes("\n");
  });
  await Deno.writeFile(path, Uint8Array.of(0xff, 0xfe, 0));
  await assert.rejects(readJson(path), { message: /it must be UTF-8 text/ });
  await Deno.remove(path);
  assert.equal(await pathExists(path), false);
  await assert.rejects(readJson(path, NovaeError), {
    name: "NovaeError",
    message: `Cannot read ${path}: no such file or folder`,
  });
});

Deno.test("SHA-256 agrees with the standard's examples, in pieces and from a file", async () => {
  // FIPS 180-2, appendix B.1
  const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  assert.equal(hashBytes("abc"), abc);
  assert.equal(hashBytes("a", Uint8Array.of(0x62), new Uint8Array([0, 0x63]).subarray(1)), abc);
  assert.equal(hashBytes(Float32Array.of(1, 2)), hashBytes(new Uint8Array(Float32Array.of(1, 2).buffer)));
  const path = await Deno.makeTempFile(), large = new Uint8Array(3_000_001).map((_, i) => i * 31);
  await Deno.writeFile(path, large);
  assert.equal(await hashFile(path), hashBytes(large));
  await Deno.remove(path);
  await assert.rejects(hashFile(path), { name: "DataError", message: /no such file or folder$/ });
});

Deno.test("the hash of a value counts its content, not the order of its keys", () => {
  assert.equal(
    hashValue({ a: 1, b: { c: [1, 2], d: null } }),
    hashValue({ b: { d: null, c: [1, 2] }, a: 1 }),
  );
  assert.equal(hashValue({ a: 1, b: undefined }), hashValue({ a: 1 }));
  assert.notEqual(hashValue({ a: [1, 2] }), hashValue({ a: [2, 1] }));
  assert.equal(canonicalJson({ b: 1, a: 2 }), '{"a":2,"b":1}');
});
