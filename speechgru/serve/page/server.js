/** What the page asks of its server: HTTP with the token in a header, and sound over a WebSocket. */

const TOKEN = "speechgru-token";
/** Bytes that may wait for the network, about two seconds of sound; what comes then is lost. */
const MOST_WAITING = 200_000;
/** How long the last answers of a stream that was stopped are waited for. */
const LAST_MS = 5000;

let token = sessionStorage.getItem(TOKEN) ?? "";

/** Use this token from now on, until the tab is closed. */
export function useToken(text) {
  token = text.trim();
  sessionStorage.setItem(TOKEN, token);
}

/** The server wants a token, or another one. */
export class TokenNeeded extends Error {}

/** What a server answers; browsers say in words of their own that none did. */
const reached = (answer) => answer.catch(() => {
  throw new Error("The server cannot be reached.");
});

/**
 * The answer to a request, from JSON.
 * @throws {TokenNeeded}
 * @throws {Error} with the server's sentence
 */
export async function ask(path, options = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await reached(fetch(path, { ...options, headers: { ...headers, ...options.headers } }));
  const content = await answer.json().catch(() => ({}));
  if (answer.status === 401) throw new TokenNeeded(content.error);
  if (!answer.ok) throw new Error(content.error ?? `${path}: ${answer.status} ${answer.statusText}`);
  return content;
}

/** The answer to a POST of an object. */
export const post = (path, content) => ask(path, {
  method: "POST", body: JSON.stringify(content), headers: { "Content-Type": "application/json" },
});

/** The same for a file, as an address for `<audio>`. */
export async function askSound(path) {
  const answer = await reached(fetch(path, { headers: token ? { Authorization: `Bearer ${token}` } : {} }));
  if (!answer.ok) {
    const content = await answer.json().catch(() => ({}));
    throw new Error(content.error ?? `${path}: ${answer.status} ${answer.statusText}`);
  }
  return URL.createObjectURL(await answer.blob());
}

/**
 * Open the microphone and stream it to the server until `stop()`.
 * @param {string} path of the WebSocket
 * @param {object} options for its query
 * @param {(message: object) => void} onMessage gets each JSON message
 * @param {(levelDb: number) => void} onLevel gets the level of each block, in decibels of full scale
 * @param {(reason: string) => void} onClose gets why it ended, empty after `stop()` unless the server says why
 * @param {AbortSignal} signal nobody wants it any more, though it is not open yet: the browser may still be asking
 * @returns a promise of `{send, stop}`
 */
export async function stream(path, options, onMessage, onLevel, onClose, signal) {
  if (!navigator.mediaDevices) {
    throw new Error("A browser gives the microphone only to pages over https, or of the same machine. "
      + "Start the server with --tls-self-signed DIR and open https:// instead.");
  }
  const input = await navigator.mediaDevices.getUserMedia({
    audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  }).catch((error) => {
    signal.throwIfAborted(); // refused after it was left
    throw error;
  });
  const context = new AudioContext();
  const mute = () => input.getTracks().forEach((track) => track.stop());
  const close = () => {
    mute();
    return context.close();
  };
  try {
    signal.throwIfAborted();
    await reached(context.audioWorklet.addModule(new URL("microphone-worklet.js", import.meta.url)));
    await context.resume();
    signal.throwIfAborted();
    const socket = await open(path, { ...options, rate: context.sampleRate, format: "s16le" });
    if (signal.aborted) socket.close();
    signal.throwIfAborted();
    let ending; // why, once it ends from here
    let lost = 0;
    const end = (why) => {
      ending ??= why;
      mute(); // at once: the server may be out of reach
      if (socket.readyState === WebSocket.OPEN) socket.send('{"type": "end"}');
      setTimeout(() => {
        ending ||= "The server does not answer.";
        socket.onclose?.({});
      }, LAST_MS);
    };
    socket.onmessage = ({ data }) => onMessage(JSON.parse(data));
    socket.onclose = ({ reason }) => {
      socket.onmessage = socket.onclose = null;
      socket.close();
      close();
      onClose(ending === undefined ? reason || "The connection to the server was lost." : ending || reason || "");
    };
    for (const track of input.getTracks()) track.onended = () => end("The microphone was disconnected.");
    const worklet = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0 });
    worklet.port.onmessage = ({ data: { pcm, levelDb } }) => {
      onLevel(levelDb);
      if (socket.readyState !== WebSocket.OPEN || ending !== undefined) return;
      if (socket.bufferedAmount > MOST_WAITING) {
        lost += pcm.byteLength / 2;
        return;
      }
      if (lost) socket.send(JSON.stringify({ type: "lost", samples: lost }));
      lost = 0;
      socket.send(pcm);
    };
    new MediaStreamAudioSourceNode(context, { mediaStream: input }).connect(worklet);
    return {
      send: (message) => socket.send(JSON.stringify(message)),
      stop: () => end(""),
    };
  } catch (error) {
    await close();
    signal.throwIfAborted();
    throw error;
  }
}

function open(path, options) {
  const address = new URL(path, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  for (const [name, value] of Object.entries(options)) {
    address.searchParams.set(name, typeof value === "object" ? JSON.stringify(value) : value);
  }
  // A browser's WebSocket can set no other header than this one.
  const socket = new WebSocket(address, token ? ["speechgru", `bearer.${token}`] : ["speechgru"]);
  return new Promise((resolve, reject) => {
    socket.onopen = () => resolve(socket);
    socket.onclose = ({ reason }) => reject(new Error(reason || "The server refused the connection."));
  });
}
