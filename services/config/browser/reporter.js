// Reports errors of this page to config, by Sentry's SDK without what it would tell of a person:
//   keepwordErrors.start({ session, release })
// `session` gives a promise of a session token; what goes wrong before it is there is reported later.
// Nothing here throws, nor waits for an answer: a page works the same where no report can be made.
import {
  BrowserClient,
  dedupeIntegration,
  defaultStackParser,
  eventFiltersIntegration,
  getCurrentScope,
  globalHandlersIntegration,
  linkedErrorsIntegration,
  makeFetchTransport,
} from "@sentry/browser";

const HERE = new URL(document.currentScript.src);
const TRACKING = "keepword-tracking";
const AGAIN_AFTER_MS = 5 * 60_000;
const RENEWED_AT = 0.9;
const MOST_EARLY = 10;

const early = [];
const note = (event) => {
  const error = event.error ?? event.reason;
  if (error !== undefined && early.length < MOST_EARLY) early.push(error);
};
const EARLY = ["error", "unhandledrejection"];
EARLY.forEach((name) => addEventListener(name, note));

// Random, and gone with the tab; the server makes of it what nobody can join over days.
const trackingId = () => {
  const made = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
  try {
    const kept = sessionStorage.getItem(TRACKING) ?? made;
    sessionStorage.setItem(TRACKING, kept);
    return kept;
  } catch {
    // A browser may keep nothing for a page in a frame.
    return made;
  }
};

// What is kept, and nothing else: neither the page's address nor what was clicked.
const keep = (id) => (event) => ({
  event_id: event.event_id,
  exception: event.exception,
  level: event.level,
  message: event.message,
  platform: event.platform,
  release: event.release,
  timestamp: event.timestamp,
  user: { id },
});

const begin = (token, release, id) => {
  const client = new BrowserClient({
    dsn: `${HERE.protocol}//${token}@${HERE.host}/1`,
    tunnel: new URL("envelopes", HERE).href,
    release,
    transport: makeFetchTransport,
    stackParser: defaultStackParser,
    // Neither clicks, nor visits, nor the browser's address, headers and cookies.
    integrations: [
      eventFiltersIntegration(),
      globalHandlersIntegration(),
      linkedErrorsIntegration(),
      dedupeIntegration(),
    ],
    dataCollection: {
      userInfo: false,
      cookies: false,
      httpHeaders: false,
      httpBodies: [],
      urlQueryParams: false,
    },
    enhanceFetchErrorMessages: false,
    maxBreadcrumbs: 0,
    sendClientReports: false,
    beforeSend: keep(id),
  });
  getCurrentScope().setClient(client);
  client.init();
  EARLY.forEach((name) => removeEventListener(name, note));
  // Nobody had caught them, as the SDK would say of them too.
  const mechanism = { type: "onerror", handled: false };
  early.splice(0).forEach((error) => client.captureException(error, { mechanism }));
};

const start = async ({ session, release }) => {
  const id = trackingId();
  let after = AGAIN_AFTER_MS;
  try {
    const answer = await fetch(new URL("/api/v1/error-tokens", HERE), {
      method: "POST",
      headers: { Authorization: `Bearer ${await session()}` },
      credentials: "omit",
    });
    // Who is not served now may be later, but for one who is gone there is no later.
    if (answer.status === 410) return;
    if (answer.ok) {
      const { token, expires_in_seconds } = await answer.json();
      begin(token, release, id);
      after = expires_in_seconds * 1000 * RENEWED_AT;
    }
  } catch {
    // Tried again below.
  }
  setTimeout(() => start({ session, release }), after);
};

window.keepwordErrors = Object.freeze({ start });
