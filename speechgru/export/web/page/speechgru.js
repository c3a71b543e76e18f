/**
 * Spoken words in a browser or in Node.js: a microphone or samples in, the events of `speechgru listen` out.
 *
 * The network is model.onnx, run by onnxruntime-web; model.json is its header. The detector and the resets of the
 * state are those of the Python package, step by step, with the same settings.
 */

/** Posteriors are counted in whole parts of this: the sum of a window is exact in any order. */
const PARTS = 2 ** 32;
/** A word begins where its posterior rises over this. */
const ONSET = 0.1;
const NO_WORDS = new Set(["_silence_", "_unknown_", "_blank_", "_boundary_"]);

/** Fires an event when a word's smoothed posterior stays over its threshold; see `speechgru/decoding/detector.py`. */
export class Detector {
  /**
   * @param {string[]} labels of the columns of the log-posteriors
   * @param {number} stepS seconds from one step to the next
   * @param {object} config `metadata.decoder` of a model
   */
  constructor(labels, stepS, config) {
    this.labels = labels;
    this.stepS = stepS;
    this.words = labels.filter((label) => !NO_WORDS.has(label));
    this._ids = this.words.map((word) => labels.indexOf(word));
    this._unknown = config.most_unknown < 1 ? labels.indexOf("_unknown_") : -1;
    this.configure(config);
    this.reset();
  }

  /** Decide by other settings from here on; the windows stay as long as they are. */
  configure(config) {
    for (const word of Object.keys(config.thresholds)) {
      if (!this.words.includes(word)) throw new Error(`threshold: the model has no word ${word}`);
    }
    this.config = config;
    const steps = (seconds) => Math.max(1, roundEven(seconds / this.stepS));
    const window = steps(config.smoothing_s);
    const needed = this.words.map((word) => config.thresholds[word] ?? config.threshold);
    this._rawLimits = needed.map((limit) => PARTS * limit);
    this._sumLimits = this._rawLimits.map((limit) => window * limit);
    this._duration = steps(config.min_duration_s);
    this._refractory = roundEven(config.refractory_s / this.stepS);
    const unknownWindow = steps(config.unknown_s);
    this._mostUnknown = PARTS * config.most_unknown * unknownWindow;
    if (this._window !== window || this._unknownWindow !== unknownWindow) {
      this._window = window;
      this._unknownWindow = unknownWindow;
      this.reset();
    }
  }

  /** Begin a new stream. */
  reset() {
    const zeros = () => new Float64Array(this.words.length);
    this._step = 0;
    this._past = Array.from({ length: this._window }, zeros);
    this._sums = zeros();
    this._pastUnknown = new Float64Array(this._unknownWindow);
    this._unknownSum = 0;
    this._onset = zeros().fill(-1);
    this._reached = zeros().fill(-1);
    this._sustained = zeros().fill(-1);
    this._held = -1;
    this._blockedUntil = 0;
  }

  /**
   * One step's log-posteriors, in the order of the labels.
   * @returns the event that it settles, or null
   */
  push(logPosteriors) {
    const step = this._step++;
    const past = this._past[step % this._window];
    for (let i = 0; i < this._ids.length; i++) {
      const part = Math.floor(PARTS * Math.exp(logPosteriors[this._ids[i]]));
      this._sums[i] += part - past[i];
      past[i] = part;
      if (part < ONSET * PARTS) this._onset[i] = step;
      if (part < this._rawLimits[i]) this._reached[i] = step;
      if (this._sums[i] < this._sumLimits[i]) this._sustained[i] = step;
    }
    if (this._unknown >= 0) {
      const place = step % this._unknownWindow;
      const part = Math.floor(PARTS * Math.exp(logPosteriors[this._unknown]));
      this._unknownSum += part - this._pastUnknown[place];
      this._pastUnknown[place] = part;
    }
    return this.words.length ? this._decide(step) : null;
  }

  _decide(step) {
    const sums = this._sums;
    const held = this._held;
    if (held >= 0 && sums[held] < this.config.release * this._sumLimits[held]) this._held = -1;
    let word = 0;
    for (let i = 1; i < sums.length; i++) if (sums[i] > sums[word]) word = i;
    if (step - this._sustained[word] < this._duration) return null;
    if (this._held === word || step < this._blockedUntil) return null;
    this._held = word; // also where other speech leads up to it: so it stays
    if (this._unknownSum > this._mostUnknown) return null;
    this._blockedUntil = step + this._refractory;
    return {
      word: this.words[word],
      start: this.stepS * (this._onset[word] + 1),
      end: this.stepS * Math.min(step + 1, this._reached[word] + 2),
      t: this.stepS * (step + 1),
      score: sums[word] / (this._window * PARTS),
    };
  }
}

const GRID_STEPS = 5;
const QUIET_MARGIN_DB = 6;
const LOWEST_DB = -60;
const FLOOR_MEMORY = 100;

/** Follows a stream and says where its recurrent state is to be reset; see `speechgru/recognition/state_policy.py`. */
export class StateResets {
  constructor(policy, stepSamples, stepS) {
    this.policy = policy;
    this._stepSamples = stepSamples;
    this._quietNeeded = Math.max(1, roundEven(policy.silence_s / (GRID_STEPS * stepS)));
    this._steps = 0;
    this._energy = 0;
    this._levels = [];
    this._quiet = 0;
    this._hadEvent = false;
  }

  /** Steps to the next place where the state may be reset. */
  get stepsAhead() {
    return this.policy.mode === "carry" ? 50 : GRID_STEPS - this._steps;
  }

  /** Whole steps, at most `stepsAhead`, and whether they had an event; true: reset the state now. */
  update(samples, hadEvent) {
    if (this.policy.mode === "carry") return false;
    for (const sample of samples) this._energy += sample * sample;
    this._steps += samples.length / this._stepSamples;
    this._hadEvent ||= hadEvent;
    if (this._steps < GRID_STEPS) return false;
    const power = this._energy / (GRID_STEPS * this._stepSamples);
    const level = Math.max(LOWEST_DB, 10 * Math.log10(power + 1e-12));
    this._levels.push(level);
    if (this._levels.length > FLOOR_MEMORY) this._levels.shift();
    this._quiet = level <= Math.min(...this._levels) + QUIET_MARGIN_DB ? this._quiet + 1 : 0;
    const event = this._hadEvent;
    this._steps = this._energy = 0;
    this._hadEvent = false;
    return this.policy.mode === "event" ? event : this._quiet >= this._quietNeeded;
  }
}

/** Resamples a stream with a windowed sinc, block by block as the whole; what comes out is in [-1, 1]. */
export class Resampler {
  constructor(fromRate, toRate) {
    const divisor = gcd(fromRate, toRate);
    this._up = toRate / divisor;
    this._down = fromRate / divisor;
    const cutoff = 0.95 * Math.min(1, toRate / fromRate); // of the input's Nyquist frequency
    this._half = Math.ceil(32 / cutoff);
    this._kernels = Array.from({ length: this._up }, (_, phase) => kernel(phase / this._up, this._half, cutoff));
    this._buffer = new Float32Array(this._half); // zeros before the start
    this._first = -this._half; // where in the input the buffer begins
    this._next = 0; // of the output
  }

  /** The next samples, any number; gives those that they settle. */
  push(samples) {
    if (this._up === this._down) return samples.map(clipped);
    this._buffer = joined(this._buffer, samples);
    const end = this._first + this._buffer.length;
    const out = [];
    for (;;) {
      const place = Math.floor((this._next * this._down) / this._up);
      if (place + this._half >= end) break;
      const weights = this._kernels[(this._next * this._down) % this._up];
      let first = place - this._half + 1 - this._first;
      let sum = 0;
      for (const weight of weights) sum += weight * this._buffer[first++];
      out.push(clipped(sum));
      this._next++;
    }
    const needed = Math.floor((this._next * this._down) / this._up) - this._half + 1;
    const surplus = Math.max(0, Math.min(needed - this._first, this._buffer.length));
    this._buffer = this._buffer.slice(surplus);
    this._first += surplus;
    return Float32Array.from(out);
  }

  /** The stream is over: gives the samples that were still waiting for others. */
  flush() {
    return this._up === this._down ? new Float32Array(0) : this.push(new Float32Array(this._half));
  }
}

/** Recognizes words in a stream of samples at `sampleRate`, in any chunking. */
export class Recognizer {
  /**
   * @param ort the module onnxruntime-web
   * @param session of the model
   * @param {object} header model.json
   * @param {object} [changes] settings in the place of the model's own: of the decoder
   */
  constructor(ort, session, header, changes = {}) {
    this._ort = ort;
    this._session = session;
    this.header = header;
    this.sampleRate = header.graph.sample_rate;
    this.stepSamples = header.graph.step_samples;
    this.stepS = this.stepSamples / this.sampleRate;
    let first = 0;
    for (const [head, labels] of Object.entries(header.outputs)) {
      if (head === "classify") this._columns = [first, first + labels.length];
      first += labels.length;
    }
    if (!this._columns) throw new Error("the model has no classify head, which the detector needs");
    this._width = first;
    this.labels = header.outputs.classify;
    this.detector = new Detector(this.labels, this.stepS, { ...header.metadata.decoder, ...changes });
    this._queue = Promise.resolve();
    this._fresh();
  }

  /**
   * Load a model.
   * @param {object} [options]
   * @param {string|URL} [options.model] model.onnx
   * @param {string|URL} [options.header] model.json
   * @param options.ort the module onnxruntime-web, where it is not beside this file
   * @param {object} [options.decoder] settings in the place of the model's own
   */
  static async load({ model, header, ort, decoder } = {}) {
    const here = (name) => new URL(name, import.meta.url);
    ort ??= await import(here("onnxruntime/ort.wasm.min.mjs"));
    ort.env.wasm.numThreads = 1; // more need a page that is isolated from all others
    ort.env.wasm.wasmPaths ??= here("onnxruntime/").href;
    const [bytes, description] = await Promise.all([
      fetched(model ?? here("model.onnx")).then((answer) => answer.arrayBuffer()),
      fetched(header ?? here("model.json")).then((answer) => answer.json()),
    ]);
    const session = await ort.InferenceSession.create(new Uint8Array(bytes), { executionProviders: ["wasm"] });
    return new Recognizer(ort, session, description, decoder);
  }

  /** The words that can be an event. */
  get words() {
    return this.detector.words;
  }

  /** Seconds of the stream that were decided. */
  get time() {
    return this.stepS * this._steps;
  }

  /** Begin a new stream once what was pushed is heard. */
  reset() {
    return this._inTurn(() => {
      this._fresh();
      this.detector.reset();
    });
  }

  /**
   * The next samples, a Float32Array in [-1, 1], any number.
   * @returns a promise of the events that they settle
   */
  push(samples) {
    return this._inTurn(() => this._hear(samples));
  }

  _inTurn(work) {
    const done = this._queue.then(work);
    this._queue = done.catch(() => {});
    return done;
  }

  _fresh() {
    this._rest = new Float32Array(0);
    this._steps = 0;
    this._resets = new StateResets(this.header.metadata.state_policy, this.stepSamples, this.stepS);
    /** The posteriors of the last step, in the order of the labels; null before the first. */
    this.posteriors = null;
    this._state = {};
    for (const { name, shape } of this._session.inputMetadata) {
      if (name !== "samples") this._state[name] = this._zeros(shape);
    }
  }

  _zeros(shape) {
    const dims = shape.map((size) => (typeof size === "number" ? size : 1));
    const size = dims.reduce((product, n) => product * n, 1);
    return new this._ort.Tensor("float32", new Float32Array(size), dims);
  }

  async _hear(samples) {
    const whole = joined(this._rest, samples);
    const events = [];
    let first = 0;
    for (;;) {
      const steps = Math.min(this._resets.stepsAhead, Math.floor((whole.length - first) / this.stepSamples));
      if (steps < 1) break;
      const last = first + steps * this.stepSamples;
      events.push(...(await this._block(whole.slice(first, last))));
      first = last;
    }
    this._rest = whole.slice(first);
    return events;
  }

  async _block(samples) {
    const chunk = new this._ort.Tensor("float32", samples, [1, samples.length]);
    const { log_posteriors: answer, ...next } = await this._session.run({ samples: chunk, ...this._state });
    for (const [name, tensor] of Object.entries(next)) this._state[name.replace("next.", "state.")] = tensor;
    const events = [];
    let row;
    for (let start = 0; start < answer.data.length; start += this._width) {
      row = answer.data.subarray(start + this._columns[0], start + this._columns[1]);
      if (Number.isNaN(row[0])) throw new Error("the model's answer is not a number");
      const event = this.detector.push(row);
      if (event) events.push(event);
      this._steps++;
    }
    this.posteriors = Float32Array.from(row, Math.exp);
    if (this._resets.update(samples, events.length > 0)) {
      for (const [name, tensor] of Object.entries(this._state)) {
        if (name.startsWith("state.layer")) this._state[name] = this._zeros(tensor.dims);
      }
    }
    return events;
  }
}

/**
 * Hear the microphone until `stop()`.
 * @param {Recognizer} recognizer
 * @param {(event: object) => void} onEvent gets each event as it is decided
 * @param {(step: {level: number, posteriors: Float32Array|null}) => void} [onStep] gets the level, in decibels of full
 *   scale, and the posteriors of each block of sound
 * @param {(error: Error) => void} [onError]
 * @returns a promise of `{stop, rate}`, kept once the microphone is open
 */
export async function listen(recognizer, onEvent, onStep = () => {}, onError = console.error) {
  const microphone = await openMicrophone((samples) => {
    recognizer.push(samples).then((events) => {
      events.forEach(onEvent);
      onStep({ level: level(samples), posteriors: recognizer.posteriors });
    }, onError);
  }, recognizer.sampleRate);
  return microphone;
}

/**
 * Open the microphone and give its sound, mono at `toRate`, in blocks of some 20 ms.
 * @returns a promise of `{stop, rate}`
 */
export async function openMicrophone(onSamples, toRate) {
  if (!navigator.mediaDevices) throw new Error("a page needs https, or to be on this machine, to hear a microphone");
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });
  const context = new AudioContext();
  const stop = () => {
    for (const track of stream.getTracks()) track.stop();
    return context.close();
  };
  try {
    await context.audioWorklet.addModule(new URL("microphone-worklet.js", import.meta.url));
    const source = new MediaStreamAudioSourceNode(context, { mediaStream: stream });
    const worklet = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0 });
    const resampler = new Resampler(context.sampleRate, toRate);
    worklet.port.onmessage = ({ data }) => onSamples(resampler.push(data));
    source.connect(worklet);
    await context.resume();
  } catch (error) {
    await stop();
    throw error;
  }
  return { stop, rate: context.sampleRate };
}

/** Decibels of full scale. */
export function level(samples) {
  let power = 0;
  for (const sample of samples) power += sample * sample;
  return 10 * Math.log10(power / Math.max(1, samples.length) + 1e-12);
}

async function fetched(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address}: ${answer.status} ${answer.statusText}`);
  return answer;
}

function joined(one, other) {
  if (!one.length) return other;
  const both = new Float32Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

const clipped = (sample) => Math.min(1, Math.max(-1, sample));

/** As Python rounds: a half goes to the even number. */
function roundEven(x) {
  const below = Math.floor(x);
  const part = x - below;
  return part < 0.5 || (part === 0.5 && below % 2 === 0) ? below : below + 1;
}

function gcd(a, b) {
  return b ? gcd(b, a % b) : a;
}

/** The weights of the 2 half samples around a place between two of them; Kaiser's window with beta 10. */
function kernel(fraction, half, cutoff) {
  return Float64Array.from({ length: 2 * half }, (_, i) => {
    const x = i - half + 1 - fraction;
    const angle = Math.PI * cutoff * x;
    const window = Math.abs(x) < half ? bessel(10 * Math.sqrt(1 - (x / half) ** 2)) / bessel(10) : 0;
    return (x === 0 ? cutoff : (cutoff * Math.sin(angle)) / angle) * window;
  });
}

/** The modified Bessel function of the first kind, of order 0. */
function bessel(x) {
  let term = 1;
  let sum = 1;
  for (let k = 1; k < 40; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}
