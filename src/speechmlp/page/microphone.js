// The microphone: blocks of samples with their level, recordings that end by themselves, and sounds to play.
const QUIETEST = 0.01; // level that is never speech
const ABOVE = 4; // level of speech relative to the quietest moment
const LOWEST = 70; // Hz; slower changes are an offset of the sound card, or rumble
const LONGEST = 6; // seconds of a recording that ends by itself
const PAUSE = 0.6; // seconds of silence that end it

export const available = () => Boolean(navigator.mediaDevices && window.AudioWorkletNode);

export class Microphone {
  // Calls block(samples, level) for each block, and lost(sentence) if the microphone is taken away.
  static async open(block, lost) {
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
    const context = new AudioContext();
    try {
      await context.audioWorklet.addModule("capture.js");
      await context.resume();
    } catch (error) {
      stream.getTracks().forEach((track) => track.stop());
      throw error;
    }
    return new Microphone(stream, context, block, lost);
  }

  constructor(stream, context, block, lost) {
    Object.assign(this, { stream, context, block, level: 0, high: 0, last: null, rate: context.sampleRate });
    this.kept = Math.exp((-2 * Math.PI * LOWEST) / this.rate); // of a high-pass of first order
    this.node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    this.node.port.onmessage = ({ data }) => this.add(data);
    context.createMediaStreamSource(stream).connect(this.node);
    stream.getTracks().forEach((track) => (track.onended = () => lost("The microphone was taken away.")));
  }

  add(samples) {
    let power = 0;
    for (const sample of samples) {
      this.high = sample - (this.last ?? sample) + this.kept * this.high;
      this.last = sample;
      power += (this.high * this.high) / samples.length;
    }
    this.level += (Math.sqrt(power) - this.level) * Math.min(1, samples.length / this.rate / 0.02);
    this.block(samples, this.level);
  }

  close() {
    this.node.port.onmessage = null;
    this.stream.getTracks().forEach((track) => {
      track.onended = null;
      track.stop();
    });
    this.context.close();
  }
}

export class Utterance {
  // Collects samples until a pause after speech or the longest time, and then calls complete().
  constructor(rate, complete) {
    Object.assign(this, { rate, complete, blocks: [], quietest: Infinity, speech: 0, pause: 0, seconds: 0 });
  }

  add(samples, level) {
    this.blocks.push(samples);
    const seconds = samples.length / this.rate;
    this.seconds += seconds;
    if (this.seconds > 0.1) this.quietest = Math.min(this.quietest, level);
    if (level > Math.max(QUIETEST, ABOVE * this.quietest)) [this.speech, this.pause] = [this.speech + seconds, 0];
    else this.pause += seconds;
    if ((this.speech > 0.05 && this.pause > PAUSE) || this.seconds > LONGEST) this.complete();
  }

  wav() {
    const count = this.blocks.reduce((sum, block) => sum + block.length, 0);
    const view = new DataView(new ArrayBuffer(44));
    const text = (offset, letters) => [...letters].forEach((letter, i) => view.setUint8(offset + i, letter.charCodeAt(0)));
    text(0, "RIFF");
    view.setUint32(4, 36 + 2 * count, true);
    text(8, "WAVEfmt ");
    view.setUint32(16, 16, true);
    view.setUint16(20, 1, true); // PCM
    view.setUint16(22, 1, true); // channel
    view.setUint32(24, this.rate, true);
    view.setUint32(28, 2 * this.rate, true);
    view.setUint16(32, 2, true);
    view.setUint16(34, 16, true);
    text(36, "data");
    view.setUint32(40, 2 * count, true);
    return new Blob([view, ...this.blocks.map(short)], { type: "audio/wav" });
  }
}

export function short(samples) {
  // Returns samples of 16 bits; all devices that run browsers are little-endian.
  return Int16Array.from(samples, (sample) => Math.max(-32768, Math.min(32767, Math.round(32768 * sample))));
}

export function play({ samples, rate }) {
  // Returns a promise that is kept when the sound has been played.
  const context = new AudioContext();
  const buffer = context.createBuffer(1, samples.length, rate);
  buffer.copyToChannel(samples, 0);
  const source = context.createBufferSource();
  source.buffer = buffer;
  source.connect(context.destination);
  return new Promise((played) => {
    source.onended = () => {
      context.close();
      played();
    };
    source.start();
  });
}
