/**
 * A model hub on 127.0.0.1 that speaks the protocol of huggingface.co: model info, paths info, and files that are
 * resolved to a storage of another origin if they are large. What it was asked is kept, and it can be told to fail.
 */
import { createHash } from "node:crypto";
import { Buffer } from "node:buffer";
import assert from "node:assert/strict";
import type { HubOptions } from "novae/io/mod.ts";
import { Rng, WeightsError } from "novae/tensor/mod.ts";

/** A request as it came in. */
export interface SeenRequest {
  /** "hub" or "storage". */
  readonly at: string;
  readonly method: string;
  readonly path: string;
  readonly range: string | null;
  readonly authorization: string | null;
  readonly encoding: string | null;
  /** Bytes of a file that were sent in answer. */
  sent: number;
}

/** A file of the repository. */
export interface HubContent {
  readonly content: Uint8Array<ArrayBuffer>;
  /** Whether it is kept in the large-file storage. */
  readonly lfs: boolean;
}

/** What is done instead of a proper answer; null for a proper one. */
export type Mischief = (
  request: SeenRequest,
  count: number,
) => Response | { cutAfter: number; hang?: boolean } | null;

/** A hub with one repository. */
export class FakeHub implements AsyncDisposable {
  readonly repo = "some-org/some.model";
  readonly commit = "0123456789abcdef0123456789abcdef01234567";
  readonly branches = ["main", "refs/pr/1"];
  readonly seen: SeenRequest[] = [];
  files: Record<string, HubContent> = {};
  mischief: Mischief = () => null;
  readonly #hub: Deno.HttpServer<Deno.NetAddr>;
  readonly #storage: Deno.HttpServer<Deno.NetAddr>;

  constructor() {
    const options = {
      hostname: "127.0.0.1",
      port: 0,
      onListen: () => {},
      onError: () => new Response("", { status: 500 }),
    };
    this.#hub = Deno.serve(options, (request) => this.#answer("hub", request));
    this.#storage = Deno.serve(options, (request) => this.#answer("storage", request));
  }

  get url(): string {
    return `http://127.0.0.1:${this.#hub.addr.port}`;
  }

  /** The file requests among those seen. */
  get downloads(): SeenRequest[] {
    return this.seen.filter(({ sent, path }) => sent > 0 || path.startsWith("/lfs/"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#hub.shutdown(), this.#storage.shutdown()]);
  }

  #answer(at: string, request: Request): Response | Promise<Response> {
    const url = new URL(request.url), header = (name: string): string | null => request.headers.get(name);
    const seen = {
      at,
      method: request.method,
      path: decodeURIComponent(url.pathname),
      range: header("range"),
      authorization: header("authorization"),
      encoding: header("accept-encoding"),
      sent: 0,
    };
    this.seen.push(seen);
    const asked = this.mischief(seen, this.seen.filter(({ path }) => path === seen.path).length);
    if (asked instanceof Response) return asked;
    if (at === "storage") {
      const content = Object.values(this.files).find((file) =>
        seen.path === `/lfs/${checksum(file)}`
      )!.content;
      return send(content, seen, asked);
    }
    const info = `/api/models/${this.repo}/revision/`, paths = `/api/models/${this.repo}/paths-info/`;
    if (seen.path.startsWith(info)) return this.#modelInfo(seen.path.slice(info.length));
    if (seen.path.startsWith(paths)) return this.#pathsInfo(seen.path.slice(paths.length), request);
    return this.#resolve(seen, asked);
  }

  #modelInfo(revision: string): Response {
    if (!this.branches.includes(revision)) return failure(404, "RevisionNotFound");
    return Response.json({ _id: "1", id: this.repo, sha: this.commit, lastModified: "2026-01-01T00:00:00Z" });
  }

  async #pathsInfo(revision: string, request: Request): Promise<Response> {
    if (revision !== this.commit) return failure(404, "RevisionNotFound");
    const { paths } = await request.json() as { paths: string[] };
    return Response.json(
      paths.filter((path) => path in this.files).map((path) => {
        const file = this.files[path], size = file.content.length;
        const lfs = file.lfs ? { oid: checksum(file), size, pointerSize: 134 } : undefined;
        return { type: "file", path, size, lfs, oid: gitHash(file.content) };
      }),
    );
  }

  #resolve(seen: SeenRequest, cut: { cutAfter: number; hang?: boolean } | null): Response {
    const name = seen.path.replace(`/${this.repo}/resolve/${this.commit}/`, ""), file = this.files[name];
    if (file === undefined) return failure(404, "EntryNotFound");
    const headers: Record<string, string> = { "x-repo-commit": this.commit };
    if (!file.lfs) return send(file.content, seen, cut, { ...headers, etag: `"${checksum(file)}"` });
    headers["x-linked-etag"] = `"${checksum(file)}"`;
    headers["x-linked-size"] = String(file.content.length);
    headers.location = `http://127.0.0.1:${this.#storage.addr.port}/lfs/${checksum(file)}`;
    return new Response(null, { status: 302, headers });
  }
}

/** The answer of the hub to what it refuses. */
export function failure(status: number, code: string, message = ""): Response {
  const headers = { "x-error-code": code, "x-error-message": message };
  return Response.json({ error: message || code }, { status, headers });
}

/** The name of a file's content in the cache. */
export function checksum({ content, lfs }: HubContent): string {
  return lfs ? createHash("sha256").update(content).digest("hex") : gitHash(content);
}

function gitHash(content: Uint8Array): string {
  return createHash("sha1").update(Buffer.concat([Buffer.from(`blob ${content.length}\0`), content])).digest(
    "hex",
  );
}

/** Sends a content or its range, slowly enough that what was sent before a cut arrives. */
function send(
  content: Uint8Array<ArrayBuffer>,
  seen: SeenRequest,
  cut: { cutAfter: number; hang?: boolean } | null,
  more: Record<string, string> = {},
): Response {
  const from = Number(/^bytes=(\d+)-$/.exec(seen.range ?? "")?.[1] ?? 0), part = content.subarray(from);
  const end = cut === null ? part.length : Math.min(part.length, cut.cutAfter);
  const headers = { ...more, "accept-ranges": "bytes", "content-length": String(part.length) };
  const range = { "content-range": `bytes ${from}-${content.length - 1}/${content.length}` };
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      if (seen.sent < end) {
        const next = part.subarray(seen.sent, Math.min(end, seen.sent + 65536));
        seen.sent += next.length;
        return controller.enqueue(next);
      }
      if (cut === null) return controller.close();
      await new Promise((resolve) => setTimeout(resolve, cut.hang ? 3_000 : 60));
      controller.error(new Error("cut"));
    },
  });
  return new Response(
    body,
    seen.range === null ? { headers } : { status: 206, headers: { ...headers, ...range } },
  );
}

/** Text as bytes. */
export const encode = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
/** A million bytes. */
export const BIG = new Uint8Array(
  Uint32Array.from(
    { length: 250_000 },
    (() => {
      const rng = new Rng(3);
      return () => rng.uint32();
    })(),
  ).buffer,
);

/** Where a test works. */
export interface Place {
  hub: FakeHub;
  cacheDir: string;
  /** The repository's folder in the cache. */
  folder: string;
  options: HubOptions;
}

/** A hub with a small and a large file, and an empty cache. */
export async function withHub(use: (place: Place) => Promise<void>): Promise<void> {
  const cacheDir = await Deno.makeTempDir();
  try {
    await using hub = new FakeHub();
    hub.files = {
      "config.json": { content: encode('{"hidden_size": 384}\n'), lfs: false },
      "sub/model.bin": { content: BIG, lfs: true },
    };
    const options = { hubUrl: hub.url, cacheDir, accessToken: "hf_secret", retryDelaySec: 0.01 };
    await use({ hub, cacheDir, folder: `${cacheDir}/models--some-org--some.model`, options });
  } finally {
    await Deno.remove(cacheDir, { recursive: true });
  }
}

/** What a folder holds; nothing if it is not there. */
export function names(folder: string): string[] {
  try {
    return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  } catch {
    return [];
  }
}

/** Checks that a call fails with one line for a person. */
export async function refuses(call: Promise<unknown>, message: RegExp | string): Promise<void> {
  await assert.rejects(call, (error: Error) => {
    assert.ok(error instanceof WeightsError, String(error.stack));
    if (typeof message === "string") assert.equal(error.message, message);
    else assert.match(error.message, message);
    return !error.message.includes("\n");
  });
}
