/** From the sample rate of a microphone to that of a model. */

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

/** Two arrays as one. */
export function joined(one, other) {
  if (!one.length) return other;
  const both = new Float32Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

const clipped = (sample) => Math.min(1, Math.max(-1, sample));

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
