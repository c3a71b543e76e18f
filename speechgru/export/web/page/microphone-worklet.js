/** Hands on the microphone's sound, its channels averaged, 1,024 frames at a time. */
class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this._block = new Float32Array(1024);
    this._filled = 0;
  }

  process([channels]) {
    if (!channels.length) return true;
    for (let i = 0; i < channels[0].length; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      this._block[this._filled++] = sum / channels.length;
      if (this._filled === this._block.length) {
        this.port.postMessage(this._block, [this._block.buffer]);
        this._block = new Float32Array(1024);
        this._filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("microphone", Microphone);
