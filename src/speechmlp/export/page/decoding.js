// Recordings as samples at their own rate. PCM in WAV files is read here, anything else by the browser.

const text = (bytes, at, count) => String.fromCharCode(...bytes.subarray(at, at + count));

function alaw(byte) {
  const value = byte ^ 0x55;
  const exponent = (value >> 4) & 7;
  const magnitude = exponent ? (((value & 15) << 4) + 0x108) << (exponent - 1) : ((value & 15) << 4) + 8;
  return (value & 0x80 ? magnitude : -magnitude) / 32768;
}

function mulaw(byte) {
  const value = ~byte & 0xff;
  const magnitude = (((value & 15) << 3) + 0x84 << ((value >> 4) & 7)) - 0x84;
  return (value & 0x80 ? -magnitude : magnitude) / 32768;
}

const READERS = {
  // Format and bits of a sample -> how to read it.
  "1 8": (view, at) => (view.getUint8(at) - 128) / 128,
  "1 16": (view, at) => view.getInt16(at, true) / 32768,
  "1 24": (view, at) => ((view.getInt8(at + 2) << 16) | view.getUint16(at, true)) / 8388608,
  "1 32": (view, at) => view.getInt32(at, true) / 2147483648,
  "3 32": (view, at) => view.getFloat32(at, true),
  "3 64": (view, at) => view.getFloat64(at, true),
  "6 8": (view, at) => alaw(view.getUint8(at)),
  "7 8": (view, at) => mulaw(view.getUint8(at)),
};

function readWav(bytes) {
  // Returns the samples of a WAV file, also if it is cut off or its length is not known; null if it is something else.
  if (text(bytes, 0, 4) !== "RIFF" || text(bytes, 8, 4) !== "WAVE") return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let form = null;
  for (let at = 12; at + 8 <= bytes.length; ) {
    const [name, size] = [text(bytes, at, 4), view.getUint32(at + 4, true)];
    at += 8;
    if (name === "fmt " && at + 16 <= bytes.length) {
      let code = view.getUint16(at, true);
      if (code === 0xfffe && size >= 26) code = view.getUint16(at + 24, true);
      form = { code, count: view.getUint16(at + 2, true), rate: view.getUint32(at + 4, true), width: view.getUint16(at + 12, true) };
    } else if (name === "data") {
      const { code, count, rate, width } = form ?? {};
      const bits = (8 * width) / count;
      const read = READERS[`${code} ${bits}`];
      if (!read || !rate) return null;
      const whole = size === 0 ? bytes.length - at : Math.min(size, bytes.length - at); // 0: written without an end
      const length = Math.floor(whole / width);
      return { rate, channels: Array.from({ length: count }, (_, c) => Float32Array.from({ length }, (_, i) => read(view, at + i * width + (c * bits) / 8))) };
    }
    at += size + (size % 2);
  }
  return null;
}

const MPEG_RATES = { 3: [44100, 48000, 32000], 2: [22050, 24000, 16000], 0: [11025, 12000, 8000] };

function find(bytes, letters, from = 0, to = bytes.length) {
  for (let at = from; at + letters.length <= Math.min(to, bytes.length); at += 1) {
    if ([...letters].every((letter, i) => bytes[at + i] === letter.charCodeAt(0))) return at;
  }
  return -1;
}

function rateOf(bytes) {
  // Returns the sample rate in Hz that a recording names, so that the browser does not resample it; 48000 if unknown.
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (text(bytes, 0, 4) === "fLaC") return (bytes[18] << 12) | (bytes[19] << 4) | (bytes[20] >> 4);
  if (text(bytes, 0, 4) === "OggS") {
    const vorbis = find(bytes, "\x01vorbis", 0, 512);
    if (vorbis >= 0) return view.getUint32(vorbis + 12, true);
    const flac = find(bytes, "fLaC", 0, 512);
    return flac >= 0 ? rateOf(bytes.slice(flac)) : 48000; // Opus
  }
  if (text(bytes, 4, 4) === "ftyp") {
    const sound = find(bytes, "mp4a");
    return sound >= 0 ? view.getUint16(sound + 28) : 48000;
  }
  if (text(bytes, 0, 4) === "RIFF") {
    const form = find(bytes, "fmt ", 0, 4096);
    return form >= 0 ? view.getUint32(form + 12, true) : 48000;
  }
  const start = text(bytes, 0, 3) === "ID3" ? 10 + ((bytes[6] << 21) | (bytes[7] << 14) | (bytes[8] << 7) | bytes[9]) : 0;
  for (let at = start; at + 4 < Math.min(bytes.length, start + 8192); at += 1) {
    if (bytes[at] === 0xff && (bytes[at + 1] & 0xe0) === 0xe0) {
      const rate = MPEG_RATES[(bytes[at + 1] >> 3) & 3]?.[(bytes[at + 2] >> 2) & 3];
      if (rate) return rate;
    }
  }
  return 48000;
}

export async function decode(bytes) {
  // Returns { rate, channels } of a recording. Rejects if it cannot be decoded.
  const wav = bytes.length > 12 && readWav(bytes);
  if (wav) return wav;
  const read = async (rate) => await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes.slice().buffer);
  let sound;
  try {
    sound = await read(rateOf(bytes));
  } catch (error) {
    if (error.name === "EncodingError") throw error;
    sound = await read(48000); // a rate that the browser does not support
  }
  const channels = Array.from({ length: sound.numberOfChannels }, (_, c) => sound.getChannelData(c));
  return { rate: sound.sampleRate, channels };
}
