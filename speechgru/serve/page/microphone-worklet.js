/** Hands on the microphone's sound as 16-bit PCM, its channels averaged, 20 ms at a time. */
class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this._size = Math.round(sampleRate / 50);
    this._begin();
  }

  _begin() {
    this._block = new Int16Array(this._size);
    this._filled = 0;
    this._power = 0;
  }

  process([channels]) {
    if (!channels.length) return true;
    for (let i = 0; i < channels[0].length; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      const sample = Math.max(-1, Math.min(1, sum / channels.length));
      this._power += sample * sample;
      this._block[this._filled++] = Math.round(sample * 32767);
      if (this._filled === this._size) {
        const levelDb = 10 * Math.log10(this._power / this._size + 1e-12);
        this.port.postMessage({ pcm: this._block.buffer, levelDb }, [this._block.buffer]);
        this._begin();
      }
    }
    return true;
  }
}

registerProcessor("microphone", Microphone);
