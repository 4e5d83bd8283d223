/** The webgpu device, on a real GPU's driver or on the software driver that comes with Debian's Chromium. */
import assert from "node:assert/strict";

const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";

function driver(): string | undefined {
  const chosen = Deno.env.get("VK_ICD_FILENAMES") ?? Deno.env.get("VK_DRIVER_FILES");
  if (chosen) return chosen;
  try {
    Deno.statSync(SWIFTSHADER);
    return SWIFTSHADER;
  } catch {
    return undefined;
  }
}

const found = driver();
const reason = `no Vulkan driver: neither VK_ICD_FILENAMES nor ${SWIFTSHADER}`;
if (!found) console.log(`webgpu device not tested: ${reason}`);

Deno.test({
  name:
    "every kernel and a training step with state on the device are the same on webgpu, which may run out of memory",
  ignore: !found,
  async fn() {
    const worker = new URL("./engine_webgpu_worker.ts", import.meta.url).pathname;
    const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--unstable-webgpu", worker],
      env: { VK_ICD_FILENAMES: found! },
    }).output();
    const lines = new TextDecoder().decode(stdout).trim().split("\n");
    assert.ok(success && lines.at(-1) === "DONE", new TextDecoder().decode(stderr).slice(-2000));
    assert.deepEqual(lines.filter((line) => line.startsWith("DIFFERS")), []);
    assert.equal(lines.find((line) => line.startsWith("MISSED")), "MISSED ");
    const notThere = lines.filter((line) => line.startsWith("NOT-THERE"));
    assert.deepEqual(notThere.map((line) => line.split(":")[0]), ["NOT-THERE pow of int32"]);
    assert.match(
      lines.find((line) => line.startsWith("MEMORY"))!,
      /^MEMORY \[2,3,4,5\] Cannot run grow on webgpu: its memory is not enough; use a smaller batch or checkpoint\(\) \(/,
    );
    if (found === SWIFTSHADER) {
      assert.match(
        lines.find((line) => line.startsWith("AUTO"))!,
        /^AUTO cpu no GPU that can be used: only the soft/,
      );
    }
  },
});
