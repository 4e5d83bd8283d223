/** One training loop and one sampler on every device that is there, against the CPU; drivers as in engine_webgpu_test.ts. */
import assert from "node:assert/strict";
import type { DeviceReport } from "./diffusion_devices_worker.ts";

const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json", DRIVERS = "/usr/share/vulkan/icd.d";

/** A driver that the environment names, or the software one at a path. */
function driver(path: string | undefined): string | undefined {
  const chosen = Deno.env.get("VK_ICD_FILENAMES") ?? Deno.env.get("VK_DRIVER_FILES");
  if (chosen) return chosen;
  try {
    return path !== undefined && Deno.statSync(path).isFile ? path : undefined;
  } catch {
    return undefined;
  }
}

function llvmpipe(): string | undefined {
  try {
    const names = [...Deno.readDirSync(DRIVERS)].map(({ name }) => name);
    const name = names.find((entry) => /^lvp_icd.*\.json$/.test(entry));
    return name && `${DRIVERS}/${name}`;
  } catch {
    return undefined;
  }
}

interface DeviceCase {
  readonly device: string;
  /** Bound on `DeviceReport.weights`. */
  readonly weights: number;
  /** Bound on `DeviceReport.samples`. */
  readonly samples: number;
  /** The driver that it runs on; null if it needs none. */
  readonly driver: string | null | undefined;
}

/**
 * Adam's first updates have the size of the learning rate whatever the gradient, so that weights whose gradient is as
 * small as rounding go their own way. In tfjs only the order of sums differs: that is 1e-4 of all updates. The functions
 * of ONNX Runtime's shaders are less exact, losses agree to 3e-5, and it is 5e-3. Bounds are four times that.
 */
const CASES: readonly DeviceCase[] = [
  { device: "tfjs-cpu", weights: 4e-4, samples: 1e-6, driver: null },
  { device: "tfjs-webgpu", weights: 4e-4, samples: 1e-6, driver: driver(llvmpipe()) },
  { device: "webgpu", weights: 2e-2, samples: 1.3e-4, driver: driver(SWIFTSHADER) },
];

async function reportOf({ device, driver }: DeviceCase): Promise<DeviceReport> {
  const worker = new URL("./diffusion_devices_worker.ts", import.meta.url).pathname;
  const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--unstable-webgpu", worker, device],
    env: driver ? { VK_ICD_FILENAMES: driver } : {},
  }).output();
  assert.ok(success, new TextDecoder().decode(stderr).slice(-2000));
  return JSON.parse(new TextDecoder().decode(stdout).trim().split("\n").at(-1)!);
}

for (const wanted of CASES) {
  const { device, driver } = wanted;
  if (driver === undefined) console.log(`training on ${device} not tested: no Vulkan driver for it`);
  Deno.test({
    name: `training and sampling on ${device} equal those on cpu, and only metrics are read within the loop`,
    ignore: driver === undefined,
    async fn() {
      const { losses: [own, other], weights, samples, reads, leaked } = await reportOf(wanted);
      assert.equal(other.length, 5);
      other.forEach((loss, i) =>
        assert.ok(Math.abs(loss - own[i]) <= 1e-4 * Math.abs(own[i]), `loss ${i}: ${loss} is not ${own[i]}`)
      );
      assert.ok(weights <= wanted.weights, `weights differ by ${weights} of their updates`);
      assert.ok(samples <= wanted.samples, `samples differ by ${samples}`);
      // The loss, its ten bins of the time with their counts, and the norm of the gradient, every third update and after
      // the last.
      assert.deepEqual(reads, [3, 6, 7].flatMap((step) => [[step, 1], [step, 20], [step, 1]]));
      assert.equal(leaked, 0);
    },
  });
}
