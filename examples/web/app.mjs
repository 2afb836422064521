// The server: the page's files, and its sessions.
//   POST /api/sessions {"sample_rate":48000}  → {"token"}; the rest wants it
//   GET  /api/events?token=                   → server-sent events; the session ends with this connection
//   POST /api/audio?seq=N                     N from 0; 16-bit little-endian PCM, mono
//   POST /api/finish                          no more audio comes

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { HEADERS, Refused, body, check } from "./guard.mjs";
import { Session } from "./session.mjs";

const SESSIONS = 4;
const BODY_BYTES = 1024 * 1024;
const PAGE_SECONDS = 10; // in which a new session must be listened to
const HEARTBEAT_SECONDS = 15;
const SAMPLE_RATE = 16_000; // of `samples` in results
const RATES = { least: 8_000, most: 192_000 };
const FILES = new Map([
  ["/", ["index.html", "text/html"]],
  ["/style.css", ["style.css", "text/css"]],
  ["/icon.svg", ["icon.svg", "image/svg+xml"]],
  ["/page.js", ["page.js", "text/javascript"]],
  ["/microphone.js", ["microphone.js", "text/javascript"]],
  ["/playback.js", ["playback.js", "text/javascript"]],
  ["/recorded.js", ["recorded.js", "text/javascript"]],
  ["/recorder.js", ["recorder.js", "text/javascript"]],
]);

class App {
  #bridge;
  #sessions = new Map(); // by token
  #count = 0;
  port = 0;

  constructor(bridge) {
    this.#bridge = bridge;
  }

  async answer(request, response) {
    try {
      check(request, this.port);
      await this.#route(request, response, address(request));
    } catch (error) {
      refuse(request, response, error);
    }
  }

  /** Hands on what the bridge says to whom it concerns, until it is stopped. */
  async listen() {
    for await (const event of this.#bridge.events) {
      const find = (stream) => [...this.#sessions.values()].find(({ id }) => id === stream);
      const tell = (stream, name, data) => find(stream)?.tell(name, data);
      const { type, stream_id, utterance_id, text, stable_text, language, words } = event;
      if (type === "partial_result") tell(stream_id, "partial", { text, stable_text, language });
      for (const item of event.items ?? []) {
        tell(item.stream_id, "final", outcome(item, find(item.stream_id)));
        if (item.words) tell(item.stream_id, "words", { id: item.utterance_id, words: item.words });
      }
      if (type === "words_ready") tell(stream_id, "words", { id: utterance_id, words: words ?? null });
      if (type === "stream_error") tell(stream_id, "failed", { message: event.message });
      if (type === "bridge_lost") for (const session of this.#sessions.values()) session.fail(event.error);
    }
  }

  async #route(request, response, url) {
    const session = this.#sessions.get(url.searchParams.get("token") ?? bearer(request));
    const key = `${request.method} ${url.pathname}`;
    if (key === "POST /api/sessions") return this.#begin(request, response);
    if (request.method === "GET" && FILES.has(url.pathname)) return sendFile(response, ...FILES.get(url.pathname));
    if (!url.pathname.startsWith("/api/")) throw new Refused(404, "There is no such page.");
    if (session === undefined) throw new Refused(401, "There is no such session.");
    if (key === "GET /api/events") return this.#open(session, response);
    if (key === "POST /api/audio") await session.audio(Number.parseInt(url.searchParams.get("seq"), 10), body(request, BODY_BYTES));
    else if (key === "POST /api/finish") await session.finish();
    else throw new Refused(404, "There is no such request.");
    send(response, 200, {});
  }

  async #begin(request, response) {
    const rate = await sampleRate(request);
    if (this.#sessions.size >= SESSIONS) throw new Refused(429, "Too many pages record already: close one.");
    this.#count += 1;
    const session = new Session(`page-${this.#count}`, rate);
    this.#sessions.set(session.token, session);
    setTimeout(() => session.hasPage || this.#sessions.delete(session.token), 1000 * PAGE_SECONDS).unref();
    send(response, 201, { token: session.token });
  }

  #open(session, response) {
    if (session.hasPage) throw new Refused(409, "This session has a page already.");
    response.writeHead(200, { ...HEADERS, "content-type": "text/event-stream" });
    const heartbeat = setInterval(() => session.beat(), 1000 * HEARTBEAT_SECONDS);
    response.once("close", () => {
      clearInterval(heartbeat);
      this.#sessions.delete(session.token);
      session.close();
    });
    return session.open(response, this.#bridge);
  }
}

/** An ended utterance, for the page. `start`: of its audio in what the page records, where it has words or they follow. */
function outcome({ utterance_id: id, text, language, error, stream_start, samples, words, words_pending }, session) {
  const start = words || words_pending ? (session?.place(stream_start) ?? null) : null;
  const seconds = (samples ?? 0) / SAMPLE_RATE;
  return { id, text: text ?? "", language: language ?? null, problem: error?.message ?? null, start, seconds };
}

function address({ url }) {
  try {
    return new URL(url, "http://127.0.0.1");
  } catch {
    throw new Refused(400, "This is no address.");
  }
}

function bearer({ headers }) {
  return /^Bearer (\S+)$/.exec(headers.authorization ?? "")?.[1];
}

async function sampleRate(request) {
  const blocks = [];
  for await (const block of body(request, 1024)) blocks.push(block);
  let rate;
  try {
    rate = JSON.parse(Buffer.concat(blocks).toString("utf8"))?.sample_rate;
  } catch {
    rate = undefined;
  }
  if (Number.isInteger(rate) && rate >= RATES.least && rate <= RATES.most) return rate;
  throw new Refused(400, `sample_rate must be a whole number from ${RATES.least} to ${RATES.most}.`);
}

function send(response, status, data) {
  response.writeHead(status, { ...HEADERS, "content-type": "application/json" });
  response.end(JSON.stringify(data));
}

async function sendFile(response, name, type) {
  const bytes = await readFile(new URL(`public/${name}`, import.meta.url));
  response.writeHead(200, { ...HEADERS, "content-type": `${type}; charset=utf-8` });
  response.end(bytes);
}

function refuse(request, response, error) {
  if (error === request.errored) return; // it broke off
  const status = error instanceof Refused ? error.status : error.name === "BridgeError" ? 502 : 500;
  if (status === 500) console.error(error);
  if (response.headersSent) return response.destroy();
  if (!request.complete) response.setHeader("connection", "close"); // what is left of the body is not read
  send(response, status, { message: status === 500 ? "The server failed." : error.message });
}

/** Listens on 127.0.0.1; port 0 takes a free one. */
export async function serve(bridge, port) {
  const app = new App(bridge);
  const server = createServer((request, response) => app.answer(request, response));
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  app.port = server.address().port;
  app.listen();
  return server;
}
