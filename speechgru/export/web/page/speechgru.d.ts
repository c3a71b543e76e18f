/** A word that was recognized; all times are seconds since the stream's start. */
export interface WordEvent {
  word: string;
  start: number;
  end: number;
  /** When it was decided. */
  t: number;
  /** Its probability. */
  score: number;
}

/** When a word is an event: `metadata.decoder` of a model. */
export interface DecoderConfig {
  smoothing_s: number;
  threshold: number;
  thresholds: Record<string, number>;
  min_duration_s: number;
  refractory_s: number;
  release: number;
  most_unknown: number;
  unknown_s: number;
  pause_s?: number;
  most_silence?: number;
}

/** When the recurrent state is reset: `metadata.state_policy` of a model. */
export interface StatePolicy {
  mode: "carry" | "silence" | "event";
  silence_s: number;
}

/** What model.json holds. */
export interface Header {
  labels: string[];
  outputs: Record<string, string[]>;
  graph: { sample_rate: number; step_samples: number };
  metadata: { decoder: DecoderConfig; state_policy: StatePolicy };
}

export interface LoadOptions {
  model?: string | URL;
  header?: string | URL;
  /** The module onnxruntime-web, where it is not beside speechgru.js. */
  ort?: unknown;
  decoder?: Partial<DecoderConfig>;
}

/** Recognizes words in a stream of samples at `sampleRate`, in any chunking. */
export class Recognizer {
  static load(options?: LoadOptions): Promise<Recognizer>;
  constructor(ort: unknown, session: unknown, header: Header, changes?: Partial<DecoderConfig>);
  readonly header: Header;
  readonly sampleRate: number;
  readonly stepSamples: number;
  readonly stepS: number;
  readonly labels: string[];
  readonly words: string[];
  readonly detector: Detector;
  /** Seconds of the stream that were decided. */
  readonly time: number;
  /** Of the last step, in the order of the labels. */
  readonly posteriors: Float32Array | null;
  /** The next samples in [-1, 1], any number: the events that they settle. */
  push(samples: Float32Array): Promise<WordEvent[]>;
  reset(): Promise<void>;
}

export class Detector {
  constructor(labels: string[], stepS: number, config: DecoderConfig);
  readonly labels: string[];
  readonly words: string[];
  config: DecoderConfig;
  /** Other thresholds from the next step on; throws if any other setting differs. */
  configure(config: DecoderConfig): void;
  push(logPosteriors: ArrayLike<number>): WordEvent | null;
  reset(): void;
}

export class StateResets {
  constructor(policy: StatePolicy, stepSamples: number, stepS: number);
  readonly stepsAhead: number;
  update(samples: Float32Array, hadEvent: boolean): boolean;
}

export class Resampler {
  constructor(fromRate: number, toRate: number);
  push(samples: Float32Array): Float32Array;
  flush(): Float32Array;
}

export interface Microphone {
  stop(): Promise<void>;
  /** Hertz at which it is open. */
  rate: number;
}

/** Hear the microphone until `stop()`. */
export function listen(
  recognizer: Recognizer,
  onEvent: (event: WordEvent) => void,
  onStep?: (step: { level: number; posteriors: Float32Array | null }) => void,
  onError?: (error: Error) => void,
): Promise<Microphone>;

/** Open the microphone and give its sound, mono at `toRate`, in blocks; `onEnd` is called if it is disconnected. */
export function openMicrophone(
  onSamples: (samples: Float32Array) => void,
  toRate: number,
  onEnd?: () => void,
): Promise<Microphone>;

/** Decibels of full scale. */
export function level(samples: Float32Array): number;
