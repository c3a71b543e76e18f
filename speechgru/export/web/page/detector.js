/** When a word is reported, and when the recurrent state is reset, as the Python package decides. */

/** Posteriors are counted in whole parts of this: the sum of a window is exact in any order. */
const PARTS = 2 ** 32;
/** There is a pause where the posterior of `_silence_` reaches this. */
const PAUSE = 0.2;
/** A word begins where its posterior rises over this. */
const ONSET = 0.1;
const THRESHOLDS = new Set(["threshold", "thresholds"]);
const NO_WORDS = new Set(["_silence_", "_unknown_", "_blank_", "_boundary_"]);

/** Emits an event when a word's smoothed posterior stays over its threshold; see `speechgru/decoding/detector.py`. */
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
    this._silence = labels.indexOf("_silence_");
    this.config = config;
    const steps = (seconds) => Math.max(1, roundEven(seconds / this.stepS));
    this._window = steps(config.smoothing_s);
    this._duration = steps(config.min_duration_s);
    this._refractory = roundEven(config.refractory_s / this.stepS);
    this._silenceWindow = this._window + this._duration;
    const mostSilence = this._silence < 0 ? 1 : config.most_silence ?? 1;
    this._mostSilence = mostSilence < 1 ? PARTS * mostSilence * this._silenceWindow : Infinity;
    this._unknownWindow = steps(config.unknown_s);
    this._pauseSteps = this._silence < 0 ? 0 : roundEven((config.pause_s ?? 0) / this.stepS);
    this._mostUnknown = PARTS * config.most_unknown * this._unknownWindow;
    this.configure(config);
    this.reset();
  }

  /** Use settings that differ in thresholds only, from the next step on. */
  configure(config) {
    for (const [word, threshold] of Object.entries(config.thresholds)) {
      if (!this.words.includes(word)) throw new Error(`threshold: the model has no word ${word}`);
      if (typeof threshold !== "number" || !(threshold > 0 && threshold <= 1)) {
        throw new RangeError(`thresholds.${word}: ${threshold}; a number above 0 and up to 1 is needed`);
      }
    }
    for (const key of Object.keys({ ...this.config, ...config })) {
      if (!THRESHOLDS.has(key) && config[key] !== this.config[key]) {
        throw new Error(`${key}: only thresholds can change in a stream`);
      }
    }
    this.config = config;
    const needed = this.words.map((word) => config.thresholds[word] ?? config.threshold);
    this._rawLimits = needed.map((limit) => PARTS * limit);
    this._sumLimits = this._rawLimits.map((limit) => this._window * limit);
  }

  /** Begin a new stream. */
  reset() {
    const zeros = () => new Float64Array(this.words.length);
    this._step = 0;
    this._past = Array.from({ length: this._window }, zeros);
    this._sums = zeros();
    this._pastSilence = new Float64Array(this._silenceWindow);
    this._silenceSum = 0;
    this._pastUnknown = new Float64Array(this._unknownWindow);
    this._unknownSum = 0;
    this._lastPause = -1;
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
    if (this._silence >= 0) {
      const place = step % this._silenceWindow;
      const part = Math.floor(PARTS * Math.exp(logPosteriors[this._silence]));
      this._silenceSum += part - this._pastSilence[place];
      this._pastSilence[place] = part;
      if (part >= PAUSE * PARTS) this._lastPause = step;
    }
    return this.words.length ? this._decide(step) : null;
  }

  _decide(step) {
    const sums = this._sums;
    const held = this._held;
    if (held >= 0 && sums[held] < this.config.release * this._sumLimits[held]) {
      this._held = -1;
      this._onset[held] = step; // said twice, it begins anew
    }
    let word = 0;
    for (let i = 1; i < sums.length; i++) if (sums[i] > sums[word]) word = i;
    if (step - this._sustained[word] < this._duration) return null;
    if (this._held === word || step < this._blockedUntil) return null;
    if (this._silenceSum > this._mostSilence) return null;
    this._held = word; // also where other speech leads up to it: so it stays
    if (this._unknownSum > this._mostUnknown && step - this._lastPause >= this._pauseSteps) return null;
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

/** As Python rounds: a half goes to the even number. */
function roundEven(x) {
  const below = Math.floor(x);
  const part = x - below;
  return part < 0.5 || (part === 0.5 && below % 2 === 0) ? below : below + 1;
}
