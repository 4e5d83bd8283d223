import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";
import * as plot from "novae/plot/mod.ts";
import { float32, Rng } from "novae/tensor/mod.ts";
import { sampleFigures, sampleReport, samplesTable } from "./plot_fixture.ts";

const CHROMIUM = Deno.env.get("NOVAE_CHROMIUM") ?? "/usr/bin/chromium";
const REQUIRED = Deno.env.get("NOVAE_REQUIRE_ALL") === "1";
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const WINDOWS = [
  { name: "wide and light", width: 1280, colorScheme: "light" },
  { name: "wide and dark", width: 1280, colorScheme: "dark" },
  { name: "narrow and light", width: 400, colorScheme: "light" },
  { name: "narrow and dark", width: 400, colorScheme: "dark" },
] as const;

const missing = chromiumMissing();
if (missing !== undefined && !REQUIRED) console.warn(`Skipping the page tests: ${missing}`);

Deno.test({
  name: "a report reads in wide and narrow, light and dark windows of Chromium",
  ignore: missing !== undefined && !REQUIRED,
  fn: async (t) => {
    assert.ok(missing === undefined, missing ?? "");
    const folder = await Deno.makeTempDir();
    const path = `${folder}/report.html`;
    await Deno.writeTextFile(path, plot.reportPage(await sampleReport()));
    await withBrowser(async (browser) => {
      for (const { name, width, colorScheme } of WINDOWS) {
        await t.step(name, async () => {
          const context = await browser.newContext({ viewport: { width, height: 800 }, colorScheme });
          const page = await context.newPage();
          const problems = watched(page);
          await page.goto(pathToFileURL(path).href);
          await page.waitForSelector("html[data-figures-drawn]", { timeout: 30_000 });
          assert.deepEqual(await page.evaluate(measure), {
            figures: 4,
            drawn: 4,
            overflow: 0,
            brokenImages: 0,
            clipped: [],
          });
          assert.equal(await textColour(page), plot.PAGE_COLOURS[colorScheme].text);
          assert.deepEqual(problems, []);
          await context.close();
        });
      }
      await t.step("figures follow a change of the colour setting", async () => {
        const page = await browser.newPage({ colorScheme: "light" });
        await page.goto(pathToFileURL(path).href);
        await page.waitForSelector("html[data-figures-drawn]");
        await page.emulateMedia({ colorScheme: "dark" });
        // Polled from here: the page's policy forbids the evaluation that waitForFunction would do in it.
        for (let tries = 0; await textColour(page) !== plot.PAGE_COLOURS.dark.text; tries++) {
          assert.ok(tries < 50, "figures stayed light");
          await page.waitForTimeout(100);
        }
        await page.close();
      });
    });
    await Deno.remove(folder, { recursive: true });
  },
});

Deno.test({
  name: "outputs of a notebook draw themselves in Chromium",
  ignore: missing !== undefined && !REQUIRED,
  fn: async () => {
    assert.ok(missing === undefined, missing ?? "");
    const outputs = [
      plot.figureBundle(sampleFigures().scatter, "figure-a"),
      plot.figureBundle(sampleFigures().bars, "figure-b"),
      plot.figureBundle(await drawnPanel(), "figure-c"),
      plot.tableBundle(samplesTable()),
    ];
    await withBrowser(async (browser) => {
      const page = await browser.newPage();
      const problems = watched(page);
      await page.setContent(
        `<!doctype html><body>${outputs.map((output) => output["text/html"]).join("\n")}</body>`,
      );
      await page.waitForFunction(() => document.querySelectorAll(".js-plotly-plot .main-svg").length >= 6);
      assert.equal(await page.evaluate(() => document.querySelectorAll(".js-plotly-plot").length), 3);
      assert.deepEqual(await page.evaluate(measurePanel), {
        labels: ["Picture", "Head 1", "Head 2"],
        scale: ["Attention, 1 = even"],
        coloured: true,
        inside: true,
        leftEdges: 0,
      });
      assert.equal(await page.evaluate(() => document.querySelectorAll(".novae-table tbody tr").length), 4);
      assert.deepEqual(problems, []);
    });
  },
});

/** A panel with a picture, labels and a scale of colours. */
function drawnPanel(): Promise<plot.Figure> {
  const weights = new Rng(3).uniform(3 * 2 * 17);
  return plot.attentionPanel(
    float32(new Rng(4).uniform(3 * 32 * 32 * 3), [3, 32, 32, 3]),
    float32(weights, [3, 2, 17]),
    16,
  );
}

/** What the panel shows, and whether nothing of it is cut off; runs in the page. */
function measurePanel() {
  const panel = document.getElementById("figure-c")!, frame = panel.getBoundingClientRect();
  const texts = (selector: string) =>
    [...panel.querySelectorAll(selector)].map((text) => text.textContent ?? "");
  const left = (selector: string) => panel.querySelector(selector)!.getBoundingClientRect().left;
  return {
    labels: texts(".ytick text"),
    scale: texts(".colorbar .cbtitle text"),
    coloured: panel.querySelectorAll(".colorbar .cbfill").length > 0,
    inside: [...panel.querySelectorAll("text, image, .cbfill")].every((part) => {
      const { left, right, top, bottom } = part.getBoundingClientRect();
      return left >= frame.left && right <= frame.right && top >= frame.top && bottom <= frame.bottom;
    }),
    // The scale begins where the picture begins.
    leftEdges: Math.round(left(".colorbar .cbfill") - left("image")),
  };
}

/** What the page holds; runs in the page. */
function measure() {
  const frame = document.documentElement.clientWidth;
  const texts = [...document.querySelectorAll(".plot text")].filter((text) => text.textContent !== "");
  return {
    figures: document.querySelectorAll(".plot").length,
    drawn:
      [...document.querySelectorAll(".js-plotly-plot")].filter((plot) => plot.querySelector(".trace path"))
        .length,
    overflow: document.documentElement.scrollWidth - frame,
    brokenImages: [...document.images].filter((image) => image.naturalWidth === 0).length,
    clipped: texts.filter((text) => {
      const { left, right } = text.getBoundingClientRect();
      return left < 0 || right > frame;
    }).map((text) => text.textContent),
  };
}

/** The colour of a figure's text as #rrggbb. */
function textColour(page: Page): Promise<string> {
  return page.evaluate(() => {
    const title = document.querySelector(".js-plotly-plot .ytitle") as SVGTextElement;
    const channels = getComputedStyle(title).fill.match(/\d+/g) ?? [];
    return "#" +
      channels.slice(0, 3).map((channel) => Number(channel).toString(16).padStart(2, "0")).join("");
  });
}

/** Collects console errors, exceptions and requests for anything but the page itself. */
function watched(page: Page): string[] {
  const problems: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") problems.push(message.text());
  });
  page.on("pageerror", (error) => problems.push(error.message));
  page.on("request", (request) => {
    if (!/^(file|data|blob|about):/.test(request.url())) problems.push(`request for ${request.url()}`);
  });
  return problems;
}

async function withBrowser(work: (browser: Browser) => Promise<void>): Promise<void> {
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
  try {
    await work(browser);
  } finally {
    await browser.close();
  }
}

function chromiumMissing(): string | undefined {
  try {
    Deno.statSync(CHROMIUM);
    return undefined;
  } catch {
    return `${CHROMIUM} is not there (Debian package "chromium", or set NOVAE_CHROMIUM)`;
  }
}
