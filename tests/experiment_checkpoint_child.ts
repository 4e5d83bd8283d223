/** Run by experiment_checkpoint_test.ts: saves checkpoints until it is killed, or fills the disk, or a limit of file sizes, with the second. */
import { full, zeros } from "novae/tensor/mod.ts";
import { CheckpointStore, MetricsLog } from "novae/experiment/mod.ts";

const [folder, mode] = Deno.args;
const size = 30_000;
const config = { model: { width: 96 }, train: { learningRate: 1e-4 } };

async function saveForever(): Promise<void> {
  const store = new CheckpointStore(folder, { config });
  for (let step = 1;; step++) {
    await store.save(step, { weights: full([64], step), state: { w: full([size], step) } });
    console.log(step);
  }
}

/** One line of an error, with the name of the mounted folder taken out. */
const said = (error: Error): string => `${error.name}: ${error.message}`.replaceAll(folder, "MOUNT");

/** Saves one checkpoint that there is room for and one that there is none for. */
async function saveTwice(): Promise<{ save: string; left: string[]; loaded: number }> {
  const store = new CheckpointStore(folder, { config });
  await store.save(1, { weights: full([64], 1), state: { w: full([size], 1) } });
  const large = { weights: full([64], 2), state: { w: full([3 * size], 2) } };
  const save = await store.save(2, large).then(() => "saved", said);
  const left = (await Array.fromAsync(Deno.readDir(folder))).map((e) => e.name).filter((n) =>
    n !== "metrics.jsonl"
  );
  const { state } = await store.load(1, { weights: zeros([64]), state: { w: zeros([size]) } });
  return { save, left, loaded: state.w.data[0] };
}

async function fillDisk(): Promise<void> {
  const metrics = MetricsLog.open(`${folder}/metrics.jsonl`);
  metrics.append({ step: 1 });
  const saved = await saveTwice();
  let appended = "all went in";
  try {
    for (let i = 0; i < 100; i++) metrics.append({ filler: "x".repeat(5001) });
  } catch (error) {
    appended = said(error as Error);
  }
  const whole = (await Deno.readTextFile(metrics.path)).endsWith("\n");
  const records = (await MetricsLog.open(metrics.path).read()).filter((record) => !("filler" in record));
  console.log(JSON.stringify({ ...saved, metrics: appended, whole, records }));
}

if (mode === "full") await fillDisk();
else if (mode === "limit") console.log(JSON.stringify(await saveTwice()));
else await saveForever();
