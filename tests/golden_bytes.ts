/** Reads the base64 data of golden files. */

/** Bytes of base64 text. */
export function goldenBytes(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Uint8Array.fromBase64(text));
}

/** Little-endian float32 numbers of base64 text. */
export function goldenFloats(text: string): Float32Array<ArrayBuffer> {
  return new Float32Array(goldenBytes(text).buffer);
}

/** A golden file of `tests/golden`. */
// deno-lint-ignore no-explicit-any -- each file has its own form
export async function golden(name: string): Promise<any> {
  return JSON.parse(await Deno.readTextFile(`tests/golden/${name}.json`));
}
