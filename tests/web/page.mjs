// Opens the page of examples/web in Chromium with a microphone that plays a recording, presses the button, and prints what
// was shown as JSON. Run by tests/examples/test_web.py.
//   node page.mjs --packages node_modules --chromium PATH --url URL [--speech WAV --finals N] [--refuse] [--no-worklet] [--screenshot PNG]
// Without --finals it waits for the page to complain.

import { createRequire } from "node:module";
import { parseArgs } from "node:util";

const WAIT_MS = 60_000;
const names = ["packages", "chromium", "url", "speech", "finals", "screenshot"];
const strings = Object.fromEntries(names.map((name) => [name, { type: "string" }]));
const options = { ...strings, refuse: { type: "boolean" }, "no-worklet": { type: "boolean" } };
const { values } = parseArgs({ options });
const { chromium } = createRequire(`${values.packages}/`)("playwright-core");

const args = ["--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream"];
args.push(values.refuse ? "--deny-permission-prompts" : "--use-fake-ui-for-media-stream");
if (values.speech) args.push(`--use-file-for-fake-audio-capture=${values.speech}%noloop`);
const browser = await chromium.launch({ executablePath: values.chromium, args });
const seen = { partials: [], states: [], problems: [], lit: [], played: [] };

function fail(message) {
  console.error(`the page complains: ${message}`);
  browser.close().finally(() => process.exit(1));
}

try {
  const page = await browser.newPage({ viewport: { width: 760, height: 560 } });
  page.on("console", (message) => message.type() === "error" && seen.problems.push(message.text()));
  page.on("pageerror", (error) => seen.problems.push(error.message));
  await page.exposeFunction("remember", (kind, value) => seen[kind].push(value));
  if (values["no-worklet"]) {
    await page.addInitScript(() => (AudioWorklet.prototype.addModule = () => Promise.reject(new DOMException("", "AbortError"))));
  }
  await page.addInitScript(() => {
    const devices = navigator.mediaDevices;
    const open = devices.getUserMedia.bind(devices);
    window.tracks = [];
    const start = AudioBufferSourceNode.prototype.start;
    AudioBufferSourceNode.prototype.start = function () {
      const peak = this.buffer.getChannelData(0).reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
      window.remember("played", { seconds: this.buffer.duration, peak });
      start.call(this);
    };
    devices.getUserMedia = async (wish) => {
      const media = await open(wish);
      window.tracks.push(...media.getTracks());
      return media;
    };
  });
  await page.goto(values.url);
  await page.evaluate(() => {
    const text = (id) => document.getElementById(id).textContent;
    const watch = (id, tell) => {
      new MutationObserver(tell).observe(document.getElementById(id), { childList: true, subtree: true, characterData: true });
    };
    watch("partial", () => window.remember("partials", { stable: text("stable"), unstable: text("unstable") }));
    watch("status", () => window.remember("states", text("status")));
    new MutationObserver((changes) => {
      for (const { target } of changes) if (target.getAttribute("aria-current") === "true") window.remember("lit", target.textContent);
    }).observe(document.getElementById("finals"), { attributeFilter: ["aria-current"], subtree: true });
  });
  await page.getByRole("button", { name: "Start" }).click();
  if (values.finals) {
    const finals = page.getByRole("log").locator("p");
    page.locator("#alarm:not([hidden])").waitFor({ timeout: WAIT_MS }).then(
      async () => fail(await page.locator("#alarm").textContent()),
      () => {}, // it was never shown
    );
    await finals.nth(Number(values.finals) - 2).waitFor({ timeout: WAIT_MS });
    await page.locator("#unstable:not(:empty)").waitFor({ timeout: WAIT_MS });
    if (values.screenshot) await page.screenshot({ path: values.screenshot });
    await finals.nth(Number(values.finals) - 1).waitFor({ timeout: WAIT_MS });
    await page.getByRole("button", { name: "Stop" }).click();
    await page.getByText("Press Start and speak.").waitFor({ timeout: WAIT_MS });
    seen.finals = await finals.allTextContents();
    for (const text of seen.finals) {
      await page.getByRole("button", { name: `Play: ${text}` }).click();
      await page.locator('.play[aria-pressed="true"]').waitFor({ state: "detached", timeout: WAIT_MS });
    }
    seen.current = await page.locator("[aria-current]").count();
    await page.getByRole("button", { name: "Clear" }).click();
    seen.focus = await page.evaluate(() => document.activeElement.textContent);
  } else {
    await page.getByRole("alert").waitFor({ timeout: WAIT_MS });
    if (values.screenshot) await page.screenshot({ path: values.screenshot });
  }
  await page.waitForFunction(() => window.tracks.every(({ readyState }) => readyState === "ended"), null, { timeout: WAIT_MS });
  seen.alarm = await page.locator("#alarm").textContent();
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
