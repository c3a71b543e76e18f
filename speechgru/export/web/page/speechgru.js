/**
 * Spoken words in a browser or in Node.js: a microphone or samples in, the events of `speechgru listen` out.
 *
 * The network is model.onnx, run by onnxruntime-web; model.json is its header. The detector and the resets of the
 * state are those of the Python package, step by step, with the same settings.
 */

import { Detector, StateResets } from "./detector.js";
import { Resampler, joined } from "./resampler.js";

export { Detector, Resampler, StateResets };

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
    this.detector = new Detector(this.labels, this.stepS, changed(header.metadata.decoder, changes));
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
  async push(samples) {
    if (!(samples instanceof Float32Array)) throw new TypeError("samples: a Float32Array in [-1, 1] is needed");
    const bad = samples.findIndex((sample) => !Number.isFinite(sample));
    if (bad >= 0) throw new RangeError(`samples: number ${bad} is ${samples[bad]}`);
    const own = samples.slice(); // the caller may use the array again before its turn comes
    return this._inTurn(() => this._hear(own));
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

/** A decoder's settings with others in their place. One threshold for all replaces those of single words. */
function changed(decoder, changes) {
  const known = Object.keys({ pause_s: 0, most_silence: 1, ...decoder });
  for (const [name, value] of Object.entries(changes)) {
    if (!known.includes(name)) throw new RangeError(`decoder.${name}: one of ${known.join(", ")} is needed`);
    if (name === "threshold" && !(value > 0 && value <= 1)) throw new RangeError(`decoder.threshold: ${value}`);
  }
  return { ...decoder, ...("threshold" in changes ? { thresholds: {} } : {}), ...changes };
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
  }, recognizer.sampleRate, () => onError(new Error("the microphone was disconnected")));
  return microphone;
}

/**
 * Open the microphone and give its sound, mono at `toRate`, in blocks of some 20 ms.
 * @param {() => void} [onEnd] is called if it is disconnected
 * @returns a promise of `{stop, rate}`
 */
export async function openMicrophone(onSamples, toRate, onEnd = () => {}) {
  if (!navigator.mediaDevices) throw new Error("a page needs https, or to be on this machine, to hear a microphone");
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });
  for (const track of stream.getTracks()) track.onended = onEnd;
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
