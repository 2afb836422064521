// Opens realtime.html of examples/web in Chromium with a microphone that plays a recording, and prints what was shown as
// JSON. Run by tests/examples/test_web.py.
//   node realtime.mjs --packages node_modules --chromium PATH --url URL --server WS --token TOKEN --speech WAV --finals N
// With 0 finals it waits for the page to complain.

import { createRequire } from "node:module";
import { parseArgs } from "node:util";

const WAIT_MS = 60_000;
const names = ["packages", "chromium", "url", "server", "token", "speech", "finals"];
const { values } = parseArgs({ options: Object.fromEntries(names.map((name) => [name, { type: "string" }])) });
const { chromium } = createRequire(`${values.packages}/`)("playwright-core");

const args = ["--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];
args.push(`--use-file-for-fake-audio-capture=${values.speech}%noloop`);
const browser = await chromium.launch({ executablePath: values.chromium, args });
const seen = { partials: [], problems: [] };

try {
  const page = await browser.newPage();
  page.on("pageerror", (error) => seen.problems.push(error.message));
  await page.exposeFunction("remember", (text) => seen.partials.push(text));
  await page.goto(values.url);
  await page.evaluate(() => {
    const partial = document.getElementById("partial");
    new MutationObserver(() => window.remember(partial.textContent)).observe(partial, { childList: true, subtree: true });
  });
  await page.getByLabel("Server").fill(values.server);
  await page.getByLabel("Token").fill(values.token);
  await page.getByRole("button", { name: "Start" }).click();
  const finals = page.getByRole("log").locator("p");
  if (Number(values.finals) > 0) {
    await finals.nth(Number(values.finals) - 1).waitFor({ timeout: WAIT_MS });
    await page.getByRole("button", { name: "Stop" }).click();
  } else {
    await page.getByRole("alert").waitFor({ timeout: WAIT_MS });
  }
  await page.getByText("Press Start and speak.").waitFor({ timeout: WAIT_MS });
  seen.finals = await finals.allTextContents();
  seen.alarm = await page.locator("#alarm").textContent();
  seen.model = await page.locator("#model").textContent();
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
