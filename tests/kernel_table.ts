/**
 * The table of kernels in `lib/engine/KERNELS.md`, made from the registry.
 *
 * usage: deno run -A tests/kernel_table.ts    writes the file
 */
import * as tf from "@tensorflow/tfjs";
import { GRADIENTS } from "novae/engine/kernels/gradients.ts";
import { KERNEL_FAMILIES, MISSING_KERNELS } from "novae/engine/kernels/register.ts";

/** Where the table is. */
export const TABLE_FILE = new URL("../lib/engine/KERNELS.md", import.meta.url);

/** The page. */
export function kernelTable(): string {
  const rows = Object.entries(KERNEL_FAMILIES).flatMap(([family, kernels]) =>
    Object.keys(kernels).sort().map((name) => `| \`${name}\` | ${family} | ${gradient(name)} |`)
  );
  const missing = MISSING_KERNELS.map((name) => `\`${name}\``).join(" ");
  return `<!-- Made by tests/kernel_table.ts; a test compares. -->

# Kernels that \`jit\` compiles

${rows.length} kernels, each run eagerly and compiled on shapes around boundaries by
\`tests/engine_kernels_test.ts\`, and on WebGPU by \`tests/engine_webgpu_test.ts\`. Operations without a kernel of
their own (\`tf.moments\`, \`tf.losses\`, \`tf.clone\`, …) are made of these.

| kernel | family | gradient |
| --- | --- | --- |
${rows.join("\n")}

Not compiled, each with an error that names it: ${missing}.
`;
}

/** Who writes the gradient, if there is one. */
function gradient(kernel: string): string {
  if (kernel.startsWith("Novae")) return "by this project's operation around it";
  if (GRADIENTS.some(({ kernelName }) => kernelName === kernel)) return "this project";
  return tf.getGradient(kernel) ? "tfjs" : "";
}

if (import.meta.main) {
  await Deno.writeTextFile(TABLE_FILE, kernelTable());
}
