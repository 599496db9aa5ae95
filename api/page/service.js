// What the page asks of the service, and what goes wrong in words.

/** A request that was refused or failed. `retry` is null (no use), or the seconds after which it may be sent again. */
export class ServiceError extends Error {
  constructor(code, message, retry = null) {
    super(message);
    this.code = code;
    this.retry = retry;
  }
}

/** The address of an endpoint, beside the page wherever that is. */
export function address(endpoint, query = {}) {
  const url = new URL(endpoint, document.baseURI);
  url.search = new URLSearchParams(query);
  url.hash = "";
  return url.href;
}

/** The reply of POST /detect to a picture. Throws ServiceError, or AbortError once `signal` fires. */
export async function detect(file, query, key, signal) {
  const body = new FormData();
  body.append("file", file, file.name);
  let response;
  try {
    response = await fetch(address("detect", query), { method: "POST", body, headers: keyed(key), signal });
  } catch (error) {
    if (signal.aborted) throw error;
    throw await broken(file);
  }
  let reply;
  try {
    reply = await response.json();
  } catch (error) {
    if (signal.aborted) throw error;
    reply = null;
  }
  if (!response.ok) throw refused(response, reply);
  if (!Array.isArray(reply?.detections)) {
    throw new ServiceError("no_json", "Something other than the detector answered. Is a proxy in the way?", 0);
  }
  return reply;
}

/** Returns once the service is ready. Throws AbortError once `signal` fires, ServiceError where nobody answers. */
export async function ready(signal) {
  while (!(await fetch(address("health/ready"), { signal }).catch(lost)).ok) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

function lost(error) {
  if (error.name === "AbortError") throw error;
  throw new ServiceError("network", "The service has gone while it was starting. Its log says why.", 0);
}

/** The models that can be asked for, the default first; none while the service does not say. */
export async function models(key) {
  return (await told("models", key))?.models ?? [];
}

/** The ids of the classes that a model detects, label by label; none if the service does not say. */
export async function classes(model, key) {
  const description = await told(`models/${encodeURIComponent(model)}`, key);
  return description?.detection_classes.map(({ id }) => id) ?? [];
}

/** What the page can do without: null where it is not to be had. */
async function told(endpoint, key) {
  const response = await fetch(address(endpoint), { headers: keyed(key) }).catch(() => null);
  return response?.ok ? response.json() : null;
}

function keyed(key) {
  return key ? { "X-API-Key": key } : {};
}

/** Why a request got no answer at all. */
async function broken(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    return new ServiceError("unreadable_file", "The browser cannot read this file. Was it moved, or is it a folder?");
  }
  const size = (file.size / 2 ** 20).toFixed(1);
  const large = file.size > 2 ** 24 ? ` The picture has ${size} MiB: it may be more than the service takes.` : "";
  return new ServiceError("network", `The service cannot be reached, or the connection broke.${large}`, 0);
}

function refused(response, reply) {
  const { code = `http_${response.status}`, message = `The service answered ${response.status} ${response.statusText}.` } = reply?.error ?? {};
  const wait = retryAfter(response.headers.get("Retry-After"));
  switch (response.status) {
    case 401:
      return new ServiceError("unauthorized", message);
    case 429:
      return new ServiceError(code, `The service has as much work as it takes. ${message}`, wait ?? 1);
    case 503:
      return new ServiceError(code, message, wait ?? 1);
    case 504:
      return new ServiceError(code, `${message} The profile “Fast” needs the least time.`, 0);
    default:
      return new ServiceError(code, message, response.status >= 500 ? 0 : null);
  }
}

/** Seconds, from either form of the header; null without one. */
function retryAfter(header) {
  if (!header) return null;
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, Math.ceil(seconds)) : null;
}
