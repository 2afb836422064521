// Who may ask. The server listens on this machine alone, but every page in the user's browser can send requests there:
// a foreign page by its own origin, one with a rebound name by the name it believes to talk to.

export const HEADERS = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; " +
    "form-action 'none'; frame-ancestors 'none'",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "microphone=(self)",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "cache-control": "no-store",
};

/** An error with a status and a sentence for the user. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Throws unless the request comes from a page of this server, or, where it changes nothing, from the address bar. */
export function check({ method, headers }, port) {
  const { host, origin, "sec-fetch-site": site } = headers;
  if (![`127.0.0.1:${port}`, `localhost:${port}`].includes(host)) throw new Refused(421, "This server has another name.");
  const changes = method !== "GET";
  const isForeign = origin !== undefined ? origin !== `http://${host}` : changes;
  if (isForeign || (site !== undefined && site !== "same-origin" && (changes || site !== "none"))) {
    throw new Refused(403, "Only pages of this server may ask it.");
  }
}

/** The body in blocks, as they come; throws where it is longer than allowed. */
export async function* body(request, limit) {
  const tooLong = () => new Refused(413, `A request holds ${limit} bytes at most.`);
  if (Number(request.headers["content-length"] ?? 0) > limit) throw tooLong();
  let length = 0;
  for await (const block of request) {
    length += block.length;
    if (length > limit) throw tooLong();
    yield block;
  }
}
