// The server, asked by requests that no good page would send, with a stand-in for the bridge.

import assert from "node:assert/strict";
import { once } from "node:events";
import { request } from "node:http";
import { connect } from "node:net";
import { after, before, test as untimed } from "node:test";
import { BridgeError } from "../../node/bridge.mjs";
import { EventQueue } from "../../node/event_queue.mjs";
import { serve } from "../app.mjs";

/** A stream that remembers what was done with it. */
class FakeStream {
  calls = [];
  #bridge;

  constructor(bridge, members) {
    this.#bridge = bridge;
    this.members = members;
  }

  #samples = 0; // that were appended
  #ended = 0; // up to the last boundary

  async append(samples) {
    this.calls.push(samples.length);
    this.#samples += samples.length;
  }

  async pause() {
    this.calls.push("pause");
    return { samples: this.#samples - this.#ended };
  }

  /** As if it were too long. */
  split() {
    this.#ended = this.#samples;
  }

  /** With `samples` its final and words are there at once. */
  async vadBoundary({ samples, rest } = {}) {
    this.calls.push(samples === undefined ? "boundary" : `boundary at ${samples}, ${rest}`);
    if (samples > this.#samples - this.#ended) throw new BridgeError("invalid_params", "It has fewer samples.");
    const { stream_id } = this.members;
    const utterance_id = `u${this.calls.length}`;
    const times = { stream_start: Math.round(this.#ended / 16) / 1000, samples: samples ?? this.#samples - this.#ended };
    const words = [{ text: "<b>one</b>", start: 0.1, end: 0.5, char_start: 0, char_end: 10 }];
    const found = samples === undefined ? { words: null, words_pending: true } : { words };
    const items = [{ stream_id, utterance_id, text: "<b>one</b>", language: "English", ...times, ...found }];
    this.#ended = this.#samples;
    this.#bridge.events.add({ type: "realtime_batch_final", items });
    if (samples === undefined) this.#bridge.events.add({ type: "words_ready", stream_id, utterance_id, words });
  }

  async stop(mode) {
    this.calls.push(mode);
    this.#bridge.changed();
  }
}

const bridge = {
  events: new EventQueue(),
  streams: [],
  changed: () => {},
  async startStream(members) {
    if (this.lost !== undefined) this.events.add({ type: "bridge_lost", error: this.lost, streams: [] });
    if (this.lost ?? this.problem) throw this.lost ?? this.problem;
    this.streams.push(new FakeStream(this, members));
    return this.streams.at(-1);
  },
};
const test = (name, body) => untimed(name, { timeout: 60_000 }, body);
const crashes = []; // which would end the server; node:test only notes them
process.on("uncaughtExceptionMonitor", (error) => crashes.push(error.message));
let server;
let host;

before(async () => {
  server = await serve(bridge, 0);
  server.unref(); // node 18 calls `after` when nothing else is left
  host = `127.0.0.1:${server.address().port}`;
});

after(() => {
  server.close();
  server.closeAllConnections();
  bridge.events.end();
});

/** Any headers: `fetch` would not let a test lie about its host. */
async function ask(method, path, { headers = {}, body = "", own = true } = {}) {
  const origin = own ? { origin: `http://${host}` } : {};
  const asked = request({ host: "127.0.0.1", port: server.address().port, method, path, headers: { ...origin, ...headers } });
  asked.on("error", () => {}); // the server may close before it has read everything
  asked.end(body);
  const [response] = await once(asked, "response");
  const blocks = [];
  for await (const block of response) blocks.push(block);
  return { status: response.statusCode, headers: response.headers, text: Buffer.concat(blocks).toString("utf8") };
}

async function begin() {
  const { status, text } = await ask("POST", "/api/sessions", { body: '{"sample_rate":16000}' });
  assert.equal(status, 201);
  return JSON.parse(text).token;
}

/** The events of a session, as lines. */
async function listen(token) {
  const asked = request({ host: "127.0.0.1", port: server.address().port, path: `/api/events?token=${token}` }).end();
  const [response] = await once(asked, "response");
  response.setEncoding("utf8");
  let text = "";
  response.on("data", (piece) => (text += piece));
  response.on("error", () => {}); // the test ends it
  const ended = once(response, "end");
  ended.catch(() => {}); // the test has closed it
  await once(response, "data");
  return { ended, close: () => asked.destroy(), text: () => text };
}

/** The data of the events of this name. */
const told = (page, name) => [...page.text().matchAll(new RegExp(`^event: ${name}\ndata: (.*)$`, "gm"))].map(([, data]) => JSON.parse(data));

const loud = Buffer.from(new Int16Array(16_000).map((_, n) => 8000 * Math.sin(n)).buffer);
const audio = (token, seq, body) => ask("POST", `/api/audio?seq=${seq}`, { headers: { authorization: `Bearer ${token}` }, body });

test("the page comes with headers that let it load nothing from elsewhere", async () => {
  const { status, headers, text } = await ask("GET", "/", { own: false });
  assert.equal(status, 200);
  assert.match(headers["content-security-policy"], /^default-src 'none'/);
  assert.match(text, /<title>Live transcript<\/title>/);
  assert.equal((await ask("GET", "/../server.mjs")).status, 404);
});

test("a request under another name of this machine is refused", async () => {
  for (const name of ["evil.example", `evil.example:${server.address().port}`, "127.0.0.1:1"]) {
    assert.equal((await ask("GET", "/", { headers: { host: name }, own: false })).status, 421);
  }
});

test("a request from a foreign page is refused", async () => {
  const body = '{"sample_rate":16000}';
  const foreign = [{ origin: "http://evil.example" }, { origin: "null" }, { "sec-fetch-site": "cross-site" }];
  for (const headers of foreign) assert.equal((await ask("POST", "/api/sessions", { headers, body })).status, 403);
  assert.equal((await ask("POST", "/api/sessions", { own: false, body })).status, 403);
  assert.equal((await ask("GET", "/", { headers: { "sec-fetch-site": "cross-site" }, own: false })).status, 403);
});

test("nothing is done without the token of a session", async () => {
  for (const token of ["", "wrong", "../etc"]) {
    assert.equal((await audio(token, 0, loud)).status, 401);
    assert.equal((await ask("GET", `/api/events?token=${token}`)).status, 401);
  }
});

test("a rate that the bridge cannot take is refused", async () => {
  for (const body of ["", "null", "[1", '{"sample_rate":7999}', '{"sample_rate":44100.5}', `{"x":"${"x".repeat(2000)}"}`]) {
    assert.ok([400, 413].includes((await ask("POST", "/api/sessions", { body })).status));
  }
});

test("audio becomes utterances, its texts events, and a repeated request is taken once", async () => {
  const token = await begin();
  const page = await listen(token);
  const stream = bridge.streams.at(-1);
  assert.equal(stream.members.sample_rate, 16_000);
  assert.equal((await audio(token, 0, loud)).status, 200);
  assert.equal((await audio(token, 0, loud)).status, 200);
  assert.equal((await audio(token, 2, loud)).status, 409);
  assert.equal((await audio(token, 1, Buffer.alloc(32_000))).status, 200);
  const appended = stream.calls.filter((call) => typeof call === "number").reduce((sum, each) => sum + each);
  assert.equal(appended, 16_000 + 0.6 * 16_000);
  assert.equal((await ask("POST", "/api/finish", { headers: { authorization: `Bearer ${token}` } })).status, 200);
  await page.ended;
  assert.deepEqual(stream.calls.slice(-4), ["pause", 0.4 * 16_000, "boundary at 19200, drop", "drain"]);
  const names = [...page.text().matchAll(/^event: (.*)$/gm)].map(([, name]) => name);
  assert.deepEqual(names.filter((name) => name !== "words"), ["state", "state", "speech", "final", "speech", "done"]);
  const [final] = told(page, "final");
  assert.deepEqual({ ...final, id: "" }, { id: "", text: "<b>one</b>", language: "English", problem: null, start: 0, seconds: 1.2 });
  assert.deepEqual(told(page, "words").map(({ id, words }) => [id, words[0].end]), [[final.id, 0.5]]);
});

test("a final tells where its audio is in what the page has recorded", async () => {
  const token = await begin();
  const page = await listen(token);
  const pause = Buffer.alloc(2 * 16_000);
  for (const [seq, body] of [pause, loud, pause, pause, loud, pause].entries()) await audio(token, seq, body);
  await ask("POST", "/api/finish", { headers: { authorization: `Bearer ${token}` } });
  await page.ended;
  assert.ok(bridge.streams.at(-1).members.words);
  const [first, second] = told(page, "final").map(({ start }) => start);
  assert.deepEqual([first, second], [0.74, 3.74]); // 300 ms before the onset was sure, which took 60 ms
});

test("an utterance ends at its pause where only quiet has followed, and otherwise where it is", async () => {
  const quiet = (ms) => Buffer.alloc(32 * ms);
  for (const [parts, calls] of [
    [[loud], ["boundary"]],
    [[loud, quiet(300)], ["pause", "boundary at 19200, drop"]],
    [[loud, quiet(300), loud], ["pause", "boundary"]],
    [[loud, quiet(300), loud, quiet(600)], ["pause", "pause", "boundary at 40000, drop"]],
  ]) {
    const token = await begin();
    const page = await listen(token);
    for (const [seq, body] of parts.entries()) await audio(token, seq, body);
    assert.equal((await ask("POST", "/api/finish", { headers: { authorization: `Bearer ${token}` } })).status, 200);
    await page.ended;
    const said = bridge.streams.at(-1).calls.filter((call) => typeof call === "string");
    assert.deepEqual(said, [...calls, "drain"]);
    assert.equal(told(page, "words").length, 1);
    assert.equal(told(page, "final")[0].start, 0);
  }
});

test("an utterance that was split behind its pause ends where it is", async () => {
  const token = await begin();
  const page = await listen(token);
  const stream = bridge.streams.at(-1);
  await audio(token, 0, Buffer.concat([loud, Buffer.alloc(2 * 3200)]));
  stream.split();
  assert.equal((await audio(token, 1, Buffer.alloc(2 * 6400))).status, 200);
  assert.deepEqual(stream.calls.slice(-2), ["boundary at 19200, drop", "boundary"]);
  page.close();
});

test("an utterance without times or words keeps its text", async () => {
  const page = await listen(await begin());
  const { stream_id } = bridge.streams.at(-1).members;
  bridge.events.add({ type: "realtime_batch_final", items: [{ stream_id, utterance_id: "u", text: "one", samples: null }] });
  bridge.events.add({ type: "words_ready", stream_id, utterance_id: "u", error: { code: "timeout", message: "late" } });
  bridge.events.add({ type: "bridge_lost", error: new BridgeError("bridge_exited", "It ended."), streams: [stream_id] });
  await page.ended;
  assert.deepEqual(told(page, "final"), [{ id: "u", text: "one", language: null, problem: null, start: null, seconds: 0 }]);
  assert.deepEqual(told(page, "words"), [{ id: "u", words: null }]);
});

test("a body that is too long is refused, whether it says so or not", async () => {
  const token = await begin();
  const page = await listen(token);
  const long = Buffer.alloc(1024 * 1024 + 2);
  assert.equal((await audio(token, 0, long)).status, 413);
  const headers = { authorization: `Bearer ${token}`, "transfer-encoding": "chunked" };
  assert.equal((await ask("POST", "/api/audio?seq=0", { headers, body: long })).status, 413);
  page.close();
});

test("a session ends with the connection of its page, and only so many may be open", async () => {
  const pages = [];
  while (pages.length < 4) {
    const token = await begin().catch(() => null);
    if (token === null) continue; // a session of the test before is about to end
    pages.push({ token, ...(await listen(token)) });
  }
  const refused = await ask("POST", "/api/sessions", { body: '{"sample_rate":16000}' });
  assert.equal(refused.status, 429);
  const stream = bridge.streams.at(-1);
  const closed = new Promise((resolve) => (bridge.changed = resolve));
  pages.at(-1).close();
  await closed;
  assert.deepEqual(stream.calls, ["discard"]);
  assert.equal((await audio(pages.at(-1).token, 0, loud)).status, 401);
  for (const { close } of pages) close();
});

test("the page is told in a sentence why the bridge cannot be used", async (t) => {
  const token = await begin();
  const lost = await listen(token);
  bridge.events.add({ type: "bridge_lost", error: new BridgeError("bridge_exited", "It ended."), streams: [] });
  await lost.ended;
  assert.match(lost.text(), /event: failed\ndata: {"message":"It ended."}/);
  bridge.problem = new BridgeError("bridge_not_found", "It was not found.");
  t.after(() => delete bridge.problem);
  const page = await listen(await begin());
  await page.ended;
  assert.match(page.text(), /event: failed\ndata: {"message":"It was not found."}/);
});

test("a bridge that ends as the stream is opened is told once, and the server lives on", async (t) => {
  bridge.lost = new BridgeError("bridge_exited", "It ended at once.");
  t.after(() => delete bridge.lost);
  const page = await listen(await begin());
  await page.ended;
  assert.equal(page.text().match(/event: failed/g).length, 1);
  assert.equal((await ask("GET", "/")).status, 200);
  assert.deepEqual(crashes, []);
});

test("what a session hears goes to its own page alone", async () => {
  const pages = [await listen(await begin()), await listen(await begin())];
  const [first, second] = bridge.streams.slice(-2).map(({ members }) => members.stream_id);
  bridge.events.add({ type: "partial_result", stream_id: second, text: "two", stable_text: "" });
  bridge.events.add({ type: "bridge_lost", error: new BridgeError("bridge_exited", "It ended."), streams: [first, second] });
  for (const page of pages) await page.ended;
  assert.deepEqual(pages.map((page) => page.text().includes('"two"')), [false, true]);
});

test("audio without its place is refused", async () => {
  const token = await begin();
  const page = await listen(token);
  for (const seq of ["", "x", "-1"]) assert.equal((await audio(token, seq, loud)).status, 409);
  assert.deepEqual(bridge.streams.at(-1).calls, []);
  page.close();
});

test("a request that is no request, or breaks off, is no failure of the server", async (t) => {
  const said = t.mock.method(console, "error", () => {});
  for (const path of ["//", "http://["]) assert.equal((await ask("GET", path)).status, 400);
  const broken = connect(server.address().port, "127.0.0.1");
  broken.end(`POST /api/sessions HTTP/1.1\r\nHost: ${host}\r\nOrigin: http://${host}\r\nContent-Length: 50\r\n\r\n{`);
  await once(broken.resume(), "close");
  assert.equal((await ask("GET", "/")).status, 200);
  assert.equal(said.mock.callCount(), 0);
});
