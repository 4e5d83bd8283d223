/**
 * Checks the documentation of every module: `deno doc --lint`, less its complaint that types of npm packages, such
 * as `tf.Tensor`, are private, which no documentation of ours can mend.
 */
const FOREIGN = [
  "Tensor",
  "Scalar",
  "Tensor1D",
  "Tensor2D",
  "Tensor3D",
  "Tensor4D",
  "Rank",
  "Command",
  "TensorInfo",
];

const modules: string[] = [];
for await (const entry of Deno.readDir("lib")) {
  if (entry.isDirectory) modules.push(`lib/${entry.name}/mod.ts`);
}

const { stderr } = await new Deno.Command(Deno.execPath(), {
  args: ["doc", "--lint", ...modules.sort()],
  env: { NO_COLOR: "1" },
}).output();
const complaints = new TextDecoder().decode(stderr).split("\n\n").filter((block) =>
  /^error\[/.test(block.trim())
);
const ours = complaints.filter((block) => {
  const foreign = /references private type '(\w+)'/.exec(block)?.[1];
  return foreign === undefined || !FOREIGN.includes(foreign);
});
for (const block of ours) console.error(block.trim() + "\n");
console.log(`doc lint: ${modules.length} modules, ${ours.length} complaints`);
if (ours.length > 0) Deno.exit(1);
